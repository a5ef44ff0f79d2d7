"""Image sources, read in place."""
