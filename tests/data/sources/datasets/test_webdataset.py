"""WebDataset shards: a folder or a pattern of them, labels from .cls or .json, the same whatever their order."""

import gzip
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel.data.block import Block
from genmodel.data.sources.datasets.webdataset import WebDataset, class_name
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

TarBytes = Callable[..., bytes]
Samples = list[list[tuple[str, bytes]]]


def samples(images: dict[str, bytes], labels: str = "cls") -> Samples:
    """The 42 images as samples of key.jpg (or png), its label, and a caption."""
    result: Samples = []
    for i, (name, content) in enumerate(images.items()):
        label = ["ape", "bee", "cat"].index(name[:3]) * 5
        facts = f"{label}\n".encode() if labels == "cls" else json.dumps({"label": label, "w": 3}).encode()
        extension = name.rpartition(".")[2]
        result.append([(f"{i:05d}.{extension}", content), (f"{i:05d}.{labels}", facts), (f"{i:05d}.txt", b"a cat")])
    return result


def write(folder: Path, parts: Samples, tar_bytes: TarBytes, shards: int = 4, packed: str = "tar") -> Path:
    folder.mkdir(parents=True)
    for shard in range(shards):
        content = tar_bytes(member for sample in parts[shard::shards] for member in sample)
        content = gzip.compress(content) if packed == "tar.gz" else content
        (folder / f"train-{shard:04d}.{packed}").write_bytes(content)
    return folder


def names(images: dict[str, bytes]) -> dict[str, bytes]:
    found = {}
    for i, (name, content) in enumerate(images.items()):
        found[f"{['ape', 'bee', 'cat'].index(name[:3]) * 5}/{i:05d}.{name.rpartition('.')[2]}"] = content
    return found


@pytest.mark.parametrize("labels", ["cls", "json"])
@pytest.mark.parametrize("packed", ["tar", "tar.gz"])
def test_folder_pattern_and_single_shard(
    labels: str, packed: str, images: dict[str, bytes], tar_bytes: TarBytes, tmp_path: Path
) -> None:
    folder = write(tmp_path / "set", samples(images, labels), tar_bytes, packed=packed)
    one = write(tmp_path / "one", samples(images, labels), tar_bytes, 1, packed)
    places = [f"{folder}", f"{folder}/train-{{0000..0003}}.{packed}", f"{folder}/train-*.{packed}"]
    for place in [*places, f"{one}/train-0000.{packed}"]:
        source = open_source(place)
        assert isinstance(source, WebDataset)
        found = listing_of(source)
        assert {member.name: source.read(member) for member in found.members} == names(images)
        assert sum(each.files for each in found.ignored.values()) == 84  # 42 of them labels
        assert not any(member.refused for member in found.members)
        copy = pickle.loads(pickle.dumps(source))
        assert copy.read(found.members[9]) == source.read(found.members[9])


def test_shuffled_shards_give_the_same_block(
    images: dict[str, bytes],
    tar_bytes: TarBytes,
    make: Callable[..., Block],
    tree: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
    small_shards: None,
) -> None:
    parts = samples(images)
    first = make(str(write(tmp_path / "a/set", parts, tar_bytes)), tmp_path / "x")
    random.Random(3).shuffle(parts)
    second = make(str(write(tmp_path / "b/set", parts, tar_bytes, 3)), tmp_path / "y")
    assert first.classes == ["0", "5", "10"]  # the label grows with the number
    assert tree(first.path) == tree(second.path)


def test_keys_that_start_anew_in_each_shard(tar_bytes: TarBytes, tmp_path: Path) -> None:
    for shard in ("a", "b"):
        (tmp_path / f"{shard}.tar").write_bytes(tar_bytes([("0.jpg", shard.encode()), ("0.cls", b"7")]))
    source = open_source(str(tmp_path))
    assert {m.name: source.read(m) for m in listing_of(source).members} == {"7/a/0.jpg": b"a", "7/b/0.jpg": b"b"}


def test_keys_with_dots(tar_bytes: TarBytes, tmp_path: Path) -> None:
    """By WebDataset's rule "frame 22.01.png" is the part 01.png of the key "frame 22", as 3.seg.png is of 3."""
    parts = [("3.png", b"3"), ("3.cls", b"0"), ("3.seg.png", b"mask"), ("3.txt", b"a caption")]
    parts += [(f"frame 22.{i:02d}.{end}", b"2") for i in range(6) for end in ("png", "cls")] + [("v1.5.jpg", b"?")]
    (tmp_path / "s.tar").write_bytes(tar_bytes(parts))
    listing = listing_of(open_source(str(tmp_path / "s.tar")))
    used = {member.name: member.class_name for member in listing.members if not member.refused}
    assert used == {"0/3.png": "0"} | {f"2/frame 22.{i:02d}.png": "2" for i in range(6)}
    refused = {member.name: member.refused for member in listing.members if member.refused}
    assert refused == {"v1.5.jpg": "has no label (.cls) beside it"}
    assert {rule: each.files for rule, each in listing.ignored.items()} == {
        "beside an image (.cls)": 7,
        "beside an image (.png)": 1,
        "beside an image (.txt)": 1,
    }


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_labels_behind_all_images(mode: str, tar_bytes: TarBytes, tmp_path: Path) -> None:
    """The first members are images alone: only the last ones tell what the tar is."""
    files = [(f"{i:03d}.jpg", b"x%d" % i) for i in range(40)] + [(f"{i:03d}.cls", b"%d" % (i % 2)) for i in range(40)]
    (tmp_path / "s.tar").write_bytes(tar_bytes(files, mode))
    source = open_source(str(tmp_path / "s.tar"))
    assert isinstance(source, WebDataset)
    listing = listing_of(source)
    assert {member.class_name for member in listing.members} == {"0", "1"} and len(listing.members) == 40
    (tmp_path / "flat.tar").write_bytes(tar_bytes(files[:40], mode))
    assert not isinstance(open_source(str(tmp_path / "flat.tar")), WebDataset)


HOSTILE: dict[str, tuple[list[tuple[str, bytes]], dict[str, str]]] = {
    "names, missing labels and doubles": (
        [
            ("1.jpg", b"x"), ("1.cls", b"3"), ("2.jpg", b"x"), ("../3.jpg", b"x"), ("3.cls", b"1"), ("4.jpg", b"x"),
            ("4.cls", b"-1"), ("5.jpg", b"x"), ("5.cls", b"\xff"), ("1.jpg", b"y"), ("6.jpg", b"x"), ("6.json", b"["),
        ],
        {
            "3/s/1.jpg": "a name that occurs 2 times",
            "s/2.jpg": "has no label (.cls) beside it",
            "../3.jpg": "a path with ..",
            "s/4.jpg": "",
            "s/5.jpg": "has no label (.cls) beside it",
            "s/6.jpg": "has no label (.cls) beside it",
        },
    ),
    "keys and labels that forge lines": (
        [
            ("0.jpg", b"x"), ("0.cls", b"7"), ("\x1b[2J.jpg", b"x"), ("\x1b[2J.cls", b"1"), ("2.jpg", b"x"),
            ("2.cls", b"a\x1b[2J"), ("3.jpg", b"x"), ("3.json", json.dumps({"label": "a\u202eb"}).encode()),
        ],
        {
            "7/0.jpg": "",
            "\\x1b[2J.jpg": "a name with control or hidden characters",
            "2.jpg": "has no label (.cls) beside it",
            "3.jpg": "has no label (.cls) beside it",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_hostile_is_refused_with_a_reason(what: str, tar_bytes: TarBytes, tmp_path: Path) -> None:
    files, reasons = HOSTILE[what]
    (tmp_path / "s.tar").write_bytes(tar_bytes(files))
    found = {m.name: m.refused for m in listing_of(open_source(str(tmp_path / "s.tar"))).members}
    assert found == reasons


def test_missing_and_mixed_shards_are_told(images: dict[str, bytes], tar_bytes: TarBytes, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", samples(images), tar_bytes)
    with pytest.raises(SourceError, match=r"2 of 6 files missing, such as .*train-0004\.tar"):
        open_source(f"{folder}/train-{{0000..0005}}.tar")
    (folder / "train-0004.zip").write_bytes(b"")
    with pytest.raises(SourceError, match="only one kind"):
        open_source(f"{folder}/train-*")
    with pytest.raises(SourceError, match="there is no source at"):
        open_source(f"{folder}/nothing-*.tar")
    with pytest.raises(SourceError, match="names more than"):
        open_source(f"{folder}/{{0..99999}}{{0..99999}}.tar")
    (folder / "train-0002.tar").write_bytes((folder / "train-0002.tar").read_bytes()[:700])
    with pytest.raises(SourceError, match=r"train-0002\.tar .*fetch it again"):
        listing_of(open_source(f"{folder}/train-{{0000..0003}}.tar"))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        *[(3, "3"), ("007", "7"), ("cat, tabby", "cat, tabby"), ("a/b", "a_b"), (-1, ""), ("..", None), (True, None)],
        *[(2.5, None), ("a\x1b[2Jb", None), ("a\u202eb", None), ("a\x9bb", None), ("a\nb", "a b")],
    ],
)
def test_class_names(label: object, expected: str | None) -> None:
    assert class_name(label) == expected
