"""Ways out: files for other programs and for people."""
