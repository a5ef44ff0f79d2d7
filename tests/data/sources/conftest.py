"""What a layout makes of files of which only the names matter."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from genmodel.data.sources.meaning.accounting import Known
from genmodel.data.sources.meaning.arrange import arrange
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.members import Collector, Entry, Listing


class Arranged(Protocol):
    def __call__(
        self,
        paths: Sequence[str],
        layout: Layout = ...,
        files: Mapping[str, str] = ...,
        known: Known | None = ...,
    ) -> Listing: ...


def _arranged(
    paths: Sequence[str],
    layout: Layout = Layout(),  # noqa: B008
    files: Mapping[str, str] = {},
    known: Known | None = None,
) -> Listing:
    """The listing of images at these paths and of label files of these contents; every file is accounted for."""
    found = Collector()
    for number, path in enumerate([*paths, *files]):
        found.add(path, (number,), 10)

    def read(entry: Entry) -> bytes:
        return files[entry.path].encode()

    listing = arrange(found.found(), read, layout, known, "set")
    assert listing.found == len(paths) + len(files)
    return listing


@pytest.fixture
def arranged() -> Arranged:
    return _arranged


def by_class(listing: Listing) -> dict[str, list[str]]:
    """The names of the images that are used, by class."""
    classes: dict[str, list[str]] = {}
    for member in listing.members:
        if not member.refused:
            classes.setdefault(member.class_name, []).append(member.name)
    return classes


@pytest.fixture
def classes() -> object:
    return by_class
