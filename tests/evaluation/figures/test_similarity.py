import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from scipy.signal import convolve2d
from torch import Tensor

from genmodel.evaluation.figures.similarity import ms_ssim, psnr, ssim


def pair(side: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    a = zoom(rng.uniform(0, 255, (2, 3, 4, 4)), (1, 1, side / 4, side / 4), order=1)
    b = a + rng.normal(0, noise, a.shape)
    return torch.tensor(a), torch.tensor(b)


def plain(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """SSIM of one channel, and its part without luminance, as the paper's formulas stand."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    blur = lambda image: convolve2d(image, window, mode="valid")  # noqa: E731
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    structure = (2 * cov + c2) / (va + vb + c2)
    return float(((2 * ma * mb + c1) / (ma**2 + mb**2 + c1) * structure).mean()), float(structure.mean())


def test_ssim_is_the_papers() -> None:
    a, b = pair(24, noise=30)
    expected = [
        np.mean([plain(x, y)[0] for x, y in zip(p, q, strict=True)]) for p, q in zip(a.numpy(), b.numpy(), strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1e-9)


@pytest.mark.parametrize(("side", "scales"), [(16, 1), (32, 2), (64, 3), (176, 5)])
def test_ms_ssim_is_the_papers_over_as_many_scales_as_fit(side: int, scales: int) -> None:
    a, b = pair(side, noise=40)
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    weights /= weights.sum()
    expected = []
    for p, q in zip(a.numpy(), b.numpy(), strict=True):
        product = 1.0
        for scale in range(scales):
            parts = np.array([plain(x, y) for x, y in zip(p, q, strict=True)]).mean(axis=0)
            product *= max(0.0, parts[0 if scale == scales - 1 else 1]) ** weights[scale]
            half = p.shape[1] // 2
            p, q = (c[:, : 2 * half, : 2 * half].reshape(3, half, 2, half, 2).mean(axis=(2, 4)) for c in (p, q))
        expected.append(product)
    np.testing.assert_allclose(ms_ssim(a, b), expected, rtol=1e-9)


@pytest.mark.parametrize("side", [8, 16, 64])
def test_an_image_is_wholly_like_itself_and_less_like_others(side: int) -> None:
    a, b = pair(side, noise=60)
    torch.testing.assert_close(ms_ssim(a, a), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(ssim(a, a), torch.ones(2, dtype=torch.float64))
    assert (ms_ssim(a, b) < 0.95).all() and (ms_ssim(a, b) >= 0).all()


def test_psnr_is_a_logarithm_of_the_error_and_ends_where_rounding_begins() -> None:
    a = torch.full((2, 3, 8, 8), 100.0)
    b = a + torch.tensor([25.5, 0.0]).view(2, 1, 1, 1)
    np.testing.assert_allclose(psnr(a, b), [20.0, 58.92], atol=0.005)


@pytest.mark.parametrize("channels", [1, 4])
def test_rectangles_are_as_alike_upright_as_lying_and_channels_count_alike(channels: int) -> None:
    rng = torch.Generator().manual_seed(0)
    a = torch.randint(0, 256, (3, channels, 24, 64), generator=rng).double()
    b = (a + torch.randint(-40, 40, a.shape, generator=rng)).clamp(0, 255)
    for similarity in (ssim, ms_ssim):
        found = similarity(a, b)
        torch.testing.assert_close(similarity(a.mT, b.mT), found)
        assert ((found > 0) & (found < 1)).all()
    each = torch.stack([ssim(a[:, [channel]], b[:, [channel]]) for channel in range(channels)])
    torch.testing.assert_close(ssim(a, b), each.mean(dim=0))
