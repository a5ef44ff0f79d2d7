"""What a file is by its first bytes: each that cannot be read is told with its true cause and the fix."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

Pack = Callable[[str, dict[str, bytes]], str]


def problem(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        listing_of(open_source(str(path)))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "cause", "fix"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(99), "a 7z archive", "7z x"),
        (b"Rar!\x1a\7\1\0" + bytes(99), "a RAR archive", "unrar x"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file", "numpy.savez"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(99), "a MATLAB file", "numpy.savez"),
        (b"\n <!DOCTYPE html><html>Quota exceeded", "a web page", "fetch it again"),
        (b"<html>quota exceeded</html>", "a web page", "fetch it again"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "a single image", "give the folder"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a single image", "give the folder"),
        (json.dumps({"a": [1]}).encode(), "is JSON", "give the folder"),
        (b"name,label\na.png,1\n", "is text", "give the folder"),
        (pickle.dumps({"a": [1]}), "a pickle", "numpy.savez"),
        (pickle.dumps([1, 2], 2), "a pickle", "numpy.savez"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS", "git lfs pull"),
        (b"PK\7\x08PK\3\4" + bytes(99), "one part of a split zip", "zip -s 0"),
        (b"\1\2\3\4" * 99, "of an unsupported kind", "give a folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_told(content: bytes, cause: str, fix: str, tmp_path: Path) -> None:
    """By its content: its name says it is an archive, or nothing."""
    for name in ("a.tar.gz", "a.jpg", "thing"):
        (tmp_path / name).write_bytes(content)
        if not (cause == "of an unsupported kind" and name == "a.tar.gz"):  # or else a damaged tar
            told = problem(tmp_path / name)
            assert cause in told and fix in told


def test_what_is_packed_is_told(tmp_path: Path) -> None:
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        (tmp_path / "a").write_bytes(pack(b"<html>none</html>"))
        assert "is compressed, and its content is a web page" in problem(tmp_path / "a")


def test_a_program_that_unpacks_itself_is_the_zip_behind_it(
    images: dict[str, bytes], packed: Pack, tmp_path: Path
) -> None:
    content = Path(packed("zip", images)).read_bytes()
    (tmp_path / "a.exe").write_bytes(b"MZ" + bytes(5000) + content)
    source = open_source(str(tmp_path / "a.exe"))
    assert {member.name: source.read(member) for member in listing_of(source).members} == images
    (tmp_path / "b.exe").write_bytes(b"MZ" + bytes(5000))
    assert "is a program" in problem(tmp_path / "b.exe")


def test_mnists_labels_name_the_images(tmp_path: Path) -> None:
    """Case 25: the file of the labels, plain or packed, and the folder of the four files."""
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(32)
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1])
    for split in ("train", "t10k"):
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(labels)
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (tmp_path / "packed-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    assert "give the file of images" in problem(tmp_path / "train-labels-idx1-ubyte")
    assert "train-images-idx3-ubyte" in problem(tmp_path / "train-labels-idx1-ubyte")
    assert "packed-images-idx3-ubyte.gz" in problem(tmp_path / "packed-labels-idx1-ubyte.gz")
    told = problem(tmp_path)
    assert "t10k-images-idx3-ubyte.gz and train-images-idx3-ubyte.gz" in told and "give one of them" in told
    for path in tmp_path.glob("t10k*"):
        path.unlink()
    (tmp_path / "packed-labels-idx1-ubyte.gz").unlink()
    assert len(listing_of(open_source(str(tmp_path))).members) == 2


def test_an_img2dataset_folder_is_its_shards(images: dict[str, bytes], packed: Pack, tmp_path: Path) -> None:
    """A Parquet file of captions and a JSON of counts lie beside each of its tars."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "laion"
    folder.mkdir()
    for shard, part in enumerate((dict(list(images.items())[:20]), dict(list(images.items())[20:]))):
        files = {}
        for i, content in enumerate(part.values()):
            key = f"{shard:05d}{i:04d}"
            files |= {f"{key}.jpg": content, f"{key}.txt": b"a cat", f"{key}.json": b'{"caption": "a cat"}'}
        Path(packed("tar", files)).rename(folder / f"{shard:05d}.tar")
        pq.write_table(pa.table({"url": ["http://x"], "caption": ["a cat"]}), folder / f"{shard:05d}.parquet")
        (folder / f"{shard:05d}_stats.json").write_text("{}")
    source = open_source(str(folder))
    listing = listing_of(source)
    assert type(source).__name__ == "WebDataset" and len(listing.members) == len(images)
    assert {member.class_name for member in listing.members} == {"images"}


def test_a_split_zip_says_how_to_join_it(images: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i, content in enumerate(images.values()):
        (tmp_path / "in" / f"{i}.png").write_bytes(content * 9)
    made = subprocess.run(["zip", "-q", "-r", "-0", "-s", "64k", "a.zip", "in"], cwd=tmp_path, check=False)
    if made.returncode:
        pytest.skip("no program zip here")
    assert (tmp_path / "a.z01").exists()
    for name in ("a.zip", "a.z01"):
        assert "zip -s 0" in problem(tmp_path / name)


def test_a_zip_that_speaks_of_other_disks_is_a_split_one(tmp_path: Path) -> None:
    """Not a damaged one."""
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w") as archive:
        archive.writestr("a/1.png", np.zeros(9, np.uint8).tobytes())
    content = bytearray(handle.getvalue())
    at = content.index(b"PK\1\2") + 34
    content[at : at + 2] = b"\1\0"
    (tmp_path / "a.zip").write_bytes(content)
    assert "one part of a split zip" in problem(tmp_path / "a.zip")
