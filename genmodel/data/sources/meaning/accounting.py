"""An image between a source's entry and a member, and the account of those that are left out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from genmodel.data.sources.members import Entry, Ignored
from genmodel.output.printable import printable

Parts = tuple[str, ...]  # the folders of a path, and its file


class Image(NamedTuple):
    """What is known about an image so far."""

    entry: Entry
    path: Parts  # in NFC
    parts: Parts  # the same without folders that are splits
    label: str | None = None  # its class; empty if it has none; None if not known yet
    missing: str = ""  # why it has none although its neighbours do
    split: str = ""  # the folder's name
    split_at: int = -1  # the index of that folder in `path`; -1 if there is none
    class_at: int = -1  # the same for its class's folder
    attributes: str = ""  # JSON


class Known(NamedTuple):
    """What a block tells a source that is to be added to it."""

    classes: Collection[str]
    read: Mapping[str, Any]  # how its classes were determined, the `read` of its first Listing
    val_given: bool  # whether its val split came with a source


def shortened(path: str) -> str:
    """A path to show in a line; only both ends of a long one."""
    return path if len(path) <= 100 else f"{path[:50]}...{path[-40:]}"


@dataclass
class Account:
    """What is reported about a source while its files are arranged."""

    where: str  # the source
    ignored: dict[str, Ignored]
    notes: list[str] = field(default_factory=list)

    def ignore(self, paths: Sequence[str], rule: str) -> None:
        """Leave files out by a rule, worded to follow "ignored: 3"."""
        if paths:
            before = self.ignored.get(rule)
            self.ignored[rule] = Ignored(len(paths) + (before.files if before else 0), printable(min(paths)))
