"""From a source's images to the block's shards and ledgers."""
