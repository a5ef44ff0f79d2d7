"""The second wing: from a source's images to the block's shards and ledgers."""
