"""From intervals to laws: delays, shares and comparisons, each with its uncertainty. Pure."""
