"""JPEG XL's header, by the first bytes of files that libjxl wrote."""

import pytest

from genmodel.data.imaging import jxl
from genmodel.data.imaging.decode import decode
from genmodel.data.making.recipe import Recipe
from genmodel.data.sources.members import Reject

WRITTEN = {
    (64, 48): "ff0acb4052dc080013880200",
    (8, 8): "ff0a414052dc080013880200",
    (1, 1): "ff0a00109014370200138802",
    (500, 375): "ff0ab03b9014370200138802",
    (1600, 900): "ff0a1a1c0549712300138802",
    (37, 411): "ff0ad00c4880a4b811001388",
    (3000, 2): "ff0a08806e17488a1b010013",
    (9000, 17): "ff0a80004f46004971230013",
}


@pytest.mark.parametrize("size", WRITTEN)
def test_the_size_is_known_from_the_header(size: tuple[int, int]) -> None:
    stream = bytes.fromhex(WRITTEN[size]) + bytes(99)
    assert jxl.size(stream) == size
    boxes = b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
    whole = (8 + len(stream)).to_bytes(4, "big") + b"jxlc" + stream
    part = (12 + len(stream)).to_bytes(4, "big") + b"jxlp" + bytes(4) + stream
    assert jxl.size(boxes + whole) == jxl.size(boxes + part) == size
    assert jxl.size(boxes + b"\0\0\0\0Exif") is None


def test_a_large_one_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(Reject, match="more than 100 pixels"):
        decode(bytes.fromhex(WRITTEN[37, 411]), Recipe(max_pixels=100))
    huge = (1 << 30) - 1  # both sides of 30 bits: 0, then 3, the side, no ratio, 3, the side
    bits = 0b11 << 1 | huge << 3 | 0 << 33 | 0b11 << 36 | huge << 38
    with pytest.raises(Reject, match="more than 89,478,485 pixels"):
        decode(b"\xff\x0a" + bits.to_bytes(10, "little"))
