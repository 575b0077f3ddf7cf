"""The command line: words in, one call, an exit code out."""
