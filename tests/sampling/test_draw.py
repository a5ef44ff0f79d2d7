"""Image i of a seed is the same, bit by bit, whatever is drawn beside it; a class is what was asked for."""

from collections.abc import Callable, Iterator

import pytest
import torch

from genmodel.models.contract import Family
from genmodel.sampling.draw import ExportedGraph, Networks, Sampler, sample, sample_classes, sampled
from genmodel.sampling.requests import BATCH, in_batches
from genmodel.sizes import Size

pytestmark = pytest.mark.usefixtures("toys")
FAMILIES = ["dcgan", "flow", "vae", "categories", "autoregressive", "conditional"]
Build = Callable[..., Family]


@pytest.fixture
def two_threads() -> Iterator[None]:
    """With one, a matrix product of a single row rounds as one of many does: no test would see the difference."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_the_same_bits_whatever_is_drawn_beside_it(family: str, built: Build) -> None:
    model = built(family, base_channels=16, max_channels=16, blocks=1, steps=1)
    source = Networks(model, "", "", [3.0, 1, 0, 2, 1])
    codes = source.codes(2 * BATCH + 7, seed=3)

    def images(asked: torch.Tensor) -> torch.Tensor:
        return in_batches(lambda part: sampled(model, part), asked)

    whole = images(codes)
    assert len(whole.unique()) > 1000
    for n in (1, 2, 5, BATCH - 1, BATCH, BATCH + 1):
        assert torch.equal(images(source.codes(n, seed=3)), whole[:n]), n
    for size in (1, 7, 100):
        assert torch.equal(torch.cat([images(part) for part in codes[:20].split(size)]), whole[:20]), size
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))
    assert torch.equal(images(codes[order]), whole[order]), "requests lie one behind the other in a batch"


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_of_their_seed(family: str, built: Build) -> None:
    model = built(family, base_channels=16, max_channels=16, blocks=1, steps=1)
    images = sample(model, 10, seed=3)
    assert images.shape == (10, 16, 16, 3) and images.dtype == torch.uint8 and len(images.unique()) > 50
    assert torch.equal(sample(model, 90, seed=3)[:10], images)
    assert not torch.equal(sample(model, 10, seed=4), images)
    graph = ExportedGraph(Sampler(model), model.space, [1.0] * model.classes, "", "")
    assert (graph.image_size, graph.channels) == (Size(16, 16), 3) and torch.equal(
        graph.draw(graph.codes(10, 3))[0], images
    )


def test_classes_come_as_their_counts_say_and_alone_where_asked_for(built: Build) -> None:
    model = built("conditional")
    third = sample_classes(model, 4, 3, [2])
    assert torch.equal(sample(model, 4, 3, [0, 0, 7, 0, 0]), third)
    assert not torch.equal(sample(model, 4, 3), third)
    rows = sample_classes(model, 4, 3, [1, 2])
    assert torch.equal(rows[4:], third) and not torch.equal(rows[:4], third)
    drawn = Networks(model, "", "", [30, 10, 0, 60, 0]).codes(2_000, 0)[:, -1].long().bincount(minlength=5)
    torch.testing.assert_close(drawn / 2_000, torch.tensor([0.3, 0.1, 0, 0.6, 0]), atol=0.04, rtol=0)


def test_an_unconditional_model_has_no_class_among_its_codes(built: Build) -> None:
    source = Networks(built("vae", base_channels=8), "", "", [1.0, 2.0])
    assert source.codes(3, 0).shape == (3, source.space.width)


def test_what_is_no_number_is_counted_once_though_its_batch_was_filled_up(built: Build) -> None:
    source = Networks(built("vae", base_channels=8), "", "")
    codes = source.codes(5, 0)
    codes[-1] = torch.nan
    images, broken = source.draw(codes)
    assert len(images) == 5 and broken == 1
