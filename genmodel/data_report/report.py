"""The report as JSON: what the new images of a block are against those that it had before."""

from typing import Any

import torch

from genmodel.data.block import Block
from genmodel.data_report import counts
from genmodel.data_report.drift import colour_drift, feature_drift
from genmodel.data_report.features import Eye
from genmodel.data_report.side import Side

_FEWEST = 2  # images on each side that can be compared


def compare(block: Block, old: Side | None, new: Side, eye: Eye, remade: bool = False) -> dict[str, Any]:
    """The report on `new`, images of the block, against `old`, those before them, if there are any.

    `remade`: the old images are those of the block that this one replaces. Equal arguments give equal reports.
    """
    largest = max(block.sizes)
    rows = block.facts["generations"]
    told: dict[str, Any] = {
        "block": block.digest,
        "source": rows[0]["source"] if remade or old is None else rows[-1]["source"],
        "remade": remade,
        "largest": str(largest),
        "looked_at": {"old": len(old.sample) if old else 0, "new": len(new.sample), "size": str(eye.size)},
        "classes": counts.classes(old, new),
        "old": counts.originals(old, largest) if old else None,
        "new": counts.originals(new, largest),
        "duplicates": counts.duplicates(None if remade else old, new),
        "rejects": counts.rejects(new),
        "colours": [],
        "features": None,
    }
    if old and min(len(old.sample), len(new.sample)) >= _FEWEST and old.sample.shape[1:] == new.sample.shape[1:]:
        told["colours"] = colour_drift(torch.from_numpy(old.sample), torch.from_numpy(new.sample))
        found = feature_drift(eye.features(old.sample), eye.features(new.sample))
        told["features"] = found and {"by": eye.in_words, **found}
    return told
