"""Duplicate images in a block: their bytes may differ, but the pixels made from them are equal.

All duplicates are in one split, and all but the first can be left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from genmodel.data.block import Block
from genmodel.data.making.shards import Job, Outcome, is_accepted, read_part, thin
from genmodel.data.sources.members import Member

_REASON = "the same image as "


class Group(NamedTuple):
    """Equal images, some of which may be in the block already."""

    places: list[int]  # of the new ones, in canonical order
    lowest: str  # of their sha256
    first: tuple[str, str]  # the class and name of the one that is kept
    split: int | None  # of those in the block


def is_reason(text: str) -> bool:
    """Whether a reject was usable, and is left out as a duplicate."""
    return text.startswith(_REASON)


def is_left_out(outcome: Outcome) -> bool:
    """Whether a member was left out as a duplicate."""
    return not is_accepted(outcome) and is_reason(str(outcome[1]))


def more_than_once(groups: Mapping[str, Group]) -> int:
    """How many new images are the same as another: all of a group but one, which may be in the block."""
    return sum(len(group.places) - (group.split is None) for group in groups.values())


def outcomes(job: Job, count: int, rows: int) -> Iterator[Outcome]:
    """What became of each of `count` members, all of whose shards are finished."""
    for shard in range(-(-count // rows)):
        part = read_part(job.place, shard)
        assert part is not None, f"shard {shard} is not finished"
        yield from map(tuple, part["outcomes"])


def groups(job: Job, members: Sequence[Member], rows: int, base: Block | None) -> dict[str, Group]:
    """The images that occur more than once, by what was made of them; at least one of a group is new."""
    there = base.ledger(["pixels", "split", "class", "name"]) if base and base.facts["format"] > 2 else {"pixels": []}
    digests = bytearray(bytes.fromhex("".join(text[:16] for text in there["pixels"])))
    for outcome in outcomes(job, len(members), rows):
        digests += bytes.fromhex(str(outcome[-1])[:16]) if is_accepted(outcome) else b""
    values, counts = np.unique(np.frombuffer(digests, np.uint64), return_counts=True)  # 8 bytes per image
    several = {value.tobytes().hex() for value in values[counts > 1]}
    found: dict[str, Group] = {}
    for row, pixels in enumerate(there["pixels"]):
        if pixels[:16] in several:
            first = there["class"][row], there["name"][row]
            found.setdefault(pixels, Group([], "", first, int(there["split"][row])))
    for place, outcome in enumerate(outcomes(job, len(members), rows)):
        if is_accepted(outcome) and (pixels := str(outcome[-1]))[:16] in several:
            member, digest = members[place], str(outcome[0])
            group = found.setdefault(pixels, Group([], digest, (member.class_name, member.name), None))
            group.places.append(place)
            found[pixels] = group._replace(lowest=min(group.lowest, digest))
    return {pixels: group for pixels, group in found.items() if len(group.places) > (group.split is None)}


def leave_out(job: Job, members: Sequence[Member], rows: int, base: Block | None) -> None:
    """Take all but the first of each group out of the finished shards; after a kill it does the rest."""
    dropped: dict[int, dict[int, Outcome]] = {}
    digests = {}
    found = groups(job, members, rows, base).values()
    wanted = {place for group in found for place in group.places}
    for place, outcome in enumerate(outcomes(job, len(members), rows)):
        if place in wanted:
            digests[place] = outcome[0]
    for group in found:
        class_name, name = group.first
        for place in group.places[group.split is None :]:
            other = "" if members[place].class_name == class_name else ", under another class"
            shard, row = divmod(place, rows)
            dropped.setdefault(shard, {})[row] = digests[place], f"{_REASON}{name}{other}"
    for shard in sorted(dropped):
        thin(job, shard, dropped[shard])
