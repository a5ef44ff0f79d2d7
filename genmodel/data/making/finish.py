"""The end of a preparation: the finished shards' parts become a generation's ledgers, and these block.json."""

import os
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genmodel.data import parquet
from genmodel.data.block import FORMAT, SPLITS, UNLABELLED, Block, ledger_name, rejects_name, write_index
from genmodel.data.making.resize import RECIPE, versions
from genmodel.data.making.shards import Job, is_accepted, read_part
from genmodel.data.sources.members import Listing, Member, in_label_order
from genmodel.files import durable
from genmodel.output.printable import printable

_LEDGER = "name", "class", "label", "split", "sha256", "width", "height", "mode", "format", "repairs", "shard", "row"
_NUMBERS = {"label", "split", "width", "height", "shard", "row"}
_NOTHING: Mapping[str, Any] = {"classes": [], "files": {}, "generations": [], "images": 0, "rejected": 0}
_REJECTS = "name", "class", "sha256", "reason"

Table = dict[str, Any]  # columns by name


def write_generation(
    job: Job, members: Sequence[Member], rows: int, val_fraction: float, listing: Listing, base: Block | None = None
) -> None:
    """Write the ledgers of `members`, in finished shards of `rows` each, and the block.json of `base` and these.

    `members` are those of the `listing` that are new. New classes get the labels behind those of `base`.
    """
    folder = job.place / "block"
    for path in folder.glob(".*.partial"):  # of a run killed while it wrote a ledger
        path.unlink()
    old: Mapping[str, Any] = base.facts if base else _NOTHING
    ledger, rejects, files = _tables(job, members, rows, val_fraction)
    classes = old["classes"] + in_label_order(set(ledger["class"]).difference(old["classes"], [""]))
    labels = {"": UNLABELLED} | {name: label for label, name in enumerate(classes)}
    ledger["label"] = np.array([labels[name] for name in ledger["class"]], np.int32)
    number = len(old["generations"])
    for name, table in ((ledger_name(number), ledger), (rejects_name(number), rejects)):
        parquet.write(folder / name, table)
        count, size = len(table["name"]), (folder / name).stat().st_size
        files[name] = {"sha256": durable.digest_file(folder / name), "rows": count, "bytes": size}
    images, rejected = len(ledger["name"]), len(rejects["name"])
    source = os.fsencode(job.source.name).decode("utf-8", "surrogateescape")  # whatever the locale took it for
    generation: dict[str, Any] = {"source": printable(source), "versions": versions()}
    generation |= {"found": listing.found, "known": len(listing.members) - len(members), "ignored": {}}
    generation["ignored"] = {rule: each._asdict() for rule, each in sorted(listing.ignored.items())}
    generation |= {"read": dict(listing.read), "val": listing.val, "notes": list(listing.notes)}
    facts = {
        "format": FORMAT,
        "sizes": list(job.sizes),
        "resize": RECIPE,
        "val_fraction": val_fraction,
        "classes": classes,
        "images": old["images"] + images,
        "rejected": old["rejected"] + rejected,
        "generations": [*old["generations"], generation | {"images": images, "rejected": rejected}],
        "files": old["files"] | files,
    }
    write_index(folder, facts)


def _tables(
    job: Job, members: Sequence[Member], rows: int, val_fraction: float
) -> tuple[Table, Table, dict[str, dict[str, Any]]]:
    """The columns of the ledger, labels left open, and of the rejects, and the facts of the shards' files."""
    ledger: Table = {name: array("i") if name in _NUMBERS else [] for name in _LEDGER}
    rejects: Table = {name: [] for name in _REJECTS}
    files: dict[str, dict[str, Any]] = {}
    attributes: list[str] = []
    for shard in range(-(-len(members) // rows)):
        part = read_part(job.place, shard)
        assert part is not None, f"shard {shard} is not finished"
        files |= part["files"]
        row = 0
        for member, outcome in zip(members[shard * rows : (shard + 1) * rows], part["outcomes"], strict=True):
            if not is_accepted(outcome):
                _append(rejects, member.name, member.class_name, *outcome)
                continue
            digest, width, height, *kinds = outcome
            split = member.split or ("val" if int(digest[:8], 16) < val_fraction * 2**32 else "train")
            kinds = map(sys.intern, kinds)
            origin = member.name, member.class_name, UNLABELLED, SPLITS[split], digest, width, height
            _append(ledger, *origin, *kinds, job.first_shard + shard, row)
            attributes.append(member.attributes)
            row += 1
    ledger |= {name: np.array(column, np.int32) for name, column in ledger.items() if name in _NUMBERS}
    return ledger | ({"attributes": attributes} if any(attributes) else {}), rejects, files


def _append(table: Mapping[str, Any], *values: object) -> None:
    for column, value in zip(table.values(), values, strict=True):
        column.append(value)
