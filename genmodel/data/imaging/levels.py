"""Grey levels of more than 8 bits, scaled to 8 by the range that their file declares."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from genmodel.data.making.recipe import DECLARED
from genmodel.data.sources.members import Reject

_BITS, _MOST = 258, 281  # TIFF's tags BitsPerSample and MaxSampleValue
_SIZ, _DEPTH = b"\xff\x4f\xff\x51", 42  # JPEG 2000's first markers, and the offset from them of the first depth
_NETPBM = re.compile(rb"P[25](?:(?:\s|#[^\n\r]*[\n\r])+\d+){2}(?:\s|#[^\n\r]*[\n\r])+(\d+)")


def is_deep(image: Image.Image) -> bool:
    """Whether an image's levels have more than 8 bits; Reject for floating-point numbers."""
    if image.mode == "F":
        raise Reject("floating-point pixels, whose range is unknown")
    return image.mode.startswith("I")


def to_8_bits(image: Image.Image, content: bytes, asked: int | str) -> tuple[Image.Image, bool]:
    """The L image of 16-bit levels, or LA where one of these is transparent, and whether fewer than 16 bits count.

    `asked` is how many bits count, or "declared". Each level becomes level * 255 / (2 ** bits - 1), rounded.
    """
    levels = np.asarray(image).astype(np.int64)
    most = int(levels.max())
    if levels.min() < 0 or most > 0xFFFF:
        raise Reject("32-bit pixels, whose range is unknown")
    bits = _declared(image, content) if asked == DECLARED else int(asked)
    if asked == DECLARED and image.format == "JPEG2000":
        levels >>= 16 - bits  # Pillow has shifted them up
    elif asked == DECLARED and (most >> bits or (image.format == "PNG" and not (levels & (1 << 16 - bits) - 1).any())):
        bits = 16  # they fill all 16 bits, as PNG's specification says
    elif most >> bits:
        raise Reject(f"a level of {most:,}, which has more than {bits} bits")
    top = (1 << bits) - 1
    grey = Image.fromarray(((levels * 255 + top // 2) // top).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(np.asarray(image) == clear, 0, 255).astype(np.uint8)))
    return grey, bits < 16 or _is_scaled(content)


def _declared(image: Image.Image, content: bytes) -> int:
    """How many bits count, of 9 to 16."""
    bits = 16
    if image.format == "PNG":
        bits = _png_bits(content)
    elif image.format == "TIFF":
        tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
        bits, most = (_first(tags.get(tag, 16)) for tag in (_BITS, _MOST))
        if bits == 16 and most & (most + 1) == 0:  # a whole number of bits, not a measured maximum
            bits = most.bit_length()
    elif image.format == "JPEG2000" and _SIZ in content:
        bits = (content[content.index(_SIZ) + _DEPTH] & 0x7F) + 1
    return bits if 8 < bits < 16 else 16


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _png_bits(content: bytes) -> int:
    """How many bits count by the chunk sBIT, which comes before the pixels."""
    at = 8
    while at + 9 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if kind == b"sBIT":
            return content[at + 8]
        if kind == b"IDAT":
            break
        at += 12 + length
    return 16


def _is_scaled(content: bytes) -> bool:
    """Whether Pillow has scaled the levels of a PGM because its maximum is not 65535."""
    header = _NETPBM.match(content)
    return header is not None and header[1] != b"65535"
