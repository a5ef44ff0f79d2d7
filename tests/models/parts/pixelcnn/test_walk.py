import pytest
import torch
from torch import Tensor

from genmodel.models.parts.pixelcnn.network import Network
from genmodel.models.parts.pixelcnn.walk import walk


def network(channels: int, halvings: int, classes: int, blocks: int = 2) -> Network:
    """With weights as if they had been trained: none is where it began."""
    made = Network(channels, 5, 6, blocks, halvings, classes)
    made.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))
    return made.double()


@pytest.mark.parametrize(
    ("height", "width", "channels", "halvings", "classes"),
    [(3, 5, 1, 0, 0), (4, 6, 3, 1, 0), (8, 4, 4, 2, 3), (8, 8, 1, 2, 0), (8, 16, 3, 3, 0)],
)
def test_the_walk_finds_what_the_whole_network_says_of_each_pixel(
    height: int, width: int, channels: int, halvings: int, classes: int
) -> None:
    net = network(channels, halvings, classes)
    labels = torch.tensor([0, -1]) if classes else None
    rng = torch.Generator().manual_seed(1)
    given = torch.rand(height, width, 2, channels, dtype=torch.float64, generator=rng)
    told: list[Tensor] = []

    def choose(numbers: Tensor, here: Tensor) -> Tensor:
        told.append(numbers)
        return here

    with torch.no_grad():
        made = walk(net, labels, given, choose)
        expected = net(given.permute(2, 3, 0, 1), labels)
    assert torch.equal(made, given)
    found = torch.stack(told).unflatten(0, (height, width)).permute(2, 3, 0, 1)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-7)


def test_nothing_is_computed_twice() -> None:
    """Convolutions by number of columns and pixels: a share of what whole images would take."""
    net, counts = network(1, 1, 0), {"rows": 0, "pixels": 0}
    for layer in net.downs:
        layer.row = counted(layer.row, counts, "rows")  # type: ignore[method-assign]
    for layer in net.rights:
        layer.pixel = counted(layer.pixel, counts, "pixels")  # type: ignore[method-assign]
    with torch.no_grad():
        walk(net, None, torch.rand(4, 8, 1, 1, dtype=torch.float64), lambda numbers, here: here)
    outer = [layer for layer in net.downs if layer.level == 0 and layer.stride == 1]
    inner = len(net.downs) - len(outer)  # the one that shrinks also gives a row for every two
    assert counts == {"rows": 4 * len(outer) + 2 * inner, "pixels": 32 * len(outer) + 8 * inner}


def counted(of, counts: dict[str, int], name: str):  # type: ignore[no-untyped-def]
    def call(*maps: Tensor) -> Tensor:
        counts[name] += 1
        return of(*maps)  # type: ignore[no-any-return]

    return call
