"""Ordinary JPEGs, decoded by Pillow's decoder without Pillow's bookkeeping, which takes as long for a small image.

Anything unusual or incomplete is left to Image.open, which says what is wrong with it.
"""

from PIL import Image
from PIL import _imaging as core

_START, _SCAN = b"\xff\xd8\xff", 0xDA
_FRAMES = 0xC0, 0xC1, 0xC2  # baseline, extended, progressive
_TABLES = 0xC4, 0xDB, 0xDD, 0xFE  # Huffman, quantisation, restart interval; a comment
_APPS = range(0xE0, 0xF0)
_EXIF, _MORE = 0xE1, 0xE2  # Pillow needs what is in these: orientation, several images in one
_KNOWN = {*_TABLES, *_APPS} - {_EXIF}


def decoded(content: bytes, need: tuple[int, int] | None = None) -> tuple[Image.Image, tuple[int, int]] | None:
    """The RGB image of a JPEG's bytes, the same as Image.open's, and the JPEG's own width and height.

    `need` is Image.draft's argument: a width and a height that the image may be reduced to, by 2, 4 or 8. None if it is
    not an ordinary JPEG, or incomplete.
    """
    try:
        size = _size(content)
        if size is None:
            return None
        ratio = min(size[0] // need[0], size[1] // need[1]) if need else 1
        scale = next((scale for scale in (8, 4, 2) if ratio >= scale), 1)
        reduced = -(-size[0] // scale), -(-size[1] // scale)
        pixels = core.new("RGB", reduced)
        decoder = Image._getdecoder("RGB", "jpeg", ("RGB", ""), (scale, 0))
        decoder.setimage(pixels, (0, 0, *reduced))
        left, error = decoder.decode(content)
        return (Image.Image()._new(pixels), size) if left < 0 <= error else None  # below 0: it reached the end
    except Exception:  # noqa: BLE001  # damaged bytes, or another Pillow
        return None


def _size(content: bytes) -> tuple[int, int] | None:
    """Width and height from the header, if it describes three colours of 8 bits and nothing unusual; else None."""
    if not content.startswith(_START):
        return None
    at, size = 2, None
    while content[at] == 0xFF:
        kind, length = content[at + 1], content[at + 2] << 8 | content[at + 3]
        if kind == _SCAN:
            limit = Image.MAX_IMAGE_PIXELS
            return size if size and limit and 0 < size[0] * size[1] <= limit else None
        if kind in _FRAMES:
            if size or content[at + 4] != 8 or content[at + 9] != 3:
                return None
            size = content[at + 7] << 8 | content[at + 8], content[at + 5] << 8 | content[at + 6]
        elif kind not in _KNOWN or (kind == _MORE and content[at + 4 : at + 8] == b"MPF\0"):
            return None
        at += 2 + length
    return None
