import numpy as np
import pytest
import torch

from genmodel.models.parts.improved_gan.minibatch import MinibatchDiscrimination


def made(features: int = 6, kernels: int = 4, dimensions: int = 3) -> MinibatchDiscrimination:
    part = MinibatchDiscrimination(features, kernels, dimensions)
    part.initialise(torch.Generator().manual_seed(0))
    return part


def alone(rows: torch.Tensor) -> torch.Tensor:
    return rows


def test_the_kernel_is_that_of_section_3_2() -> None:
    """o(x_i)_b = sum over j of exp(-|M_ib - M_jb|), M_i = f(x_i) T: in float64, one number after the other."""
    part, features = made(), torch.randn(5, 6)
    told = part(features, alone).detach().numpy()
    f, kernels = features.double().numpy(), part.kernels.detach().double().numpy()
    for i in range(5):
        for b in range(4):
            rows = [f[j] @ kernels[:, b] for j in range(5)]
            assert told[i, b] == pytest.approx(sum(np.exp(-np.abs(rows[i] - row).sum()) for row in rows), rel=1e-5)


def test_its_gradient_is_that_of_float64() -> None:
    part = made().double()
    features = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: part(rows, alone), (features,))


def test_equal_images_are_near_and_others_are_not() -> None:
    part, features = made(), torch.randn(5, 6)
    features[3] = features[1]
    own = part(features, alone)
    torch.testing.assert_close(own[1], own[3])
    assert part(features[1:2].expand(8, -1), alone).allclose(torch.tensor(8.0)), "a batch of one image"


def test_an_image_that_is_judged_alone_is_told_what_batches_usually_told() -> None:
    part, features = made(), torch.randn(5, 6)
    expected = torch.ones(4)
    for _ in range(3):
        told = part(features, alone)
        part.follow(told, alone)
        expected = 0.9 * expected + 0.1 * told.detach().mean(0)
    torch.testing.assert_close(part.alone(features), expected.expand(5, -1))
    torch.testing.assert_close(part.alone(features[:1])[0], expected)


def test_fitted_kernels_tell_near_from_far_whatever_the_size_of_features() -> None:
    for size in (0.01, 1.0, 300.0):
        part, features = made(), size * torch.randn(50, 6)
        part.fit(features)
        apart = part._apart(features, alone) + 1e9 * torch.eye(50)[:, :, None]
        torch.testing.assert_close(apart.amin(1).mean(0), torch.full((4,), 2.0))
        assert 1.05 < part(features, alone).mean() < 20
