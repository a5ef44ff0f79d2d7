"""What is transparent is composed on the background, or kept as alpha; the colours that it hides come out nowhere."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from genmodel.data.imaging import transparency
from genmodel.data.imaging.decode import decode
from genmodel.data.imaging.resize import resize
from genmodel.data.making.recipe import Recipe

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]

RED = Recipe(background="#ff0000")


def plain(content: bytes, recipe: Recipe) -> np.ndarray:
    return np.asarray(decode(content, recipe)[0])


def clear(picture: Picture) -> Image.Image:
    """An RGBA image with every alpha, whose colours have nothing to do with it."""
    image = picture(1, 64, 48)
    alpha = np.arange(64 * 48, dtype=np.uint32).reshape(48, 64) * 83 >> 4
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return image


@pytest.mark.parametrize(
    ("background", "colour"), [("white", (255, 255, 255)), ("black", (0, 0, 0)), ("#12a0FF", (0x12, 0xA0, 0xFF))]
)
def test_it_is_composed_and_rounded_once(
    background: str, colour: tuple[int, int, int], picture: Picture, encode: Encode
) -> None:
    image = clear(picture)
    pixels = np.asarray(image).astype(float)
    share = pixels[..., 3:] / 255
    expected = np.floor(pixels[..., :3] * share + np.array(colour) * (1 - share) + 0.5)
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        found, facts = decode(encode(image, form, **options), Recipe(background=background))
        np.testing.assert_array_equal(np.asarray(found), expected)
        assert facts.repairs == "composed"


def test_a_checker_of_light_grey_squares(encode: Encode) -> None:
    found = plain(encode(Image.new("RGBA", (40, 24), (9, 8, 7, 0)), "PNG"), Recipe(background="checker"))
    assert found[0, 0].tolist() == found[7, 7].tolist() == found[8, 8].tolist() == [255] * 3
    assert found[0, 8].tolist() == found[7, 15].tolist() == found[8, 0].tolist() == [204] * 3
    assert set(np.unique(found)) == {204, 255}


def png(depth: int, kind: int, row: bytes, key: bytes) -> bytes:
    """A PNG of one row of two pixels, with a tRNS."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"tRNS", key) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "kind", "row", "key"),
    [
        (1, 0, b"\0\x80", struct.pack(">H", 1)),
        (2, 0, b"\0\x90", struct.pack(">H", 2)),
        (4, 0, b"\0\x5a", struct.pack(">H", 5)),
        (8, 0, b"\0\x55\xaa", struct.pack(">H", 0x55)),
        (16, 0, b"\0" + struct.pack(">2H", 0x1234, 0xAAAA), struct.pack(">H", 0x1234)),
        (8, 2, b"\0\1\2\3\4\5\6", b"\0\1\0\2\0\3"),
        (
            16,
            2,
            b"\0" + struct.pack(">6H", 0x1234, 0x2234, 0x3334, 1, 2, 3),
            struct.pack(">3H", 0x1234, 0x2234, 0x3334),
        ),
    ],
)
def test_one_level_or_colour_that_is_transparent(depth: int, kind: int, row: bytes, key: bytes) -> None:
    """Of all depths: Pillow compares 8 bits with what the file says in its own."""
    content = png(depth, kind, row, key)
    image, facts = decode(content, RED)
    assert np.asarray(image)[0, 0].tolist() == [255, 0, 0] and "composed" in facts.repairs
    assert np.asarray(image)[0, 1].tolist() != [255, 0, 0]


def half_hidden(source: Image.Image) -> np.ndarray:
    """Give every second pixel alpha 0; which these are."""
    hidden = np.arange(source.width * source.height).reshape(source.height, source.width) % 2 == 0
    source.putalpha(Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)))
    return hidden


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_alpha_of_every_mode(mode: str, picture: Picture) -> None:
    source = picture(1, 30, 20, mode)
    before = np.asarray(source.convert("RGB"))
    hidden = half_hidden(source)
    assert source.mode == {"L": "LA", "RGB": "RGBA", "P": "PA"}[mode]
    found = np.asarray(transparency.composed(source, RED)[0])
    assert (found[hidden] == [255, 0, 0]).all()
    np.testing.assert_array_equal(found[~hidden], before[~hidden])


@pytest.mark.parametrize("whole", [False, True])
def test_a_palette_with_transparent_colours(whole: bool, picture: Picture, encode: Encode) -> None:
    source = picture(1, 30, 20, "P")
    first = source.getpixel((0, 0))
    content = encode(source, "PNG", transparency=bytes(255 * (i != first) for i in range(256)) if whole else first)
    found, hidden = plain(content, RED), np.asarray(source) == first
    assert (found[hidden] == [255, 0, 0]).all()
    np.testing.assert_array_equal(found[~hidden], np.asarray(source.convert("RGB"))[~hidden])


def test_a_gif_and_what_is_opaque(picture: Picture, encode: Encode) -> None:
    source = picture(1, 30, 20, "P")
    clear_one = source.getpixel((3, 3))
    image, facts = decode(encode(source, "GIF", transparency=clear_one), RED)
    assert image.getpixel((3, 3)) == (255, 0, 0) and facts.repairs == "composed"
    opaque = picture(1, 30, 20).convert("RGBA")
    image, facts = decode(encode(opaque, "PNG"), RED)
    assert image.tobytes() == opaque.convert("RGB").tobytes() and (facts.mode, facts.repairs) == ("RGBA", "")


def test_blocks_of_format_2_go_on_to_ignore_it(picture: Picture, encode: Encode) -> None:
    image, facts = decode(encode(clear(picture), "PNG"), Recipe.of_block({"format": 2, "resize": "adm-1"}))
    assert image.tobytes() == clear(picture).convert("RGB").tobytes() and facts.repairs == ""


def four(image: Image.Image, encode: Encode, size: int, recipe: Recipe) -> np.ndarray:
    found, _ = decode(encode(image, "PNG"), recipe)
    return transparency.straight(resize(found, size), recipe.colour)


def test_the_fourth_channel(picture: Picture, encode: Encode) -> None:
    recipe = Recipe(channels=4, background="black")
    opaque = picture(1, 50, 40)
    found = four(opaque, encode, 16, recipe)
    assert (found[..., 3] == 255).all()
    np.testing.assert_array_equal(found[..., :3], resize(opaque, 16))
    image, facts = decode(encode(clear(picture), "PNG"), recipe)
    assert (image.mode, facts.repairs) == ("RGBa", "alpha")
    pixels = np.asarray(clear(picture)).astype(int)
    expected = np.floor(pixels[..., :3] * pixels[..., 3:] / 255 + 0.5)
    np.testing.assert_array_equal(np.asarray(image)[..., :3], expected)


def test_hidden_colours_do_not_come_into_their_neighbours(encode: Encode) -> None:
    """Left half green and opaque, right half of any colours, hidden: whatever these are, the same bytes."""
    made = []
    for hidden in ((255, 0, 255), (0, 0, 0)):
        pixels = np.zeros((64, 64, 4), np.uint8)
        pixels[:, :32] = 0, 200, 0, 255
        pixels[:, 32:] = *hidden, 0
        made.append(four(Image.fromarray(pixels), encode, 24, Recipe(channels=4)))
    np.testing.assert_array_equal(*made)
    shown = made[0][made[0][..., 3] > 16]
    assert (np.abs(shown[:, :3].astype(int) - [0, 200, 0]) <= 16).all()  # near alpha 0 there are few levels
    assert (made[0][made[0][..., 3] == 0][:, :3] == 255).all()
