"""Halves are Pillow's own, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genmodel.data.halve import _pixels, halve

BOX = Image.Resampling.BOX


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8))


def assert_is_pillows(image: Image.Image) -> None:
    before = image.tobytes()
    columns = image.resize((image.width // 2, image.height), BOX)
    expected = columns.resize((image.width // 2, image.height // 2), BOX)
    halved = halve(image)
    assert (halved.mode, halved.size) == (expected.mode, expected.size)
    assert halved.tobytes() == expected.tobytes()
    assert image.tobytes() == before


@given(st.integers(2, 700), st.integers(2, 700))
@settings(deadline=None)
def test_any_size(width: int, height: int) -> None:
    assert_is_pillows(noise(width, height))


@pytest.mark.parametrize("size", [*range(3, 1200, 2), 4095, 5001, 39_999])
def test_every_odd_side(size: int) -> None:
    """Where the odd line falls differs from size to size."""
    assert_is_pillows(noise(size, 4))
    assert_is_pillows(noise(4, size))


def test_an_image_that_pillow_keeps_in_pieces() -> None:
    image = noise(2101, 2100)
    assert _pixels(image) is None
    assert_is_pillows(image)


def test_what_is_resized_next_is_the_same_too() -> None:
    """The fourth byte of a pixel, which is not looked at, leaks into nothing."""
    image = noise(501, 375)
    expected = image.resize((250, 375), BOX).resize((250, 187), BOX).resize((171, 128), Image.Resampling.BICUBIC)
    assert halve(image).resize((171, 128), Image.Resampling.BICUBIC).tobytes() == expected.tobytes()
