"""Names and classes, whatever the packing; what is refused and what is passed over."""

import pytest

from genmodel.data.sources.meaning.arrange import arrange
from genmodel.data.sources.members import FLAT_CLASS, Collector, Entry, Listing
from genmodel.output.printable import printable


def unread(entry: Entry) -> bytes:
    raise AssertionError(f"{entry.path} is no label file")


def arranged(found: Collector) -> Listing:
    return arrange(found.found(), unread)


def ignored(listing: Listing) -> int:
    return sum(each.files for each in listing.ignored.values())


def listing(*paths: str, **special: str) -> Listing:
    found = Collector()
    for i, path in enumerate(paths):
        found.add(path, (i,), 10, special.get(f"at{i}", ""))
    return arranged(found)


def names(*paths: str) -> list[tuple[str, str]]:
    return [(member.class_name, member.name) for member in listing(*paths).members]


def test_class_folders() -> None:
    assert names("b/1.jpg", "a/2.JPEG", "a/1.png") == [("a", "a/1.png"), ("a", "a/2.JPEG"), ("b", "b/1.jpg")]


def test_shared_folders_are_left_out() -> None:
    expected = [("a", "a/1.jpg"), ("b", "b/1.jpg")]
    assert names("train/a/1.jpg", "train/b/1.jpg") == expected
    assert names("./x/train/a/1.jpg", "x//train/b/1.jpg") == expected
    assert names("train/a/1.jpg", "train/a/2.jpg") == [("a", "a/1.jpg"), ("a", "a/2.jpg")]


def test_alike_beginnings_are_no_shared_folder() -> None:
    assert names("n01/1.jpg", "n02/1.jpg") == [("n01", "n01/1.jpg"), ("n02", "n02/1.jpg")]


def test_deeper_folders_belong_to_the_class() -> None:
    assert names("a/images/1.jpg", "b/images/1.jpg") == [("a", "a/images/1.jpg"), ("b", "b/images/1.jpg")]


def test_flat() -> None:
    assert names("2.jpg", "1.jpg") == [(FLAT_CLASS, "1.jpg"), (FLAT_CLASS, "2.jpg")]
    assert names("photos/1.jpg", "photos/2.jpg") == [("photos", "photos/1.jpg"), ("photos", "photos/2.jpg")]


def test_other_and_hidden_files_are_counted_not_taken() -> None:
    result = listing("a/1.jpg", "README.txt", "a/._1.jpg", ".DS_Store", "__MACOSX/a/1.jpg", "a/noextension", "a/.jpg")
    assert [member.name for member in result.members] == ["a/1.jpg"]
    assert ignored(result) == 6


def test_hostile_names_are_refused() -> None:
    result = listing("../../etc/passwd", "/a/1.jpg", "a/../1.jpg", "a/\udcff.jpg", "a/ok.jpg", "a/...jpg")
    reasons = {member.name: member.refused for member in result.members}
    assert reasons == {
        "../../etc/passwd": "a path with ..",
        "/a/1.jpg": "an absolute path",
        "a/../1.jpg": "a path with ..",
        "a/\\udcff.jpg": "a name that is not UTF-8",
        "a/ok.jpg": "",
    }
    assert ignored(result) == 1  # a/...jpg is hidden


FORGED = ["a\x1b[31m/1.jpg", "a/1\nerror: x.jpg", "a\u202e/1.jpg", "a/1.jpg\n", "ad\u200dmin/1.jpg", "a\x9b/1.jpg"]


@pytest.mark.parametrize("name", FORGED)
def test_names_that_forge_lines_are_refused_and_shown_escaped(name: str) -> None:
    refused, fine = listing(name, "a/ok.jpg").members
    assert (refused.class_name, refused.name) == ("", printable(name))
    assert refused.refused == "a name with control or hidden characters"
    assert (fine.class_name, fine.refused) == ("a", "")
    inner = Collector()
    inner.add("1.jpg", (0,), 10, inside=name)
    assert [(m.class_name, m.name) for m in arranged(inner).members] == [("", printable(f"{name}/1.jpg"))]


def test_a_folders_icon_on_a_mac_is_no_image() -> None:
    assert ignored(listing("a/1.jpg", "Icon\r", "a/Icon\r")) == 2


def test_names_longer_than_a_file_systems_are_refused() -> None:
    assert listing("9" * 5000 + "/1.jpg", "a/1.jpg").members[0].refused == "a name of more than 255 bytes"


def test_special_members_are_refused_whatever_their_name() -> None:
    result = listing("a/1.jpg", "link", at1="a link")
    assert [(m.name, m.refused) for m in result.members] == [("link", "a link"), ("a/1.jpg", "")]


def test_doubles_are_all_refused_whatever_their_order() -> None:
    orders = ["a/1.jpg", "a/1.jpg", "a/2.jpg"], ["a/1.jpg", "a/2.jpg", "a/1.jpg"]
    for members in (listing(*paths).members for paths in orders):
        assert [m.refused for m in members] == ["a name that occurs 2 times"] * 2 + [""]


def test_giants_are_refused() -> None:
    found = Collector()
    found.add("a/1.jpg", (0,), 1 << 40)
    assert "too large for an image" in arranged(found).members[0].refused
