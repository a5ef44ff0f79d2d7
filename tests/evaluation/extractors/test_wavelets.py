import pytest
import torch

from genmodel.evaluation.extractors.features import Features
from genmodel.evaluation.extractors.wavelets import wavelets
from genmodel.evaluation.figures.of_features import Compared, wavelet_distance
from genmodel.evaluation.figures.real import Real


def grey(image: torch.Tensor) -> torch.Tensor:
    return image.round().byte()[None, :, :, None]


def test_each_band_answers_to_its_own_pattern_at_its_own_scale() -> None:
    """16 colours, then for 16, 8 and 4 px the bands across, along and checkerboard, of four cells each."""
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    for scale in (1, 2):
        down, along = rows // scale % 2, columns // scale % 2
        for band, pattern in enumerate((down, along, (down + along) % 2)):
            found = wavelets(grey(pattern * 255.0))[0, 16:].view(3, 3, 4).mean(dim=2)
            if scale == 1:
                assert found[0, band] == pytest.approx(1) and found.sum() == pytest.approx(1)
            assert int(found[scale - 1].argmax()) == band and found[scale - 1, band] == found.max()
    assert torch.allclose(wavelets(grey(torch.full((16, 16), 255.0))), torch.tensor([1.0] * 16 + [0.0] * 36))


def test_any_shape_and_channels_give_finite_features_image_by_image() -> None:
    for shape in ((8, 8, 1), (16, 24, 3), (33, 20, 4)):
        images = torch.randint(256, (5, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        found = wavelets(images)
        assert found.ndim == 2 and torch.isfinite(found).all()
        torch.testing.assert_close(found[2:3], wavelets(images[2:3]))


def test_the_distance_is_that_of_scaled_features_and_not_a_number_where_one_is_not() -> None:
    rng = torch.Generator().manual_seed(0)
    real, other = torch.randn(60, 3, generator=rng), torch.randn(60, 3, generator=rng) + 1
    features = Features(torch.randn(60, 2, generator=rng), None)

    def distance(samples: torch.Tensor, times: torch.Tensor | float = 1.0) -> float:
        known = Real.of(features.values, features.values[:0], real * times)
        return wavelet_distance(
            Compared(known, features, torch.zeros(0, dtype=torch.float64), wavelets=samples * times)
        ).value

    assert distance(real) == pytest.approx(0, abs=1e-9) and distance(other) > 1
    assert distance(other) == pytest.approx(distance(other, torch.tensor([1.0, 10.0, 100.0])), rel=1e-4)
    broken = other.clone()
    broken[3, 1] = torch.nan
    assert distance(broken) != distance(broken)
