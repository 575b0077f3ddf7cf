"""The event loop of who observes: how much is under way on it at a time, and what holds it up the least."""
