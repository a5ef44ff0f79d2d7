"""The short way gives what Pillow's own gives, or nothing."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genmodel.data.imaging import jpeg
from genmodel.data.imaging.decode import Facts, decode
from genmodel.data.making.recipe import Recipe
from genmodel.data.sources.members import Reject

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]


def the_whole_way(content: bytes) -> tuple[np.ndarray, Facts] | None:
    """What decode makes of it without the short way; None if it rejects it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "decoded", lambda *_: None)
        try:
            image, facts = decode(content)
        except Reject:
            return None
    return np.asarray(image), facts


def assert_same(content: bytes) -> bool:
    """Whether it is decoded the short way; if so, as the whole way does it."""
    usual = jpeg.decoded(content)
    if usual is None:
        return False
    image, size = usual
    assert size == image.size
    whole = the_whole_way(content)
    assert whole is not None
    np.testing.assert_array_equal(np.asarray(image), whole[0])
    assert decode(content)[1] == whole[1] == Facts(image.width, image.height, "RGB", "JPEG", "")
    return True


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 30, "subsampling": 0},
        {"quality": 100, "subsampling": 1},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 3},
        {"comment": b"by hand"},
        {"dpi": (300, 300)},
        {"icc_profile": b"profile" * 20_000},
        {"keep_rgb": True},
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (500, 375), (17, 300)])
def test_usual_jpegs_take_the_short_way(
    size: tuple[int, int], options: dict[str, Any], picture: Picture, encode: Encode
) -> None:
    assert assert_same(encode(picture(3, *size), "JPEG", **options))


def test_others_do_not(picture: Picture, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    usual = encode(picture(1, 40, 30), "JPEG")
    others = [
        encode(picture(1, 40, 30, "L"), "JPEG"),
        encode(picture(1, 40, 30, "CMYK"), "JPEG"),
        encode(picture(1, 40, 30), "JPEG", exif=exif),
        encode(picture(1, 40, 30), "MPO", save_all=True, append_images=[picture(2, 40, 30)]),
        encode(picture(1, 40, 30), "PNG"),
        usual[:2],
        usual[:200],
        usual[:-20],
        b"",
    ]
    assert jpeg.decoded(usual) is not None
    assert [jpeg.decoded(other) for other in others] == [None] * len(others)


def test_more_pixels_than_pillow_allows_are_left_to_it(
    picture: Picture, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encode(picture(1, 40, 30), "JPEG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 30 - 1)
    assert jpeg.decoded(content) is None
    with pytest.raises(Reject, match="more than 1,199 pixels"):
        decode(content, Recipe(max_pixels=1199))


@pytest.mark.slow
@given(st.data())
@settings(deadline=None, max_examples=300)
def test_damage_never_gives_other_pixels(data: Any) -> None:
    handle = io.BytesIO()
    levels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(levels).save(handle, "JPEG", quality=50, progressive=data.draw(st.booleans()))
    content = bytearray(handle.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    assert_same(bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert_same(bytes(content))


@pytest.mark.slow
def test_real_images(shared: Callable[[str], str]) -> None:
    from genmodel.data.sources.meaning.arrange import listing_of
    from genmodel.data.sources.opening import open_source

    source = open_source(shared("ILSVRC2012_img_train.sample.tar"))
    members = listing_of(source).members[::8]
    assert sum(assert_same(source.read(member)) for member in members) > 0.8 * len(members)
