"""Raw images -> block -> batches: sources/ opens images, imaging/ makes pixels, making/ a block, reading/ batches."""
