"""An image on its way from a source's entry to a member, and the account of those that are left out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from genmodel.data.sources.members import Entry, Ignored
from genmodel.output.printable import printable

Parts = tuple[str, ...]  # the folders of a path, and its file


class Image(NamedTuple):
    """What is known of an image so far."""

    entry: Entry
    path: Parts  # in NFC
    parts: Parts  # the same without folders that are splits
    label: str | None = None  # its class; nothing if it has none; None if it is not known yet
    missing: str = ""  # why it has none, where its neighbours have
    split: str = ""  # the folder's name
    split_at: int = -1  # the place of that folder in `path`; -1 if none is
    class_at: int = -1  # of that of its class
    attributes: str = ""  # JSON


class Known(NamedTuple):
    """What a block says to which a source is to be added."""

    classes: Collection[str]
    read: Mapping[str, Any]  # how its classes were told, the `read` of its first Listing
    val_given: bool  # whether its val split came with a source


def shortened(path: str) -> str:
    """A path for a line: both ends of one that is long."""
    return path if len(path) <= 100 else f"{path[:50]}...{path[-40:]}"


@dataclass
class Account:
    """What is told of a source while its files are arranged."""

    where: str  # the source
    ignored: dict[str, Ignored]
    notes: list[str] = field(default_factory=list)

    def ignore(self, paths: Sequence[str], rule: str) -> None:
        """Leave files out by a rule, in words that go on from "ignored: 3"."""
        if paths:
            before = self.ignored.get(rule)
            self.ignored[rule] = Ignored(len(paths) + (before.files if before else 0), printable(min(paths)))
