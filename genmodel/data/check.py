"""Checks that the shards a training reads are those of block.json, and stops it if not."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from genmodel.data.block import HEADER, Block, shard_header, shard_name
from genmodel.errors import BlockError
from genmodel.files import durable
from genmodel.sizes import Size


class ShardCheck:
    """The given shards of a block at one size, against block.json.

    Creating one compares every file's length and header, which takes a millisecond for ten shards, so that a missing,
    truncated or swapped file is reported at once; BlockError names it. The digests take as long as reading the files:
    `now` waits for them, `beside` has a thread read the shards one after the other while the training goes on.
    """

    def __init__(self, block: Block, size: Size, shards: Sequence[int]) -> None:
        self._block, self._size, self._shards = block, size, shards
        self._thread: threading.Thread | None = None
        self._damage: Exception | None = None
        block.shards(size)  # compares the lengths
        for shard in shards:
            name = shard_name(size, shard)
            with (block.path / name).open("rb") as handle:
                if handle.read(HEADER) != shard_header(block.facts["files"][name]["rows"], size, block.channels):
                    raise BlockError(
                        f"{block.path / name} is damaged, its header does not match block.json: pull it again"
                    )

    def now(self) -> None:
        """Compare all digests, on all cores; BlockError at the first shard that is damaged."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets other threads run
            list(pool.map(self._check, self._shards))

    def beside(self) -> None:
        """Start comparing the digests in the background, or, once started, raise what has been found so far."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        if self._damage is not None:
            raise self._damage

    def wait(self) -> None:
        """Wait for what `beside` started, if anything; BlockError if a shard is damaged."""
        if self._thread is not None:
            self._thread.join()
            self.beside()

    def _run(self) -> None:
        try:
            for shard in self._shards:
                self._check(shard)
        except (BlockError, OSError) as error:
            self._damage = error

    def _check(self, shard: int) -> None:
        name = shard_name(self._size, shard)
        if durable.digest_file(self._block.path / name) != self._block.facts["files"][name]["sha256"]:
            raise BlockError(
                f"{self._block.path / name} is damaged, its sha256 does not match block.json: pull or prepare the "
                "block again"
            )
