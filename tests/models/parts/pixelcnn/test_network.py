from collections.abc import Callable

import pytest
import torch

from genmodel.models.parts.pixelcnn.network import Network
from genmodel.models.parts.pixelcnn.shifted import DownRightShifted, DownShifted, Shifted

HEIGHT, WIDTH = 4, 8


def seen(of: Callable[[torch.Tensor], torch.Tensor], inputs: int) -> torch.Tensor:
    """bool [H', W', H, W]: whether an output of `of`, [1, H, W, inputs] -> [1, H', W', ...], depends on an input."""
    maps = torch.randn(1, HEIGHT, WIDTH, inputs, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda maps: of(maps).sum(-1)[0], maps)
    return (jacobian != 0).any(-1)[:, :, 0]


def at(y: int, x: int) -> int:
    return y * WIDTH + x  # in raster order


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", [DownShifted, DownRightShifted])
def test_a_convolution_sees_its_window_and_no_more(kind: type[Shifted], stride: int) -> None:
    """Exactly: in both directions nothing later, and nothing of the window is lost."""
    convolution = kind(3, 5, stride).double()
    for value in convolution.parameters():
        torch.nn.init.normal_(value)
    reach = seen(convolution, 3)
    assert reach.shape[:2] == (HEIGHT // stride, WIDTH // stride)
    for i in range(reach.shape[0]):
        for j in range(reach.shape[1]):
            y, x = stride * i, stride * j
            columns = range(x - 1, x + 2) if kind is DownShifted else range(x - 1, x + 1)
            window = {(row, column) for row in (y - 1, y) for column in columns}
            expected = [[(row, column) in window for column in range(WIDTH)] for row in range(HEIGHT)]
            assert torch.equal(reach[i, j], torch.tensor(expected)), (i, j)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_row_and_a_pixel_are_computed_as_in_the_whole(stride: int) -> None:
    maps = torch.randn(2, HEIGHT, WIDTH, 3, dtype=torch.float64)
    down, right = DownShifted(3, 5, stride).double(), DownRightShifted(3, 5, stride).double()
    for value in (*down.parameters(), *right.parameters()):
        torch.nn.init.normal_(value)
    rows = [torch.zeros_like(maps[:, 0]).transpose(0, 1), *(row.transpose(0, 1) for row in maps.unbind(1))]
    for y in range(0, HEIGHT, stride):
        above, here = rows[y], rows[y + 1]
        torch.testing.assert_close(down.row(above, here), down(maps)[:, y // stride].transpose(0, 1))
        added = right.above(above)
        for x in range(0, WIDTH, stride):
            left = here[x - 1] if x else torch.zeros_like(here[0])
            torch.testing.assert_close(
                added[x // stride] + right.pixel(left, here[x]), right(maps)[:, y // stride, x // stride]
            )


def network(halvings: int, channels: int = 3, blocks: int = 2, classes: int = 0) -> Network:
    made = Network(channels, 7, 4, blocks, halvings, classes)
    made.initialise(torch.Generator().manual_seed(0))
    return made.double()


@pytest.mark.slow
@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_every_layer_sees_only_what_comes_before(halvings: int) -> None:
    """Each convolution and block of both streams, at its size: no pixel at or after the first that it stands for."""
    net = network(halvings)
    layers = [module for module in net.modules() if isinstance(module, Shifted)]
    assert len(layers) > 10
    images = torch.randn(1, 3, HEIGHT, WIDTH, dtype=torch.float64)
    outputs: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda _, __, made, number=number: outputs.update({number: made.sum(-1)[0]}))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            changed = images.clone()
            changed[:, :, y, x] += 1
            net(images, None)
            before = dict(outputs)
            net(changed, None)
            for number, layer in enumerate(layers):
                moved = (outputs[number] != before[number]).nonzero()
                scale = HEIGHT // outputs[number].shape[0]
                for i, j in moved.tolist():
                    if isinstance(layer, DownShifted):
                        assert scale * i > y, (layer, number)
                    else:
                        assert at(scale * i, scale * j) > at(y, x), (layer, number)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(4, 8), (8, 4)])
@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_a_pixels_numbers_depend_on_every_pixel_before_it_and_on_none_after(
    halvings: int, height: int, width: int
) -> None:
    """By perturbation of each pixel: those before it in raster order count if the network is deep enough."""
    net = network(halvings, blocks=3)
    images = torch.randn(1, 3, height, width, dtype=torch.float64)
    base = net(images, None)
    for place in range(height * width):
        changed = images.clone()
        changed.view(1, 3, -1)[:, :, place] += 1
        moved = (net(changed, None) != base).any(1).flatten()
        assert not moved[: place + 1].any(), place
        assert moved[place + 1 :].all(), place


def test_the_class_counts_and_an_unknown_one_is_the_mean() -> None:
    net = network(1, classes=3)
    images = torch.randn(5, 3, HEIGHT, WIDTH, dtype=torch.float64)[:1].expand(5, -1, -1, -1)
    found = net(images, torch.tensor([0, 1, 2, 0, -1]))
    assert torch.equal(found[0], found[3]) and not torch.equal(found[0], found[1])
    codes = [block.code for block in (*net.down.blocks, *net.right.blocks)]
    with torch.no_grad():
        for code in codes:
            assert code is not None
            code.weight.copy_(code.weight.mean(0, keepdim=True).expand(3, -1))
    torch.testing.assert_close(net(images[:1], torch.tensor([1])), net(images[:1], torch.tensor([-1])))
    torch.testing.assert_close(net(images[:1], torch.tensor([1]))[0], found[4])


def test_maps_begin_with_the_variance_of_their_inputs() -> None:
    """Nothing grows or fades with the depth: otherwise a deep network does not begin to learn."""
    net = Network(3, 7, 32, 4, 1, 0)
    net.initialise(torch.Generator().manual_seed(0))
    deviations = []
    for block in net.right.blocks:
        block.register_forward_hook(lambda _, __, made: deviations.append(float(made[0].detach().std())))
    net(torch.randn(4, 3, 16, 16), None)
    assert min(deviations) > 0.3 and max(deviations) < 3
