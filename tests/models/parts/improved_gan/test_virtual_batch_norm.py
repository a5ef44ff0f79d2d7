import numpy as np
import pytest
import torch

from genmodel.models.parts.improved_gan.virtual_batch_norm import VirtualBatchNorm


def made(channels: int, reference: int) -> VirtualBatchNorm:
    norm = VirtualBatchNorm(channels, reference)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0))
        norm.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    return norm


def by_hand(norm: VirtualBatchNorm, values: np.ndarray, reference: int) -> np.ndarray:
    """The mean and variance of the reference batch and the image itself, as one set, in float64."""
    result = np.empty(values.shape)
    for row, image in enumerate(values):
        known = values[:reference] if row < reference else np.concatenate([values[:reference], image[None]])
        over = (0, *range(2, values.ndim))
        mean, variance = (each(known, axis=over, keepdims=True)[0] for each in (np.mean, np.var))
        result[row] = (image - mean) / np.sqrt(variance + 1e-5)
    place = (slice(None), *[None] * (values.ndim - 2))
    weight, bias = (each.detach().double().numpy() for each in (norm.weight, norm.bias))
    return np.asarray(result * weight[place] + bias[place])


@pytest.mark.parametrize("shape", [(9, 5), (9, 3, 4, 6)])
def test_an_image_is_normalised_with_the_reference_and_itself(shape: tuple[int, ...]) -> None:
    values = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(3))
    norm = made(shape[1], reference=6)
    expected = by_hand(norm, values.double().numpy(), 6)
    np.testing.assert_allclose(norm(values).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    norm, values = made(3, reference=4), torch.randn(9, 3, 4, 4)
    alone = norm(torch.cat([values[:4], values[7:8]]))[4]
    torch.testing.assert_close(norm(values)[7], alone)
    moved = torch.cat([values[:4] + 1, values[4:]])
    assert not torch.allclose(norm(moved)[7], alone), "but on the reference"


def test_its_gradient_goes_through_the_reference_too() -> None:
    norm = made(2, reference=3).double()
    values = torch.randn(5, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (values,))
