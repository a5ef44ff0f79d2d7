"""The end of a preparation: the finished shards' parts become a generation's ledgers, and these block.json."""

import sys
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from genmodel.data import parquet
from genmodel.data.block import FORMAT, SPLITS, Block, ledger_name, rejects_name, write_index
from genmodel.data.imaging.decode import versions
from genmodel.data.making import same
from genmodel.data.making.shards import Job, is_accepted, read_part
from genmodel.data.sources.members import Member, in_label_order
from genmodel.files import durable
from genmodel.output.printable import printable

_LEDGER = (
    *("name", "class", "label", "split", "sha256", "width", "height", "mode", "format", "repairs", "pixels"),
    *("shard", "row"),
)
_NUMBERS = {"label", "split", "width", "height", "shard", "row"}
_NOTHING: Mapping[str, Any] = {"classes": [], "files": {}, "generations": [], "images": 0, "rejected": 0}
_REJECTS = "name", "class", "sha256", "reason"

Table = dict[str, Any]  # columns by name


def write_generation(
    job: Job, members: Sequence[Member], rows: int, val_fraction: float, ignored: int, base: Block | None = None
) -> None:
    """Write the ledgers of `members`, in finished shards of `rows` each, and the block.json of `base` and these.

    New classes get the labels behind those of `base`.
    """
    folder = job.place / "block"
    for path in folder.glob(".*.partial"):  # of a run killed while it wrote a ledger
        path.unlink()
    old: Mapping[str, Any] = base.facts if base else _NOTHING
    new_classes = {member.class_name for member in members if not member.refused}.difference(old["classes"])
    classes = old["classes"] + in_label_order(new_classes)
    groups = same.groups(job, members, rows, base)
    ledger, rejects, files = _tables(job, members, rows, classes, val_fraction, groups, base)
    number = len(old["generations"])
    for name, table in ((ledger_name(number), ledger), (rejects_name(number), rejects)):
        parquet.write(folder / name, table)
        count, size = len(table["name"]), (folder / name).stat().st_size
        files[name] = {"sha256": durable.digest_file(folder / name), "rows": count, "bytes": size}
    images, rejected = len(ledger["name"]), len(rejects["name"])
    decoders = versions(set(ledger["format"]))
    generation = {"source": printable(job.source.name), "versions": decoders, "ignored": ignored}
    generation |= _counts(ledger, rejects, groups)
    settings = {
        "format": FORMAT,
        "sizes": [size.plain() for size in job.sizes],
        "channels": job.channels,
        "recipe": asdict(job.recipe),
        "val_fraction": val_fraction,
    }
    facts = (base.facts if base else settings) | {
        "classes": classes,
        "images": old["images"] + images,
        "rejected": old["rejected"] + rejected,
        "generations": [*old["generations"], generation | {"images": images, "rejected": rejected}],
        "files": old["files"] | files,
    }
    write_index(folder, facts)


def _tables(
    job: Job,
    members: Sequence[Member],
    rows: int,
    classes: Sequence[str],
    val_fraction: float,
    groups: Mapping[str, same.Group],
    base: Block | None,
) -> tuple[Table, Table, dict[str, dict[str, Any]]]:
    """The columns of the ledger and of the rejects, and the facts of the shards' files."""
    labels = {name: label for label, name in enumerate(classes)}
    columns = [name for name in _LEDGER if name != "pixels" or base is None or base.facts["format"] > 2]
    ledger: Table = {name: array("i") if name in _NUMBERS else [] for name in columns}
    rejects: Table = {name: [] for name in _REJECTS}
    files: dict[str, dict[str, Any]] = {}
    for shard in range(-(-len(members) // rows)):
        part = read_part(job.place, shard)
        assert part is not None, f"shard {shard} is not finished"
        files |= part["files"]
        row = 0
        for member, outcome in zip(members[shard * rows : (shard + 1) * rows], part["outcomes"], strict=True):
            if not is_accepted(outcome):
                _append(rejects, member.name, member.class_name, *outcome)
                continue
            digest, width, height, *kinds, pixels = outcome
            group = groups.get(pixels)
            split = group.split if group else None
            if split is None:  # the same for equal images
                lowest = group.lowest if group else digest
                split = SPLITS["val" if int(lowest[:8], 16) < val_fraction * 2**32 else "train"]
            kinds = map(sys.intern, kinds)
            origin = member.name, member.class_name, labels[member.class_name], split, digest, width, height, *kinds
            _append(ledger, *origin, *([pixels] if "pixels" in ledger else []), job.first_shard + shard, row)
            row += 1
    arrays = {name: np.array(column, np.int32) for name, column in ledger.items() if name in _NUMBERS}
    return ledger | arrays, rejects, files


def _counts(ledger: Table, rejects: Table, groups: Mapping[str, same.Group]) -> dict[str, int]:
    """What a line about the block says, beside its images and rejects."""
    noted = Counter(note for repairs in ledger["repairs"] for note in repairs.split(","))
    return {
        "by-exif": noted["exif-upright"] + noted["exif-rotated"],
        "transparent": noted["composed"] + noted["alpha"],
        "same": same.more_than_once(groups) + sum(map(same.is_reason, rejects["reason"])),
    }


def _append(table: Mapping[str, Any], *values: object) -> None:
    for column, value in zip(table.values(), values, strict=True):
        column.append(value)
