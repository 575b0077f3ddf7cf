"""What observes: it drives the join, polls on a plan, makes canaries, watches, checks, and cleans up after itself."""
