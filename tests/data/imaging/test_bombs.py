"""Small files that ask for much memory: it is not taken."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from genmodel.data.imaging.decode import decode
from genmodel.data.sources.members import Reject


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    facts = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", facts) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def png_with(kind: bytes, content: bytes) -> bytes:
    """A PNG of one chunk more, behind its header."""
    whole, head = png(6, 5), 8 + 25
    packed = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return whole[:head] + packed + whole[head:]


def tiff(*more: tuple[int, int, int]) -> bytes:
    """16x16 grey pixels by deflate; `more` tags of (number, how many, value), each a LONG."""
    data = zlib.compress(bytes(1 << 20))
    tags = [(256, 1, 16), (257, 1, 16), (258, 1, 8), (259, 1, 8), (262, 1, 1), (277, 1, 1), *more]
    place = 8 + 2 + 12 * (len(tags) + 2) + 4
    places, lengths = (324, 325) if any(tag == 322 for tag, _, _ in more) else (273, 279)
    tags += [(places, 1, place), (lengths, 1, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def grown_jpeg2000() -> bytes:
    """Small by its box, huge by its code stream."""
    handle = io.BytesIO()
    Image.new("RGB", (64, 64)).save(handle, "JPEG2000")
    content = handle.getvalue()
    at = content.index(b"\xff\x4f\xff\x51") + 8
    return content[:at] + struct.pack(">IIIIII", 60_000, 60_000, 0, 0, 60_000, 60_000) + content[at + 24 :]


def grown_avif() -> bytes:
    """Huge by its property, small by its frame: beyond the limit, or else libavif would make it that large."""
    handle = io.BytesIO()
    Image.new("RGB", (64, 64)).save(handle, "AVIF")
    content = handle.getvalue()
    at = content.index(b"ispe") + 8
    return content[:at] + struct.pack(">II", 60_000, 60_000) + content[at + 8 :]


BOMBS = {
    "zTXt.png": png_with(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(400 << 20))),
    "iTXt.png": png_with(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(400 << 20))),
    "iCCP.png": png_with(b"iCCP", b"sRGB\0\0" + zlib.compress(bytes(400 << 20))),
    "length.png": png(6, 5)[:33] + b"\x7f\xff\xff\xffIDAT",
    "tile.tif": tiff((322, 1, 40_000), (323, 1, 40_000)),
    "tag.tif": tiff((278, 1, 16), (700, 1 << 31, 0)),
    "rows.tif": tiff((278, 1, 2**32 - 1)),
    "frame.gif": b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    "text.gif": b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + b"!\xfe" + (b"\xff" + b"x" * 255) * 40_000,
    "stream.jp2": grown_jpeg2000(),
    "property.avif": grown_avif(),
}


PEAK = """
import sys
from pathlib import Path
from genmodel.data.sources.members import Reject
from genmodel.data.imaging.decode import decode
content = Path(sys.argv[1]).read_bytes()
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) >> 10
before = peak()
try:
    decode(content)
except Reject as reject:
    print(reject, file=sys.stderr)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of a process's memory in /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_asks_for_memory_gets_none(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BOMBS[name])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", PEAK, str(tmp_path / name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120, f"MiB ({done.stderr})"


def test_tiles_of_their_usual_size_are_fine() -> None:
    assert decode(tiff((322, 1, 256), (323, 1, 256)))[0].size == (16, 16)
    with pytest.raises(Reject, match=r"^tiles of 40000x40000 pixels in an image of 16x16$"):
        decode(BOMBS["tile.tif"])


@pytest.mark.parametrize("side", [10_000, 100_000])
def test_an_image_of_too_many_pixels_is_rejected(side: int) -> None:
    with pytest.raises(Reject, match=r"^more than"):
        decode(png(side, side))
