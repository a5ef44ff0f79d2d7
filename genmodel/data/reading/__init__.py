"""The way out of the block: batches in an order that the seed decides."""
