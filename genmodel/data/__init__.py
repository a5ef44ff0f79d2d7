"""Raw images -> block -> batches: sources, members, archives, resize, prepare, block, loader."""
