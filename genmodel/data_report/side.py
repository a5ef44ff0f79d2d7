"""One side of the comparison: some generations of a block, as columns of the ledger and a sample of the images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genmodel.data import parquet
from genmodel.data.block import SPLITS, UNLABELLED, Block, rejects_name
from genmodel.data.making import same
from genmodel.sizes import Size

_LOOKED_AT = 2000  # images, at most, whose colours and features are compared
_BYTES = 256 << 20  # that these may take
_COLUMNS = ("name", "sha256", "width", "height", "mode", "format")
_REJECTS = ("name", "reason")


@dataclass(frozen=True)
class Side:
    """The n images of some generations, what was rejected or left out beside them, and a sample to look at.

    All of it is in memory: the block may be replaced while this is kept.
    """

    names: list[str]  # n
    classes: dict[str, int]  # images by class, in the block's order; "" for those without one
    is_val: NDArray[np.bool_]  # [n]
    width: NDArray[np.int32]  # [n], of the originals in pixels, as mode and format
    height: NDArray[np.int32]
    modes: dict[str, int]
    formats: dict[str, int]
    sources: NDArray[np.uint64]  # [n], the first 64 bits of the sha256 of the source's bytes
    pixels: NDArray[np.uint64] | None  # [n], the same of the pixels at the largest size; None in a block of format 2
    rejects: list[tuple[str, str]]  # name and reason, without those left out as duplicates
    left_out: int  # images left out as duplicates
    known: int  # files left out because the block had their bytes
    sample: NDArray[np.uint8]  # [m, H, W, C], evenly spaced in canonical order

    def __len__(self) -> int:
        return len(self.names)


def sides(block: Block, since: int, size: Size) -> tuple[Side | None, Side]:
    """The generations before `since` (counted from 0; None if there are none), and those from it on, seen at `size`.

    BlockError if the block is damaged.
    """
    has_pixels = block.facts["format"] > 2
    ledger = block.ledger([*_COLUMNS, "pixels"] if has_pixels else _COLUMNS)
    counts = [facts["images"] for facts in block.facts["generations"]]
    start, stop = sum(counts[:since]), sum(counts)
    old = _side(block, ledger, range(start), range(since), size) if since else None
    return old, _side(block, ledger, range(start, stop), range(since, len(counts)), size)


def _side(block: Block, ledger: Mapping[str, Any], rows: range, generations: range, size: Size) -> Side:
    part = {name: column[rows.start : rows.stop] for name, column in ledger.items()}
    rejects = [each for number in generations for each in _rejects(block, number)]
    refused = [(name, reason) for name, reason in rejects if not same.is_reason(reason)]
    most = max(2, _BYTES // (size.width * size.height * block.channels))
    count = min(_LOOKED_AT, most, len(rows))
    return Side(
        names=part["name"],
        classes=_by_class(block, block.labels[rows.start : rows.stop]),
        is_val=block.splits[rows.start : rows.stop] == SPLITS["val"],
        width=part["width"],
        height=part["height"],
        modes=dict(Counter(part["mode"]).most_common()),
        formats=dict(Counter(part["format"]).most_common()),
        sources=_short(part["sha256"]),
        pixels=_short(part["pixels"]) if "pixels" in part else None,
        rejects=refused,
        left_out=len(rejects) - len(refused),
        known=sum(block.facts["generations"][number].get("known", 0) for number in generations),
        sample=block.gather(size, rows.start + np.arange(count) * len(rows) // max(count, 1)),
    )


def _by_class(block: Block, labels: NDArray[np.int32]) -> dict[str, int]:
    counts = np.bincount(labels[labels >= 0], minlength=len(block.classes)).tolist()
    found = dict(zip(block.classes, counts, strict=True))
    unlabelled = int((labels == UNLABELLED).sum())
    return found | ({"": unlabelled} if unlabelled else {})


def _short(digests: Sequence[str]) -> NDArray[np.uint64]:
    return np.frombuffer(bytes.fromhex("".join(text[:16] for text in digests)), np.uint64)


def _rejects(block: Block, generation: int) -> list[tuple[str, str]]:
    name = rejects_name(generation)
    table = parquet.read(block.path / name, _REJECTS, block.facts["files"][name]["sha256"])
    return list(zip(table["name"], table["reason"], strict=True))
