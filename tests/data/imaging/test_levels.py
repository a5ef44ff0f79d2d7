"""Levels of 16 bits are scaled by the bits that count: as the file declares, or as a person says."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from genmodel.data.imaging.decode import decode
from genmodel.data.making.recipe import DECLARED, Recipe
from genmodel.data.sources.members import Reject

Encode = Callable[..., bytes]

TWELVE = np.linspace(0, 4095, 600).round().astype(np.uint16).reshape(20, 30)
EXPECTED = np.floor(TWELVE * (255 / 4095) + 0.5).astype(np.uint8)


def grey(content: bytes, bits: int | str = DECLARED) -> tuple[np.ndarray, str]:
    image, facts = decode(content, Recipe(bits=bits))
    pixels = np.asarray(image)
    assert (pixels[..., :1] == pixels).all()
    return pixels[..., 0], facts.repairs


def with_sbit(content: bytes, bits: int) -> bytes:
    chunk = b"sBIT" + bytes([bits])
    packed = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content[:33] + packed + content[33:]


def test_a_png_that_declares_12_bits(encode: Encode) -> None:
    found, repairs = grey(with_sbit(encode(Image.fromarray(TWELVE), "PNG"), 12))
    np.testing.assert_array_equal(found, EXPECTED)
    assert repairs == "16-bit,declared-bits"


@pytest.mark.parametrize("filled", [0, 1])
def test_a_png_whose_12_bits_fill_16_as_its_specification_says(filled: int, encode: Encode) -> None:
    """A dark one, too, which has no level above 4095."""
    for levels in (TWELVE, TWELVE >> 5):
        whole = levels << 4 | (levels >> 8) * filled
        found, _ = grey(with_sbit(encode(Image.fromarray(whole), "PNG"), 12))
        np.testing.assert_array_equal(found, np.floor(whole * (255 / 65535) + 0.5).astype(np.uint8))


def test_a_tiff_of_12_bits_and_one_that_declares_its_greatest_level(encode: Encode) -> None:
    image = Image.fromarray(TWELVE)
    found, repairs = grey(encode(image, "TIFF", tiffinfo={281: 4095}))
    np.testing.assert_array_equal(found, EXPECTED)
    assert repairs == "16-bit,declared-bits"
    for statistic in (4000, 4094, 65535, 255):  # no whole number of bits, or not these
        found, repairs = grey(encode(image, "TIFF", tiffinfo={281: statistic}))
        np.testing.assert_array_equal(found, np.floor(TWELVE * (255 / 65535) + 0.5).astype(np.uint8))
        assert repairs == "16-bit"


def tiff_of_12_bits() -> bytes:
    """Two levels in three bytes."""
    levels = TWELVE.ravel().astype(int)
    data = bytes(
        byte
        for a, b in zip(levels[::2], levels[1::2], strict=True)
        for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255)
    )
    tags = [(256, 30), (257, 20), (258, 12), (259, 1), (262, 1), (273, 8 + 2 + 12 * 9 + 4), (277, 1), (278, 20)]
    tags.append((279, len(data)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def test_a_tiff_that_packs_12_bits() -> None:
    found, repairs = grey(tiff_of_12_bits())
    np.testing.assert_array_equal(found, EXPECTED)
    assert repairs == "16-bit,declared-bits"


def test_a_pgm_by_its_maximum() -> None:
    found, repairs = grey(b"P5\n# made by hand\n30 20\n4095\n" + TWELVE.astype(">u2").tobytes())
    np.testing.assert_array_equal(found, EXPECTED)
    assert repairs == "16-bit,declared-bits"
    found, repairs = grey(b"P5 30 20 65535 " + TWELVE.astype(">u2").tobytes())
    assert found.max() == 16 and repairs == "16-bit"


def test_jpeg_2000_by_its_depth(encode: Encode) -> None:
    found, repairs = grey(encode(Image.fromarray(TWELVE << 4), "JPEG2000"))
    np.testing.assert_array_equal(found, np.floor((TWELVE << 4) * (255 / 65535) + 0.5).astype(np.uint8))
    assert repairs == "16-bit"
    # Levels are written as differences from the middle of their range, of 12 bits 2,048: Pillow writes 16 bits alone.
    content = bytearray(encode(Image.fromarray(TWELVE + np.uint16(32768 - 2048)), "JPEG2000", no_jp2=True))
    content[42] = 12 - 1
    found, repairs = grey(bytes(content))
    np.testing.assert_array_equal(found, EXPECTED)
    assert repairs == "16-bit,declared-bits"


def test_a_person_may_say_how_many_bits_count(encode: Encode) -> None:
    content = encode(Image.fromarray(TWELVE), "PNG")
    assert grey(content)[0].max() == 16  # of 16 bits, as nothing is declared
    found, repairs = grey(content, 12)
    np.testing.assert_array_equal(found, EXPECTED)
    assert repairs == "16-bit,declared-bits"
    with pytest.raises(Reject, match="a level of 4,095, which has more than 11 bits"):
        grey(content, 11)
    np.testing.assert_array_equal(grey(with_sbit(content, 12), 16)[0], grey(content)[0])
