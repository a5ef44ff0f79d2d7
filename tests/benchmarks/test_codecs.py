"""Bits of images without a model: files without their headers, and a Gaussian whose masses sum to 1."""

import io
import math
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import codecs


def image(channels: int, size: int = 12) -> np.ndarray:
    """A slope with some noise, that both codecs can shorten."""
    noise = np.random.default_rng(channels).integers(0, 9, (size, size, channels))
    return (noise + np.arange(size)[:, None, None] * 9).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("code", [codecs.png, codecs.webp])
def test_a_file_decodes_to_the_image(code, channels: int) -> None:  # type: ignore[no-untyped-def]
    mine = image(channels)
    with Image.open(io.BytesIO(code(mine))) as decoded:
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        assert (np.asarray(decoded.convert(mode)).reshape(mine.shape) == mine).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_bytes_of_a_png_without_headers_are_the_deflated_rows(channels: int) -> None:
    mine = image(channels)
    content = codecs.png(mine)
    assert (
        len(content) - codecs.bare(content) == 8 + 25 + 12 + 12 + 6
    )  # signature, IHDR, IDAT's and IEND's frames, zlib's
    start = content.index(b"IDAT") + 4 + 2
    rows = zlib.decompress(content[start : start + codecs.bare(content)], -15)
    assert len(rows) == 12 * (1 + 12 * channels)  # a filter's number before each row
    large = codecs.png(np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8))
    parts = large.count(b"IDAT")
    assert parts > 1 and len(large) - codecs.bare(large) == 8 + 25 + 12 * parts + 12 + 6


def test_the_bytes_of_a_webp_without_headers_leave_out_the_frame() -> None:
    for channels in (1, 3, 4):
        for size in (8, 12, 13, 40):
            content = codecs.webp(image(channels, size))
            assert content[12:16] == b"VP8L"
            assert len(content) - codecs.bare(content) in (12 + 8 + 5, 12 + 8 + 5 + 1)  # a chunk has an even length


@pytest.mark.parametrize("mean", [-40.0, 0.0, 3.2, 127.5, 254.9, 300.0])
@pytest.mark.parametrize("deviation", [0.05, 0.25, 1.0, 20.0, 500.0])
def test_the_masses_of_the_256_levels_sum_to_1(mean: float, deviation: float) -> None:
    levels = torch.arange(256)
    logs = codecs.log_mass(levels, torch.tensor(mean).double(), torch.tensor(deviation).double())
    assert torch.isfinite(logs).all()
    assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-9)
    edges = torch.cat([torch.tensor([-math.inf]), levels[1:] - 0.5, torch.tensor([math.inf])]).double()
    masses = torch.distributions.Normal(mean, deviation).cdf(edges).diff()
    torch.testing.assert_close(logs.exp(), masses, atol=1e-7, rtol=1e-4)


def test_a_gaussian_is_fitted_to_each_value_and_pays_for_what_it_does_not_expect() -> None:
    rng = np.random.default_rng(0)
    deviations = rng.uniform(5, 30, (6, 6, 3))
    draw = lambda n: (128 + deviations * rng.normal(size=(n, 6, 6, 3))).round().clip(0, 255).astype(np.uint8)  # noqa: E731
    bits = codecs.gaussian_bits(draw(4000), draw(500))
    entropy = np.log2(deviations * math.sqrt(2 * math.pi * math.e)).mean()  # of rounded numbers of these deviations
    assert float(bits.mean()) == pytest.approx(entropy, abs=0.02)
    constant = np.full((500, 6, 6, 3), 7, np.uint8)
    odd = constant.copy()
    odd[0, 0, 0] = 200
    assert codecs.gaussian_bits(constant, constant).max() < 0.1
    assert codecs.gaussian_bits(constant, odd)[0] > 8


def test_a_border_that_is_not_always_black_sets_the_floor() -> None:
    """One train image in ten of the tenth that chooses the floor has a white pixel: its deviation cannot be 0."""
    train = np.zeros((1000, 4, 4, 1), np.uint8)
    train[9::100, 0, 0] = 255
    white = np.zeros((1, 4, 4, 1), np.uint8)
    white[0, 0, 0] = 255
    assert float(codecs.gaussian_bits(train, white)) < 0.5 * (255 / 0.25) ** 2 / math.log(2) / 16 / 100
