"""What the ledgers tell of old and new images: classes, originals, duplicates, rejects. Nothing here reads a pixel."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genmodel.data.census import without_numbers
from genmodel.data_report.side import Side
from genmodel.sizes import Size

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_EXAMPLES = 5


def classes(old: Side | None, new: Side) -> list[dict[str, Any]]:
    """Images by class; classes that only the old images have come last. A name of "" are those without a class."""
    before = old.classes if old else {}
    names = [*new.classes, *(name for name in before if name not in new.classes)]
    return [{"name": name, "old": before.get(name, 0), "new": new.classes.get(name, 0)} for name in names]


def originals(side: Side, largest: Size) -> dict[str, Any]:
    """Of the images as they came: counts, quantiles of their sides in pixels, modes, formats, and how many are smaller
    than the block's largest size, to which they were enlarged."""
    small = int(((side.width < largest.width) | (side.height < largest.height)).sum())
    return {
        "images": len(side),
        "val": int(side.is_val.sum()),
        "width": _quantiles(side.width),
        "height": _quantiles(side.height),
        "smaller": small,
        "modes": side.modes,
        "formats": side.formats,
    }


def _quantiles(values: NDArray[np.int32]) -> list[int]:
    return [round(value) for value in np.quantile(values, _QUANTILES).tolist()] if len(values) else []


def duplicates(old: Side | None, new: Side) -> dict[str, Any]:
    """New images that are others again.

    `within`: another new one; `across`: an old one; `of_val`: an old one that is held out; `leaked`: in the train split
    although an equal image, old or new, is held out. Equal are pixels at the largest size or, where the block has no
    digests of these, the source's bytes. `left_out` were not taken for it, nor were `known`, whose bytes the block had.
    """
    by_pixels = new.pixels is not None and (old is None or old.pixels is not None)
    mine = _keys(new, by_pixels)
    theirs = _keys(old, by_pixels) if old else mine[:0]
    held_out = np.concatenate([mine[new.is_val], theirs[old.is_val] if old else theirs])
    across = np.isin(mine, theirs)
    again = np.ones(len(mine), bool)
    again[np.unique(mine, return_index=True)[1]] = False
    within = again & ~across
    every = int(across.sum() + within.sum())
    total = len(mine) + new.left_out
    return {
        "by": "pixels" if by_pixels else "bytes",
        "within": int(within.sum()),
        "across": int(across.sum()),
        "of_val": int(np.isin(mine, theirs[old.is_val]).sum()) if old else 0,
        "leaked": int((np.isin(mine, held_out) & ~new.is_val).sum()),
        "left_out": new.left_out,
        "known": new.known,
        "share": (every + new.left_out) / total if total else 0.0,
        "examples": _pairs(old, new, mine, theirs, np.flatnonzero(across | within)[:_EXAMPLES]),
    }


def _keys(side: Side, by_pixels: bool) -> NDArray[np.uint64]:
    return side.pixels if by_pixels and side.pixels is not None else side.sources


def _pairs(
    old: Side | None, new: Side, mine: NDArray[np.uint64], theirs: NDArray[np.uint64], places: NDArray[np.int64]
) -> list[tuple[str, str]]:
    """The names of some duplicates, each with that of the first image that it equals."""
    found = []
    for place in places:
        known = np.flatnonzero(theirs == mine[place])
        other = old.names[known[0]] if old and len(known) else new.names[np.flatnonzero(mine == mine[place])[0]]
        found.append((new.names[place], other))
    return found


def rejects(new: Side) -> dict[str, Any]:
    """How many of the new files were not usable, and why, the most frequent reason first with an example."""
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for name, reason in new.rejects:
        kind = without_numbers(reason)
        kinds[kind] += 1
        examples.setdefault(kind, name)
    total = len(new) + len(new.rejects) + new.left_out
    return {
        "files": len(new.rejects),
        "share": len(new.rejects) / total if total else 0.0,
        "reasons": [{"reason": kind, "files": n, "example": examples[kind]} for kind, n in kinds.most_common()],
    }
