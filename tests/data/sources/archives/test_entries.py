"""Tars and gzips in place: everything found, every cut and damage noticed, any byte at random."""

import contextlib
import gzip
import io
import pickle
import random
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from genmodel.data.sources.archives.content import PlainFile
from genmodel.data.sources.archives.entries import Entry, tar_entries
from genmodel.data.sources.archives.gzipped import GzipFile
from genmodel.errors import SourceError

NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=140)


class Memory:
    def __init__(self, content: bytes) -> None:
        self.content, self.length = content, len(content)

    def read_at(self, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]


def entries(content: bytes) -> list[Entry]:
    return list(tar_entries(Memory(content), 0, len(content), "it"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAME, st.binary(max_size=1500)), max_size=6), st.sampled_from([1, 2]))
def test_finds_what_tarfile_wrote(files: list[tuple[str, bytes]], form: int) -> None:
    handle = io.BytesIO()
    with tarfile.open(fileobj=handle, mode="w", format=form) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    packed = handle.getvalue()
    found = [(e.name, packed[e.offset : e.offset + e.size]) for e in entries(packed)]
    assert found == [(name.rstrip("/"), content) for name, content in files]


def three(tar_bytes: Callable[..., bytes]) -> bytes:
    return tar_bytes([(f"a/{i}.jpg", bytes([i + 1]) * (700 * i)) for i in range(3)])


def test_every_cut_is_noticed(tar_bytes: Callable[..., bytes]) -> None:
    whole = three(tar_bytes)
    end = 3 * 512 + 1024 + 1536  # headers and bytes, rounded to blocks
    assert not any(whole[end:]) and any(whole[end - 512 : end])
    for cut in [*range(0, end, 100), *range(0, end, 512), end, end + 511]:
        with pytest.raises(SourceError, match=r"^it is "):
            entries(whole[:cut])
    assert len(entries(whole[: end + 512])) == 3


def test_a_damaged_header_is_no_end(tar_bytes: Callable[..., bytes]) -> None:
    whole = bytearray(three(tar_bytes))
    whole[512 + 5] ^= 1  # in the second header's name: its checksum is wrong
    with pytest.raises(SourceError, match="damaged at byte 512"):
        entries(bytes(whole))


def test_two_tars_in_one_are_noticed(tar_bytes: Callable[..., bytes]) -> None:
    with pytest.raises(SourceError, match="continues after its end mark"):
        entries(three(tar_bytes) * 2)


def test_special_members_are_told(tar_bytes: Callable[..., bytes]) -> None:
    handle = io.BytesIO()
    with tarfile.open(fileobj=handle, mode="w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind!r}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert [e.special for e in entries(handle.getvalue())] == ["a link"] * 2 + ["not a plain file"] * 3


def header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "content",
    [
        header("a", -512, tarfile.REGTYPE) + bytes(2048),
        header("a", 0, tarfile.REGTYPE) + header("b", -512, tarfile.REGTYPE) + bytes(2048),
        header("a", -512, tarfile.XHDTYPE) + bytes(2048),
        header("a", 1 << 40, tarfile.XHDTYPE) + bytes(2048),
        header("a", 1 << 40, tarfile.REGTYPE) + bytes(2048),
        header("a", 512, tarfile.GNUTYPE_LONGNAME).ljust(1024, b"x") * 3000 + bytes(2048),
        b"no tar at all" * 100,
    ],
    ids=["negative-size", "back-to-itself", "negative-pax", "huge-pax", "huge-file", "endless-long-names", "garbage"],
)
def test_hostile_headers_neither_hang_nor_fill_memory(content: bytes) -> None:
    with pytest.raises(SourceError, match=r"^it is "):
        entries(content)


def sparse_map(count: int) -> bytes:
    """A sparse file as GNU tar's --format=posix writes it, with a map of so many pieces."""
    info = tarfile.TarInfo("a/1.png")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"}
    content = b"%d\n" % count + b"0\n" * (2 * count)
    info.size = len(content)
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def endless_map(count: int) -> bytes:
    """A sparse file as GNU tar's own format has it, whose map goes on in block after block."""
    first = bytearray(header("a/1.png", 0, tarfile.GNUTYPE_SPARSE))
    first[482] = 1  # is extended
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    return bytes(first) + ((b"00000000001\0" * 42) + b"\1" + bytes(7)) * (count // 21)


def global_headers(count: int) -> bytes:
    """A header for all that follows before each of a few empty files."""
    parts = []
    for i in range(count // 2500):
        told = {f"key{i}": "x" * 100_000}
        parts += [tarfile.TarInfo.create_pax_global_header(told), tarfile.TarInfo(f"a/{i}.txt").tobuf()]
    return b"".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize("make", [sparse_map, endless_map, global_headers])
def test_headers_that_grow_without_end_are_told(make: Callable[[int], bytes]) -> None:
    """In a tgz a thousandth of it: what all headers of a member ask for is bounded, not only each read of them."""
    few, many = make(50) + bytes(1024), make(600_000) + bytes(1024)
    assert len(entries(few)) < 2
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=r"^it is not a valid tar \(headers of more than 1,048,576 bytes"):
            entries(many)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bits_lose_nothing_silently(data: st.DataObject) -> None:
    handle = io.BytesIO()
    with tarfile.open(fileobj=handle, mode="w") as tar:
        for i in range(3):
            info = tarfile.TarInfo(f"a/{i}.jpg")
            info.size = 600
            tar.addfile(info, io.BytesIO(b"x" * 600))
    content = bytearray(handle.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 3 * 1536 + 511))] ^= 1 << data.draw(st.integers(0, 7))
    for start in range(0, 3 * 1536, 1536):  # the checksum of a header is a sum: flips that cancel out are not seen
        before, after = handle.getvalue()[start : start + 512], content[start : start + 512]
        assume(before == after or sum(before) != sum(after))
    with contextlib.suppress(SourceError):
        assert len(entries(bytes(content))) == 3


def test_gzip_at_random(tmp_path: Path) -> None:
    rng = random.Random(0)
    plain = b"".join(rng.randbytes(500) * 2 for _ in range(4000))
    (tmp_path / "g").write_bytes(gzip.compress(plain[:999_999]) + gzip.compress(b"") + gzip.compress(plain[999_999:]))
    packed = GzipFile(tmp_path / "g", spacing=1 << 17)
    for _ in range(300):
        offset, size = rng.randrange(len(plain) + 100), rng.randrange(100_000)
        assert packed.read_at(offset, size) == plain[offset : offset + size]
    assert len(packed._points) > 10
    again = pickle.loads(pickle.dumps(packed))
    assert again.read_at(123_456, 789) == plain[123_456 : 123_456 + 789]


def test_gzip_bounds_its_memory(tmp_path: Path) -> None:
    plain = random.Random(0).randbytes(2 << 20)
    (tmp_path / "g").write_bytes(gzip.compress(plain, 1))
    packed = GzipFile(tmp_path / "g", spacing=1 << 17, most=4)
    assert packed.read_at(0, len(plain)) == plain
    assert len(packed._points) <= 5
    assert packed.read_at(777_777, 9) == plain[777_777:][:9]


def read_all(path: Path) -> bytes:
    return GzipFile(path).read_at(0, 1 << 40)


def test_gzip_cut_or_damaged_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "g"
    whole = gzip.compress(random.Random(0).randbytes(2000) * 2)
    path.write_bytes(whole + bytes(100))  # padding is not a damage
    assert len(read_all(path)) == 4000
    for cut in range(1, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(SourceError, match="cut off"):
            read_all(path)
    path.write_bytes(whole + b"something")
    with pytest.raises(SourceError, match="has other data after its end"):
        read_all(path)
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])  # its checksum
    with pytest.raises(SourceError, match="damaged"):
        read_all(path)
    path.write_bytes(whole[:700] + bytes([whole[700] ^ 1]) + whole[701:])
    with pytest.raises(SourceError, match="damaged"):
        read_all(path)


def test_a_gzip_bomb_stays_small_in_memory(tmp_path: Path) -> None:
    squeeze = zlib.compressobj(9, wbits=31)
    with (tmp_path / "g").open("wb") as handle:
        for _ in range(64):
            handle.write(squeeze.compress(bytes(1 << 20)))
        handle.write(squeeze.flush())
    packed = GzipFile(tmp_path / "g")
    assert packed.read_at((64 << 20) - 3, 10) == bytes(3)
    assert len(packed._buffer) <= 65 << 20


def test_a_short_read_of_a_gzip_copies_no_more_than_it_gives(tmp_path: Path) -> None:
    """The headers in a tgz of 8 KB that unpacks to 8 MB took minutes: each copied all that was unpacked."""
    (tmp_path / "g").write_bytes(gzip.compress(bytes(8 << 20)))
    packed = GzipFile(tmp_path / "g")
    assert packed.read_at(0, 512) == bytes(512)
    tracemalloc.start()
    try:
        assert packed.read_at(512, 512) == bytes(512)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_plain_file_pickles_as_its_path(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    plain = PlainFile(tmp_path / "f")
    assert plain.read_at(2, 3) == b"234"
    assert pickle.loads(pickle.dumps(plain)).read_at(8, 5) == b"89"
