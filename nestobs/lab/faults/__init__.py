"""What a nest of a lab suffers: faults as data, drawn for each nest, acted out at their time, told in the truth."""
