"""The U-Net: what reaches what, what it is told, and how it begins."""

import pytest
import torch
from torch import Tensor

from genmodel.models.contract import ImageSpec
from genmodel.models.parts.flow.unet import UNet
from genmodel.sizes import Size


def network(size: object = 16, channels: int = 3, classes: int = 0, awake: bool = True, **more: int) -> UNet:
    """`awake`: as later in a training; at first each block is its skip."""
    settings = {"base_channels": 8, "max_channels": 16, "blocks": 1, "patches": False} | more
    made = UNet(*settings.values(), ImageSpec(Size.of(size), channels, classes), classes, "flow")  # type: ignore[arg-type, call-arg]
    rng = torch.Generator().manual_seed(0)
    made.initialise(rng)
    for weight in made.parameters() if awake else ():
        weight.data.add_(0.1 * torch.randn(weight.shape, generator=rng))
    return made.eval()


def maps(count: int, *shape: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("patches", [False, True])
@pytest.mark.parametrize(("size", "channels"), [("8", 1), ("28", 3), ("24x16", 4), ("40x10", 1)])
def test_every_value_reaches_every_other(size: str, channels: int, patches: bool) -> None:
    """Through the attention, at the latest."""
    made, (height, width) = network(size, channels, patches=patches), Size.of(size)
    given = maps(1, channels, height, width).requires_grad_()
    for row, column in ((0, 0), (height - 1, width - 1), (height // 2, 0)):
        found = made(given, torch.tensor([0.3]), None)[0, channels - 1, row, column]
        (slopes,) = torch.autograd.grad(found, given)
        assert (slopes != 0).all()


def test_the_encoder_hands_the_decoder_what_it_made_of_each_size() -> None:
    """Without these maps nothing finer than the smallest map could come out."""
    made = network(16, blocks=2)
    seen: list[torch.Size] = []
    for block in made.decoder:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    made(maps(1, 3, 16, 16), torch.tensor([0.3]), None)
    assert [tuple(shape[1:]) for shape in seen] == [(32, 4, 4)] * 2 + [(32, 8, 8)] * 2 + [(16, 16, 16)] * 2


def test_patches_see_quarter_maps_and_lose_no_pixel() -> None:
    made = network(16, patches=True)
    assert made.enter.in_channels == 4 * 3 and len(made.downs) == 1
    assert made(maps(2, 3, 16, 16), torch.tensor([0.3]), None).shape == (2, 3, 16, 16)


def test_time_and_class_change_what_comes_out_image_by_image() -> None:
    made = network(classes=3)
    given = maps(1, 3, 16, 16).expand(4, -1, -1, -1)
    found = made(given, torch.tensor([0.2, 0.2, 0.7, 0.2]), torch.tensor([0, 1, 1, 3]))
    for one, other in ((0, 1), (1, 2), (1, 3)):
        assert (found[one] - found[other]).abs().max() > 1e-3
    alone = made(given[1:2], torch.tensor([0.2]), torch.tensor([1]))
    torch.testing.assert_close(found[1:2], alone, rtol=1e-4, atol=1e-5)


def test_one_time_for_all_is_that_time_for_each() -> None:
    made, given = network(), maps(3, 3, 16, 16)
    torch.testing.assert_close(
        made(given, torch.tensor([0.4]), None), made(given, torch.full((3,), 0.4), None), rtol=1e-4, atol=1e-5
    )


def test_times_a_thousandth_apart_are_told_apart() -> None:
    """The density of dequantised images changes within the last of them."""
    made = network()
    waves = made.waves * torch.tensor([[0.998], [0.999]])
    assert (torch.cat([waves.cos(), waves.sin()], 1).diff(dim=0)).abs().max() > 0.5


def test_it_begins_as_its_skips_and_near_0() -> None:
    made = network(32, awake=False, base_channels=16, max_channels=64)
    block = made.encoder[0]
    given = maps(8, 16, 32, 32)
    torch.testing.assert_close(block(given, torch.randn(8, 64)), given)
    torch.testing.assert_close(made.attention(maps(2, 64, 4, 4)), maps(2, 64, 4, 4))
    assert made(maps(8, 3, 32, 32), torch.rand(8), None).std() < 0.5


@pytest.mark.slow
def test_gradients_in_float64() -> None:
    made = network(8, 1, classes=2, base_channels=4, max_channels=4).double()
    labels = torch.tensor([1, 2])
    assert torch.autograd.gradcheck(
        lambda given, times: made(given, times, labels),
        (maps(2, 1, 8, 8).double().requires_grad_(), torch.tensor([0.3, 0.31]).double().requires_grad_()),
        atol=1e-4,
    )
