"""The training engine: the loop, checkpoints, the averaged weights, the record."""
