"""The end of a preparation: the finished shards' parts become a generation's ledgers, and then block.json."""

import os
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from genmodel.data import parquet
from genmodel.data.block import FORMAT, SPLITS, UNLABELLED, Block, ledger_name, rejects_name, write_index
from genmodel.data.imaging.decode import versions
from genmodel.data.making import same
from genmodel.data.making.shards import Job, is_accepted, read_part
from genmodel.data.sources.members import Listing, Member, in_label_order
from genmodel.data.texts import Texts
from genmodel.files import durable
from genmodel.output.printable import printable

_LEDGER = (
    *("name", "class", "label", "split", "sha256", "width", "height", "mode", "format", "repairs", "pixels"),
    *("shard", "row"),
)
_NUMBERS = {"label", "split", "width", "height", "shard", "row"}
_NOTHING: Mapping[str, Any] = {"classes": [], "files": {}, "generations": [], "images": 0, "rejected": 0}
_REJECTS = "name", "class", "sha256", "reason"

Table = dict[str, Any]  # columns by name: numbers in memory, strings on disk


class _Tables(NamedTuple):
    """What is known about the members of a generation."""

    ledger: Table  # labels are numbers of `classes`
    rejects: Table
    files: dict[str, dict[str, Any]]  # the shards' facts in block.json
    classes: list[str]  # of the images, in the order of their appearance
    kinds: Counter[tuple[str, str]]  # how many images there are of each format and repairs
    left_out: int  # rejects that are duplicates


def write_generation(
    job: Job, members: Sequence[Member], rows: int, val_fraction: float, listing: Listing, base: Block | None = None
) -> None:
    """Write the ledgers of `members`, in finished shards of `rows` each, and a block.json for `base` and these.

    `members` are the new ones of the `listing`. New classes get the labels after those of `base`.
    """
    folder = job.place / "block"
    for path in folder.glob(".*.partial"):  # of a run killed while it wrote a ledger
        path.unlink()
    old: Mapping[str, Any] = base.facts if base else _NOTHING
    groups = same.groups(job, members, rows, base)
    tables = _tables(job, members, rows, val_fraction, groups, base)
    ledger, rejects, files = tables.ledger, tables.rejects, tables.files
    classes = old["classes"] + in_label_order(set(tables.classes).difference(old["classes"], [""]))
    labels = {"": UNLABELLED} | {name: label for label, name in enumerate(classes)}
    ledger["label"] = np.array([labels[name] for name in tables.classes], np.int32)[ledger["label"]]
    number = len(old["generations"])
    for name, table in ((ledger_name(number), ledger), (rejects_name(number), rejects)):
        parquet.write(folder / name, table)
        count, size = len(table["name"]), (folder / name).stat().st_size
        files[name] = {"sha256": durable.digest_file(folder / name), "rows": count, "bytes": size}
    images, rejected = len(ledger["name"]), len(rejects["name"])
    source = os.fsencode(job.source.name).decode("utf-8", "surrogateescape")  # whatever the locale
    generation: dict[str, Any] = {"source": printable(source), "versions": versions({form for form, _ in tables.kinds})}
    generation |= {"found": listing.found, "known": len(listing.members) - len(members), "ignored": {}}
    generation["ignored"] = {rule: each._asdict() for rule, each in sorted(listing.ignored.items())}
    generation |= {"read": dict(listing.read), "val": listing.val, "notes": list(listing.notes)}
    generation |= _counts(tables, groups)
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
    val_fraction: float,
    groups: Mapping[str, same.Group],
    base: Block | None,
) -> _Tables:
    """The columns of the ledger and of the rejects, from the parts of the finished shards."""
    columns = [name for name in _LEDGER if name != "pixels" or base is None or base.facts["format"] > 2]
    ledger: Table = {name: array("i") if name in _NUMBERS else Texts(job.place) for name in columns}
    rejects: Table = {name: Texts(job.place) for name in _REJECTS}
    files: dict[str, dict[str, Any]] = {}
    classes: dict[str, int] = {}
    kinds, attributes, left_out = Counter[tuple[str, str]](), Texts(job.place), 0
    for shard in range(-(-len(members) // rows)):
        part = read_part(job.place, shard)
        assert part is not None, f"shard {shard} is not finished"
        files |= part["files"]
        row = 0
        for member, outcome in zip(members[shard * rows : (shard + 1) * rows], part["outcomes"], strict=True):
            if not is_accepted(outcome):
                _append(rejects, member.name, member.class_name, *outcome)
                left_out += same.is_left_out(outcome)
                continue
            digest, width, height, mode, form, repairs, pixels = outcome
            split = SPLITS[_split(member, groups.get(pixels), members, digest, val_fraction)]
            label = classes.setdefault(member.class_name, len(classes))
            facts = digest, width, height, mode, form, repairs, *([pixels] if "pixels" in ledger else [])
            _append(ledger, member.name, member.class_name, label, split, *facts, job.first_shard + shard, row)
            attributes.append(member.attributes)
            kinds[form, repairs] += 1
            row += 1
    ledger |= {name: np.array(column, np.int32) for name, column in ledger.items() if name in _NUMBERS}
    if attributes.size > 4 * len(attributes):
        ledger["attributes"] = attributes
    return _Tables(ledger, rejects, files, list(classes), kinds, left_out)


def _split(
    member: Member, group: same.Group | None, members: Sequence[Member], digest: str, val_fraction: float
) -> str:
    """The split of an image: that of equal images in the block, the one that the source gives, or by its digest.

    Equal images are never in both splits: those that the source has in both are held out.
    """
    if group and group.split is not None:
        return "val" if group.split == SPLITS["val"] else "train"
    given = {members[place].split for place in group.places} if group else {member.split}
    if given != {""}:
        return "val" if "val" in given else "train"
    lowest = group.lowest if group else digest
    return "val" if int(lowest[:8], 16) < val_fraction * 2**32 else "train"


def _counts(tables: _Tables, groups: Mapping[str, same.Group]) -> dict[str, int]:
    """The counts in a line about the block, besides images and rejects."""
    noted = Counter[str]()
    for (_, repairs), count in tables.kinds.items():
        for note in repairs.split(","):
            noted[note] += count
    return {
        "by-exif": noted["exif-upright"] + noted["exif-rotated"],
        "transparent": noted["composed"] + noted["alpha"],
        "same": same.more_than_once(groups) + tables.left_out,
    }


def _append(table: Mapping[str, Any], *values: object) -> None:
    for column, value in zip(table.values(), values, strict=True):
        column.append(value)
