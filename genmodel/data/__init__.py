"""Raw images -> block -> batches: sources/ are opened, imaging/ makes pixels, making/ a block, reading/ batches."""
