"""What recorded nests leave open, and what that does to an advice."""
