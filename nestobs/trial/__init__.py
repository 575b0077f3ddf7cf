"""The whole thing against a lab of its own: the demo, and the proof of a policy."""
