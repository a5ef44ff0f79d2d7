"""Archives of every packing, one in the other, in folders and in parts, with links: the images of the same folder."""

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import pickle
import random
import resource
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmodel.data.block import Block
from genmodel.data.sources.archives.compressed import Spool, Spooled
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError, StorageError

ROOT = Path(__file__).parents[3]
Pack = Callable[[str, dict[str, bytes]], str]


def zstd(content: bytes) -> bytes:
    pa = pytest.importorskip("pyarrow")
    found: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return found


PACK: dict[str, Callable[[bytes], bytes]] = {"bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}


def contents(location: object) -> dict[str, bytes]:
    """The images by name, read twice: by the source that was scanned, and by one that came out of a pickle."""
    source = open_source(str(location))
    members = listing_of(source).members
    assert not [member.refused for member in members if member.refused]
    found = {member.name: source.read(member) for member in members}
    again = pickle.loads(pickle.dumps(source))
    shuffled = random.Random(0).sample(members, len(members))
    assert {member.name: again.read(member) for member in shuffled} == found
    return found


def zip_bytes(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return handle.getvalue()


def by_class(files: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
    classes: dict[str, dict[str, bytes]] = {}
    for name, content in files.items():
        top, _, rest = name.partition("/")
        classes.setdefault(top, {})[rest] = content
    return classes


@pytest.mark.parametrize("packing", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "npz"])
def test_a_disk_that_fails_is_not_a_damaged_archive(
    packing: str, tar_bytes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetching the archive again would not help."""
    images = {f"a/{i}.png": random.Random(i).randbytes(1 << 18) for i in range(8)}
    path, pread, failing = tmp_path / f"a.{packing}", os.pread, False
    if packing == "npz":
        np.savez(path, images=np.zeros((1 << 12, 16, 16), np.uint8), more=np.zeros(1 << 16))
    else:
        ways = {"zip": lambda _: zip_bytes(images), "tar": bytes, "tar.gz": gzip.compress}
        ways |= {f"tar.{name}": pack for name, pack in PACK.items()}
        path.write_bytes(ways[packing](tar_bytes(images.items())))

    def read(handle: int, size: int, offset: int) -> bytes:
        if failing:
            raise OSError(errno.EIO, "Input/output error")
        return pread(handle, size, offset)

    monkeypatch.setattr(os, "pread", read)
    source = open_source(str(path), room=tmp_path)
    failing = True
    with pytest.raises(SourceError, match=rf"^cannot read {tmp_path}/(a.{packing}|what is unpacked): Input/output err"):
        source.scan()


@pytest.mark.parametrize("packing", list(PACK))
def test_a_packed_tar_is_the_tar(
    packing: str, images: dict[str, bytes], tar_bytes: Any, tmp_path: Path, make: Callable[..., Block]
) -> None:
    """The same images, and the same block with any number of workers, as from the folder."""
    path = tmp_path / f"a.tar.{packing}"
    path.write_bytes(PACK[packing](tar_bytes(images.items())))
    assert contents(path) == images
    one, two = (make(str(path), tmp_path / f"{n}", workers=n) for n in (1, 3))
    assert one.digest == two.digest and len(one) == len(images)
    assert not [each for each in tmp_path.iterdir() if each.name not in ("1", "2", "3", path.name)]


@pytest.mark.parametrize("packing", list(PACK))
def test_packed_streams_at_random(packing: str, tmp_path: Path) -> None:
    """Several streams one after the other, as pbzip2, pixz and pzstd write them."""
    rng = random.Random(0)
    plain = b"".join(rng.randbytes(500) * 2 for _ in range(4000))
    packed = PACK[packing](plain[:999_999]) + PACK[packing](plain[999_999:])

    class Memory:
        length = len(packed)

        def read_at(self, offset: int, size: int) -> bytes:
            return packed[offset : offset + size]

    kind = {"bz2": "bzip2", "zst": "zstd"}.get(packing, packing)
    found = Spooled(Memory(), kind, "it", Spool(tmp_path))
    for _ in range(300):
        offset, size = rng.randrange(len(plain) + 100), rng.randrange(100_000)
        assert found.read_at(offset, size) == plain[offset : offset + size]
    assert found.length == len(plain) and not list(tmp_path.iterdir()), "no name is left of what was unpacked"


@pytest.mark.parametrize("packing", list(PACK))
def test_no_cut_or_flip_of_a_packed_tar_loses_an_image(
    packing: str, images: dict[str, bytes], tar_bytes: Any, tmp_path: Path
) -> None:
    whole = PACK[packing](tar_bytes(list(images.items())[:6]))
    path, rng, told = tmp_path / "a", random.Random(0), list[str]()
    for trial in range(120):
        content = bytearray(whole)
        if trial % 2:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(6, len(content)) :]
        path.write_bytes(content)
        try:
            source = open_source(str(path))
            members = listing_of(source).members
            assert trial % 2 and len(members) == 6, "a cut is always told"
            assert packing == "zst" or [source.read(member) for member in members] == list(images.values())[:6]
        except SourceError as error:
            told.append(str(error))
    assert len(told) >= 60 and "\n" not in "".join(told)


def test_without_pyarrow_zstandard_says_so(monkeypatch: pytest.MonkeyPatch, tar_bytes: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(zstd(tar_bytes([("a/1.png", b"x")])))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pip install pyarrow, or unpack it first \(zstd -d\)"):
        open_source(str(tmp_path / "a.tar.zst"))


@pytest.mark.parametrize("packing", list(PACK))
def test_packed_shards_of_webdataset(packing: str, images: dict[str, bytes], tar_bytes: Any, tmp_path: Path) -> None:
    for shard in range(2):
        files = [
            (f"{i}.{kind}", content)
            for i, (name, image) in enumerate(images.items())
            if i % 2 == shard
            for kind, content in (("png", image), ("cls", name[:3].encode()))
        ]
        (tmp_path / f"{shard}.tar.{packing}").write_bytes(PACK[packing](tar_bytes(files)))
    assert sorted(contents(tmp_path).values()) == sorted(images.values())
    assert {member.class_name for member in listing_of(open_source(str(tmp_path))).members} == {"ape", "bee", "cat"}


def test_a_disk_too_small_to_unpack_on_is_told(tar_bytes: Any, tmp_path: Path) -> None:
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(tar_bytes([("a/1.png", bytes(4 << 20))])))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))  # as a full disk says it: EFBIG
    try:
        with pytest.raises(StorageError, match=r"no space left to write .*free some"):
            listing_of(open_source(str(tmp_path / "a.tar.xz"), room=tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.xz"]


def nests(tar_bytes: Any) -> dict[str, Callable[[dict[str, bytes]], bytes]]:
    """Ways to pack class folders one archive in the other."""

    def classes_in(outer: Any, inner: Any, ending: str) -> Callable[[dict[str, bytes]], bytes]:
        return lambda files: outer({f"{top}{ending}": inner(some) for top, some in by_class(files).items()})

    def tar(files: dict[str, bytes]) -> bytes:
        return bytes(tar_bytes(files.items()))

    def tgz(files: dict[str, bytes]) -> bytes:
        return bytes(tar_bytes(files.items(), "w:gz"))

    def deflated(files: dict[str, bytes]) -> bytes:
        return zip_bytes(files, zipfile.ZIP_DEFLATED)

    return {
        "zips in a zip": classes_in(zip_bytes, deflated, ".zip"),
        "zips in a deflated zip": classes_in(deflated, zip_bytes, ".zip"),
        "zips in a tar.gz": classes_in(tgz, deflated, ".zip"),
        "tar.gz in a zip": classes_in(zip_bytes, tgz, ".tar.gz"),
        "tar.gz in a tar": classes_in(tar, tgz, ".tgz"),
        "tar.xz in a tar": classes_in(tar, lambda files: lzma.compress(tar(files)), ".tar.xz"),
        "a tar of tars in a zip": lambda files: deflated({"train.tar": classes_in(tar, tar, ".tar")(files)}),
    }


NESTS = list(nests(None))


@pytest.mark.parametrize("way", NESTS)
def test_archives_in_archives(
    way: str, images: dict[str, bytes], tar_bytes: Any, tmp_path: Path, make: Callable[..., Block]
) -> None:
    (tmp_path / "source").write_bytes(nests(tar_bytes)[way](images))
    assert contents(tmp_path / "source") == images
    first, second = (listing_of(open_source(str(tmp_path / "source"))) for _ in range(2))
    assert first == second, "places and all: what a kill leaves is taken up by them"
    one, two = (make(str(tmp_path / "source"), tmp_path / f"{n}", workers=n) for n in (1, 3))
    assert one.digest == two.digest and len(one) == len(images)


@pytest.mark.parametrize("ending", [".tar", ".zip", ".tar.gz", ".tar.bz2"])
def test_a_folder_of_class_archives(ending: str, images: dict[str, bytes], tar_bytes: Any, tmp_path: Path) -> None:
    """Case 16: ImageNet's train tar unpacked once; Kaggle's zips in a folder. What lies beside is accounted for."""
    folder = tmp_path / "source"
    folder.mkdir()
    for top, files in by_class(images).items():
        tar = tar_bytes(files.items())
        packed = {".tar": tar, ".zip": zip_bytes(files), ".tar.bz2": bz2.compress(tar)}
        packed[".tar.gz"] = tar_bytes(files.items(), "w:gz")
        (folder / f"{top}{ending}").write_bytes(packed[ending])
    (folder / "README.txt").write_text("hello")
    assert contents(folder) == images
    listing = listing_of(open_source(str(folder)))
    assert listing.ignored["not an image (.txt)"] == (1, "README.txt")


def test_kaggles_zip_of_zips(images: dict[str, bytes], tmp_path: Path) -> None:
    """dogs-vs-cats.zip: train.zip and test1.zip, each with one folder in it, and a CSV."""
    train = {f"train/cat.{i}.jpg": content for i, content in enumerate(list(images.values())[:20])}
    test = {f"test1/{i}.jpg": content for i, content in enumerate(list(images.values())[20:30])}
    outer = {"train.zip": zip_bytes(train), "test1.zip": zip_bytes(test), "sampleSubmission.csv": b"id,label\n1,0\n"}
    (tmp_path / "dogs-vs-cats.zip").write_bytes(zip_bytes(outer, zipfile.ZIP_DEFLATED))
    source = open_source(str(tmp_path / "dogs-vs-cats.zip"))
    listing = listing_of(source)
    assert {source.read(member) for member in listing.members} == set(train.values())
    assert sum(each.files for each in listing.ignored.values()) == 11


def test_archives_nest_no_deeper_than_is_said(tar_bytes: Any, tmp_path: Path) -> None:
    content = tar_bytes([("a/1.png", b"1")])
    for depth in range(4):
        content = tar_bytes([(f"{depth}.txt", b"1"), (f"{depth}.tar", content)])
    (tmp_path / "a.tar").write_bytes(content)
    found = open_source(str(tmp_path / "a.tar")).scan()
    assert not found.entries and found.ignored["an archive inside more than 2 others"] == (1, "3/2/1.tar")


def test_archives_beside_images_are_left_out_and_told(images: dict[str, bytes], tar_bytes: Any, tmp_path: Path) -> None:
    """From a folder and from its tar alike; a stray image does not make class archives superfluous."""
    files = images | {"copy.zip": zip_bytes(images)}
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    (tmp_path / "a.tar").write_bytes(tar_bytes(files.items()))
    (tmp_path / "a.zip").write_bytes(zip_bytes(files))
    for name in ("folder", "a.tar", "a.zip"):
        assert contents(tmp_path / name) == images
        assert listing_of(open_source(str(tmp_path / name))).ignored == {"an archive beside images": (1, "copy.zip")}
    stray = {f"{top}.tar": tar_bytes(some.items()) for top, some in by_class(images).items()}
    stray["preview.png"] = images["ape/000.png"]
    (tmp_path / "b.tar").write_bytes(tar_bytes(stray.items()))
    (tmp_path / "b").mkdir()
    for name, content in stray.items():
        (tmp_path / "b" / name).write_bytes(content)
    for name in ("b", "b.tar"):
        assert len(open_source(str(tmp_path / name)).scan().entries) == len(images) + 1


def test_what_only_looks_like_an_archive_is_no_error(images: dict[str, bytes], tar_bytes: Any, tmp_path: Path) -> None:
    files = images | {"ape/page.zip": b"<html>gone</html>", "ape/note.tar": b"see the other disk"}
    (tmp_path / "a.tar").write_bytes(tar_bytes(files.items()))
    listing = listing_of(open_source(str(tmp_path / "a.tar")))
    assert len(listing.members) == len(images) and sum(each.files for each in listing.ignored.values()) == 2


@pytest.mark.parametrize(
    "names", [("001", "002", "003"), ("aa", "ab", "ac"), ("part1", "part2", "part3"), ("0", "1", "2")]
)
@pytest.mark.parametrize("packing", ["zip", "tar.gz", "tar"])
def test_parts_of_an_archive_are_put_together(
    names: tuple[str, ...], packing: str, images: dict[str, bytes], packed: Pack, tmp_path: Path
) -> None:
    """As 7-Zip and `split` cut it. Whichever of them is given, or the folder."""
    content = Path(packed(packing, images)).read_bytes()
    folder = tmp_path / "parts"
    folder.mkdir()
    paths = [folder / f"set.{packing}.{name}" for name in names]
    cut = len(content) // 3
    for i, path in enumerate(paths):
        path.write_bytes(content[i * cut : (i + 1) * cut if i < 2 else len(content)])
    assert contents(paths[0]) == contents(paths[2]) == contents(folder) == images
    assert contents(folder / f"set.{packing}.*") == images
    paths[1].unlink()
    with pytest.raises(SourceError, match=f"{names[1]} beside it"):
        open_source(str(paths[2]))
    with pytest.raises(SourceError):
        listing_of(open_source(str(paths[0])))
    paths[0].unlink()
    with pytest.raises(SourceError, match=f"part .*({names[0]}|1) beside it"):
        open_source(str(paths[2]))


def links_tar(images: dict[str, bytes], links: list[tuple[str, str, bytes]]) -> bytes:
    handle = io.BytesIO()
    with tarfile.open(fileobj=handle, mode="w") as tar:
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            if kind:
                info.type, info.linkname = kind, target
                tar.addfile(info)
            else:
                info.size = len(images[target])
                tar.addfile(info, io.BytesIO(images[target]))
    return handle.getvalue()


def test_links_in_a_tar_are_followed(images: dict[str, bytes], tmp_path: Path) -> None:
    """Case 19: hard links; symbolic ones to files and folders; links to links, and links in front of what they mean."""
    first, second, *_ = images
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    links = [
        ("cat/front.png", "../dog/c.png", soft),
        ("cat/a.png", first, b""),
        ("cat/b.png", "cat/a.png", hard),
        ("dog/c.png", second, b""),
        ("dog/d.png", "c.png", soft),
        ("dog/e.png", "d.png", soft),
        ("eel", "cat", soft),
    ]
    (tmp_path / "a.tar").write_bytes(links_tar(images, links))
    one, two = images[first], images[second]
    expected = {"cat/a.png": one, "cat/b.png": one, "cat/front.png": two, "dog/c.png": two, "dog/d.png": two}
    assert contents(tmp_path / "a.tar") == expected | {"dog/e.png": two, "eel/a.png": one}


def test_links_that_lead_nowhere_are_rejected_with_the_reason(images: dict[str, bytes], tmp_path: Path) -> None:
    first, *_ = images
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    links = [("a/0.png", first, b""), ("a/1.png", "/etc/passwd", soft), ("a/2.png", "../../up.png", soft)]
    links += [("a/3.png", "a/none.png", hard), ("a/4.png", "4.png", soft), ("a/5.png", "../a/6.png", soft)]
    links += [("a/6.png", "5.png", soft), ("a/7.png", "../etc/passwd", hard)]
    (tmp_path / "a.tar").write_bytes(links_tar(images, links))
    reasons = {member.name: member.refused for member in listing_of(open_source(str(tmp_path / "a.tar"))).members}
    out, nowhere = "a link out of the archive", "a link to something that is not in the archive"
    assert reasons == {
        "a/0.png": "",
        **dict.fromkeys(["a/1.png", "a/2.png", "a/7.png"], out),
        **dict.fromkeys(["a/3.png", "a/4.png", "a/5.png", "a/6.png"], nowhere),
    }


BOMBS = """
import json, sys
from genmodel.data.sources.archives import content as archives
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError, StorageError
archives._ROOM = 256 << 20
told = ""
try:
    told = len(listing_of(open_source(sys.argv[1])).members)
except SourceError as error:
    told = str(error)
mine = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([told, int(mine.split()[1]) >> 10]))
"""


def explode(path: Path) -> tuple[Any, int]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told, memory = json.loads(done.stdout)
    return told, memory


@pytest.mark.parametrize("packing", ["xz", "zst", "bz2", "gz"])
def test_a_bomb_ends_in_a_line(packing: str, tmp_path: Path) -> None:
    """A small file of a tar with one member of 512 MB: told before all of it is unpacked, in little memory."""
    pack = {**PACK, "gz": lambda content: gzip.compress(content, 1)}[packing]
    info = tarfile.TarInfo("a/1.png")
    info.size = 512 << 20
    (tmp_path / "a").write_bytes(pack(info.tobuf()) + pack(bytes(32 << 20)) * 16)  # streams one after the other
    assert (tmp_path / "a").stat().st_size < 11 << 20
    told, memory = explode(tmp_path / "a")
    assert "unpacks to more than 2" in told and "too many for its size" in told
    assert memory < 200, memory


def test_endless_empty_members_end_in_a_line(monkeypatch: pytest.MonkeyPatch, tar_bytes: Any, tmp_path: Path) -> None:
    """A tgz of a few MB with millions of empty images would be GBs of names."""
    monkeypatch.setattr("genmodel.data.sources.archives.entries._FEW", 1000)
    many = tar_bytes([(f"a/{i}.png", b"") for i in range(3000)])
    for packing, content in (("gz", gzip.compress(many)), ("xz", lzma.compress(many))):
        (tmp_path / packing).write_bytes(content)
        with pytest.raises(SourceError, match="has more than 1,000 members, too many for its size"):
            listing_of(open_source(str(tmp_path / packing)))
    (tmp_path / "plain").write_bytes(many)
    assert len(listing_of(open_source(str(tmp_path / "plain"))).members) == 3000, "where each has its bytes"
