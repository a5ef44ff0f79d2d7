import torch

from genmodel.models.contract import Noise
from genmodel.models.parts.augment import translate


def test_each_image_is_moved_whole_and_black_comes_in() -> None:
    images = torch.rand(50, 3, 6, 7)
    moved = translate(images, 2, Noise(torch.Generator().manual_seed(0)))
    assert moved.shape == images.shape
    shifts = set()
    for before, after in zip(images, moved, strict=True):
        padded = torch.full((3, 10, 11), -1.0)
        padded[:, 2:8, 2:9] = before
        fits = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[:, y : y + 6, x : x + 7], after)]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) > 15, "every image has a shift of its own"


def test_gradients_reach_the_pixels_in_view_alone() -> None:
    images = torch.rand(4, 1, 5, 5, requires_grad=True)
    moved = translate(images, 2, Noise(torch.Generator().manual_seed(1)))
    moved.sum().backward()
    assert images.grad is not None
    assert images.grad.sum() == (moved.detach() != -1).sum()
    assert set(images.grad.unique().tolist()) <= {0.0, 1.0}


def test_no_reach_changes_nothing_and_draws_nothing() -> None:
    rng = torch.Generator().manual_seed(2)
    before = rng.get_state()
    images = torch.rand(2, 3, 4, 4)
    assert translate(images, 0, Noise(rng)) is images
    assert torch.equal(rng.get_state(), before)
