"""The first wing of the block: what images come from, read in place."""
