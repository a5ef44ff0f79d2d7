"""Batches of a block, in an order that the seed decides."""
