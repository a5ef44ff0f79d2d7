"""What became of a source's files, in words: before a preparation (`overview`), and after it (`account`)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genmodel.data import parquet
from genmodel.data.block import Block, rejects_name
from genmodel.data.census import without_numbers
from genmodel.data.sources.archives.gzipped import GzipFile, open_bytes
from genmodel.data.sources.meaning.accounting import Known
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.members import DEVKIT, Ignored, Listing, Source, in_label_order
from genmodel.data.sources.opening import open_source
from genmodel.data.telling import listed
from genmodel.errors import SourceError
from genmodel.output.counting import counted
from genmodel.output.progress import say

_EXAMPLES = 10
_RULES = 5  # and reasons named in a line


def scan(origin: Source, source: str, layout: Layout, known: Known | None = None) -> Listing:
    """What a source holds and means; SourceError if it has no images."""
    listing = listing_of(origin, layout, known)
    if not listing.members:
        others = f": {_ranked(listing.ignored)}" if listing.ignored else ""
        fix = "give a folder or an archive of JPEG, PNG, ... files"
        raise SourceError(f"{source} holds no images ({counted(listing.found, 'other file')}{others}): {fix}")
    return listing


def known_of(block: Block) -> Known:
    """What a block tells a source that is to be added to it."""
    first = block.facts["generations"][0]
    flat: Mapping[str, Any] = {"classes": "none"} if block.classes == ["images"] else {}
    return Known(block.classes, first.get("read", flat), bool(first.get("val")))


def overview(source: str, layout: Layout, devkit: Path | None = None, block: Block | None = None) -> list[str]:
    """What preparing `source`, or updating `block` with it, would do, judging by names; no pixel is read.

    Errors are the same as in a preparation.
    """
    origin = open_source(source, devkit)
    if any(isinstance(open_bytes(path), GzipFile) for path in origin.files if path.name != DEVKIT):
        say(f"{source} is compressed without an index: all of it is unpacked to list it")
    listing = scan(origin, source, layout, known_of(block) if block else None)
    used = [member for member in listing.members if not member.refused]
    classes = Counter(member.class_name for member in used)
    names = in_label_order(name for name in classes if name)
    lines = [f"{source}: {counted(len(used), 'image')} in {counted(len(names), 'class')}; nothing was written"]
    lines += listed({name: classes[name] for name in names}, classes[""])
    if listing.val:
        held = sum(member.split == "val" for member in used)
        lines.append(f"split {listing.val} is held out: {held:,} of these images; the val fraction is not used")
    if block and (new := new_classes(listing, block)):
        lines.append(f"new classes: {', '.join(new)} (--allow-new-classes adds them)")
    lines.append("for example:")
    step = max(1, len(used) // _EXAMPLES)
    lines += [f"  {member.class_name or '(no label)'}: {member.name}" for member in used[::step][:_EXAMPLES]]
    return [*lines, *listing.notes, _summary(listing)]


def _summary(listing: Listing) -> str:
    refused = _grouped((member.refused, member.name) for member in listing.members if member.refused)
    used = sum(not member.refused for member in listing.members)
    return _totals(listing.found, used, 0, refused, listing.ignored)


def new_classes(listing: Listing, block: Block) -> list[str]:
    """The classes that a source has and a block does not."""
    return in_label_order({member.class_name for member in listing.members if member.class_name} - set(block.classes))


def account(block: Block) -> list[str]:
    """What became of the files of a block's last generation, in lines; the last one has the totals, which add up."""
    number = len(block.facts["generations"]) - 1
    facts = block.facts["generations"][number]
    if "found" not in facts:  # a block of format 2
        used, left_out = counted(facts["images"], "image"), counted(facts["ignored"], "file")
        return [f"{used} used, {facts['rejected']:,} rejected, {left_out} ignored"]
    lines = list(facts["notes"])
    if facts["val"]:
        lines.append(f"split {facts['val']} is the val split; the val fraction is not used")
    rejects = parquet.read(block.path / rejects_name(number), ["name", "reason"])
    reasons = _grouped(zip(rejects["reason"], rejects["name"], strict=True))
    ignored = {rule: Ignored(**each) for rule, each in facts["ignored"].items()}
    return [*lines, _totals(facts["found"], facts["images"], facts["known"], reasons, ignored)]


def _totals(found: int, used: int, known: int, rejected: Mapping[str, Ignored], ignored: Mapping[str, Ignored]) -> str:
    parts = [f"{used:,} used"]
    parts += [f"{known:,} already in the block"] if known else []
    for what, groups in (("rejected", rejected), ("ignored", ignored)):
        count = sum(each.files for each in groups.values())
        parts.append(f"{count:,} {what}" + (f" ({_ranked(groups)})" if groups else ""))
    return f"{counted(found, 'file')}: " + ", ".join(parts)


def _grouped(reasons: Iterable[tuple[str, str]]) -> dict[str, Ignored]:
    """The files of each reason, regardless of numbers in it, with the first one's name; from pairs (reason, name)."""
    groups: dict[str, Ignored] = {}
    for reason, name in reasons:
        kind = without_numbers(reason)
        groups[kind] = Ignored(groups[kind].files + 1, groups[kind].example) if kind in groups else Ignored(1, name)
    return groups


def _ranked(groups: Mapping[str, Ignored]) -> str:
    """The largest groups with an example each."""
    ranked = sorted(groups.items(), key=lambda group: (-group[1].files, group[0]))
    parts = [f"{each.files:,} {what}, such as {each.example}" for what, each in ranked[:_RULES]]
    rest = ranked[_RULES:]
    return "; ".join(
        parts + [f"{sum(each.files for _, each in rest):,} for {counted(len(rest), 'more reason')}"] * bool(rest)
    )
