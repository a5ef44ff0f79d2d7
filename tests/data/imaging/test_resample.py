"""What is compiled is Pillow's own, bit for bit; and Pillow takes over where nothing can be compiled."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genmodel.data.imaging import kernels, resample
from genmodel.data.imaging.resample import bicubic, halve
from genmodel.sizes import Size


@pytest.fixture(autouse=True, scope="module")
def loops() -> kernels.Kernels:
    found = kernels.compiled()
    assert found is not None
    return found


BOX, BICUBIC = Image.Resampling.BOX, Image.Resampling.BICUBIC


def noise(width: int, height: int) -> Image.Image:
    """Black and white as often as anything between, so that sums beyond both ends are met."""
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(-128, 384, (height, width, 3)).clip(0, 255).astype(np.uint8))


def assert_half_is_pillows(image: Image.Image) -> None:
    before = image.tobytes()
    columns = image.resize((image.width // 2, image.height), BOX)
    expected = columns.resize((image.width // 2, image.height // 2), BOX)
    halved = halve(image)
    assert (halved.mode, halved.size) == (expected.mode, expected.size)
    assert halved.tobytes() == expected.tobytes()
    assert image.tobytes() == before


def assert_bicubic_is_pillows(image: Image.Image, size: tuple[int, int], side: int) -> None:
    (width, height), before = size, image.tobytes()
    whole = np.asarray(image.resize((width, image.height), BICUBIC).resize(size, BICUBIC))
    left, top = (width - side) // 2, (height - side) // 2
    found = bicubic(image, size, Size(side, side))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, whole[top : top + side, left : left + side])
    assert image.tobytes() == before


def test_it_is_the_compiled_loops_that_are_tested() -> None:
    assert resample.loaded() is not None
    assert resample._pixels(noise(5, 4)) is not None


@given(st.integers(2, 700), st.integers(2, 700))
@settings(deadline=None)
def test_halves_of_any_size(width: int, height: int) -> None:
    assert_half_is_pillows(noise(width, height))


@pytest.mark.parametrize("size", [*range(3, 1200, 2), 4095, 5001, 39_999])
def test_halves_of_every_odd_side(size: int) -> None:
    """Where the odd line falls differs from size to size."""
    assert_half_is_pillows(noise(size, 4))
    assert_half_is_pillows(noise(4, size))


@given(st.integers(1, 600), st.integers(1, 600), st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
@settings(deadline=None)
def test_bicubic_of_any_size(width: int, height: int, to_width: int, to_height: int, side: int) -> None:
    assert_bicubic_is_pillows(noise(width, height), (to_width, to_height), min(side, to_width, to_height))


@pytest.mark.parametrize("target", [64, 128, 256])
def test_bicubic_of_every_short_side(target: int) -> None:
    """All that are left after halving, and some that are enlarged, each beside a long one."""
    for short in range(target - 9, 2 * target):
        long = short * 4 // 3
        scale = target / short
        band = noise(long, 3)  # the horizontal pass alone, and the vertical one alone
        assert_bicubic_is_pillows(band, (round(long * scale), 3), 3)
        assert_bicubic_is_pillows(band.transpose(Image.Transpose.TRANSPOSE), (3, round(long * scale)), 3)
        assert_bicubic_is_pillows(noise(short, 2), (target, 2), 2)


def test_an_image_that_pillow_keeps_in_pieces() -> None:
    image = noise(2101, 2100)
    assert resample._pixels(image) is None
    assert_half_is_pillows(image)
    assert_bicubic_is_pillows(image, (1201, 1200), 1000)


def test_what_is_resized_next_is_the_same_too() -> None:
    """The fourth byte of a pixel, which is not looked at, leaks into nothing."""
    image = noise(501, 375)
    expected = image.resize((250, 375), BOX).resize((250, 187), BOX).resize((171, 187), BICUBIC)
    found = bicubic(halve(image), (171, 128), Size(128, 128))
    np.testing.assert_array_equal(found, np.asarray(expected.resize((171, 128), BICUBIC))[:, 21:149])


def test_without_numba_it_is_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "loaded", lambda: None)
    assert_half_is_pillows(noise(51, 37))
    assert_bicubic_is_pillows(noise(51, 37), (44, 32), 32)


@pytest.mark.slow
def test_who_does_not_ask_for_the_loops_gets_pillow() -> None:
    code = "from genmodel.data.imaging import kernels as k; print(k.loaded()); k.compiled(); print(k.loaded() is None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "False"]


def test_without_pyarrow_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert kernels.compiled.__wrapped__() is None


PRINT_HALF = """
import numpy as np
from PIL import Image
from genmodel.data.imaging import kernels, resample
pixels = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
print(kernels.compiled(), np.asarray(resample.halve(Image.fromarray(pixels))).sum())
from numba import njit
try:
    njit(cache=True)(resample.halve)
except RuntimeError as error:
    print("cannot cache" in str(error))
"""


@pytest.mark.slow
def test_where_nothing_can_be_kept_it_is_pillow() -> None:
    """As on a machine where all folders that numba looks at are read-only."""
    root = Path(__file__).parent.parent.parent.parent
    unnamed = "UserProvidedCacheLocator"  # the folder that NUMBA_CACHE_DIR names, which is unset
    done = subprocess.run(
        [sys.executable, "-c", PRINT_HALF],
        env={**os.environ, "PYTHONPATH": str(root), "NUMBA_CACHE_LOCATOR_CLASSES": unnamed},
        capture_output=True,
        text=True,
        check=True,
    )
    pixels = Image.fromarray(np.arange(90, dtype=np.uint8).reshape(5, 6, 3))
    assert done.stdout.split() == ["None", str(np.asarray(halve(pixels)).sum()), "True"]


@given(st.integers(8, 300), st.integers(8, 300), st.integers(0, 63), st.integers(0, 63), st.integers(1, 90))
@settings(deadline=None, max_examples=60)
def test_bicubic_of_a_part_is_pillows_box(width: int, height: int, less: int, lower: int, side: int) -> None:
    image, extent = noise(width, height), (width - less / 64, height - lower / 64)
    band = image.resize((side, height), BICUBIC, box=(0, 0, extent[0], height))
    whole = np.asarray(band.resize((side, side), BICUBIC, box=(0, 0, side, extent[1])))
    np.testing.assert_array_equal(bicubic(image, (side, side), Size(side, side), extent), whole)


def test_four_bands_are_pillows() -> None:
    rng = np.random.default_rng(1)
    image = Image.frombytes("RGBa", (151, 97), rng.integers(0, 256, (97, 151, 4), np.uint8))
    assert_half_is_pillows(image)
    whole = np.asarray(image.resize((70, 97), BICUBIC).resize((70, 50), BICUBIC))
    np.testing.assert_array_equal(bicubic(image, (70, 50), Size(height=40, width=60)), whole[5:45, 5:65])


@pytest.mark.parametrize("size", [(64, 64), (64, 91), (131, 64), (8, 8), (256, 300)])
def test_an_image_of_its_size_is_not_resampled_and_has_the_same_bits(
    size: tuple[int, int], loops: kernels.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, side = noise(*size), min(size)
    (width, height), (left, top) = size, ((length - side) // 2 for length in size)
    pixels = resample._pixels(image)
    assert pixels is not None
    band = loops.horizontal(pixels, *loops.taps(width, width, width, left, side, True))
    expected = loops.vertical(band, *loops.taps(height, height, height, top, side, True), 3)
    np.testing.assert_array_equal(expected, np.asarray(image)[top : top + side, left : left + side])
    monkeypatch.setattr(resample, "loaded", lambda: pytest.fail("was resampled"))
    np.testing.assert_array_equal(bicubic(image, size, Size(side, side)), expected)
