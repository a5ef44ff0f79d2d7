"""Archives of every packing, one in the other, in folders and in parts, with links: the images of the same folder."""

import bz2
import errno
import gzip
import json
import lzma
import os
import random
import resource
import subprocess
import sys
import tarfile
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
from tests.data.sources.archives.packing import contents, zip_bytes

ROOT = Path(__file__).parents[3]


def zstd(content: bytes) -> bytes:
    pa = pytest.importorskip("pyarrow")
    found: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return found


PACK: dict[str, Callable[[bytes], bytes]] = {"bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
