import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genmodel.data.sources.folder import Folder
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.members import Listing
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

Pack = Callable[[str, dict[str, bytes]], str]


def reasons(listing: Listing) -> dict[str, str]:
    return {member.name: member.refused for member in listing.members if member.refused}


def test_links_that_leave_and_pipes_are_refused(packed: Pack, tmp_path: Path) -> None:
    folder = Path(packed("folder", {"a/1.jpg": b"1"}))
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "a/2.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "a/4.jpg").symlink_to("nowhere.jpg")
    (folder / "a/.git").symlink_to(tmp_path)
    os.mkfifo(folder / "a/3.jpg")
    listing = listing_of(open_source(str(folder)))
    assert reasons(listing) == {
        "a/2.jpg": "a link out of the source",
        "a/3.jpg": "not a plain file",
        "a/4.jpg": "a broken link",
        "a/.git": "a link out of the source",
    }
    assert len(listing.members) == 5


def test_a_linked_class_folder_outside_is_an_error_that_names_it(packed: Pack, tmp_path: Path) -> None:
    """One reject of 121 files would be a whole class lost below --allow-rejects."""
    folder = Path(packed("folder", {f"cat/{i}.jpg": b"1" for i in range(120)}))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.jpg").write_bytes(b"2")
    (folder / "bird").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"bird is a link to a folder outside the source \(.*elsewhere\)"):
        open_source(str(folder)).scan()


def test_links_inside_are_followed_and_circles_are_not(packed: Pack) -> None:
    folder = Path(packed("folder", {"cat/1.jpg": b"1", "store/deep/2.jpg": b"2"}))
    (folder / "dog").symlink_to("store/deep")
    (folder / "cat/3.jpg").symlink_to("../store/deep/2.jpg")
    (folder / "store/deep/up").symlink_to("../..")
    (folder / "cat/self").symlink_to(".")
    source = open_source(str(folder))
    found = source.scan()
    plain = {entry.path: source.read(member(entry)) for entry in found.entries if not entry.refused}
    assert plain == {"cat/1.jpg": b"1", "cat/3.jpg": b"2", "store/deep/2.jpg": b"2", "dog/2.jpg": b"2"}
    circles = {entry.path for entry in found.entries if entry.refused == "a link to a folder that it is in"}
    assert circles == {"cat/self", "store/deep/up", "dog/up"}


def member(entry: Any) -> Any:
    from genmodel.data.sources.members import Member

    return Member("", entry.path, entry.locator)


def test_two_folders_that_link_each_other_end(packed: Pack) -> None:
    folder = Path(packed("folder", {"a/1.jpg": b"1", "b/2.jpg": b"2"}))
    (folder / "a/b").symlink_to("../b")
    (folder / "b/a").symlink_to("../a")
    found = open_source(str(folder)).scan()
    assert {entry.path: entry.refused for entry in found.entries} == {
        "a/1.jpg": "", "b/2.jpg": "", "a/b/2.jpg": "", "b/a/1.jpg": "",
        "a/b/a": "a link to a folder that it is in", "b/a/b": "a link to a folder that it is in",
    }  # fmt: skip


STORES = ["cache/files/md5/ab/" + "0" * 30, "hub/blobs/" + "1" * 64, "repo/.git/annex/objects/x/y/SHA256-1.jpg"]


@pytest.mark.parametrize("place", STORES)
def test_links_into_a_store_of_contents_are_followed(place: str, packed: Pack, tmp_path: Path) -> None:
    """DVC's cache, the hub's, git-annex's."""
    folder = Path(packed("folder", {"a/1.jpg": b"1"}))
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_bytes(b"2")
    (folder / "a/2.jpg").symlink_to(tmp_path / place)
    source = Folder(folder)
    listing = listing_of(source)
    assert {each.name: source.read(each) for each in listing.members} == {"a/1.jpg": b"1", "a/2.jpg": b"2"}
    assert not reasons(listing)


@pytest.mark.slow
def test_a_million_ways_through_links_are_an_error(packed: Pack) -> None:
    folder = Path(packed("folder", {f"{i}/x.jpg": b"1" for i in range(9)}))
    for i in range(9):
        for j in range(9):
            if i != j:
                (folder / f"{i}/l{j}").symlink_to(f"../{j}")
    with pytest.raises(SourceError, match="more than 10,000 links to folders"):
        open_source(str(folder)).scan()


def test_image_bytes_count_whatever_the_ending(packed: Pack) -> None:
    jpeg, heic = b"\xff\xd8\xff" + bytes(40), b"\0\0\0\x18ftypheic" + bytes(40)
    files = {
        "a/1.jpg": jpeg,
        "a/noending": jpeg,
        "a/2.jpg_large": jpeg,
        "a/3.bin": heic,
        "a/4.dat": b"none",
        "a/5": b"",
    }
    for packing in ("folder", "tar", "tar.gz", "zip"):
        source = open_source(packed(packing, files | {"b/6.txt": jpeg}))
        listing = listing_of(source)
        assert [each.name for each in listing.members] == ["a/1.jpg", "a/2.jpg_large", "a/3.bin", "a/noending"], packing
        assert {rule: each.files for rule, each in listing.ignored.items()} == {
            "not an image (.dat)": 1,
            "not an image (no extension)": 1,
            "not an image (.txt)": 1,
        }, packing
