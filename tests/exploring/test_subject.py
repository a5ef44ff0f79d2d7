"""What the page draws is what the model draws: for a seed, a class, moved sliders, and the way between two seeds."""

from collections.abc import Callable

import pytest
import torch

from genmodel.exploring.subject import SLIDERS, Subject
from genmodel.models.contract import Family
from genmodel.sampling.draw import Networks, sample, sample_classes
from genmodel.sampling.walks import between

pytestmark = pytest.mark.usefixtures("toys")
CLASSES = ["circle", "square", "0"]


@pytest.fixture
def subject(built: Callable[..., Family]) -> Callable[[str], Subject]:
    def of(family: str) -> Subject:
        model = built(family, classes=3, base_channels=8)
        about = {"name": "small", "config": {"family": family}, "classes": CLASSES}
        return Subject(Networks(model, "", "small", [1.0] * model.classes), about)

    return of


@pytest.mark.parametrize("family", ["dcgan", "infogan", "categories", "autoregressive"])
def test_a_seed_is_the_first_sample_of_that_seed(subject: Callable[[str], Subject], family: str) -> None:
    played = subject(family)
    assert played.classes == []
    for seed in (0, 2**53 - 1):
        codes = played.codes(seed, None)
        assert torch.equal(played.draw(codes), sample(played.source.model, 1, seed))
        untouched, count = played.moved(codes, played.places(codes))
        assert torch.equal(untouched, codes) and count == 0


def test_a_class_is_the_class_that_was_asked_for(subject: Callable[[str], Subject]) -> None:
    played = subject("conditional")
    assert played.classes == CLASSES
    drawn = [played.draw(played.codes(4, label)) for label in range(3)]
    assert torch.equal(torch.cat(drawn), sample_classes(played.source.model, 1, 4, range(3)))
    assert not torch.equal(drawn[0], drawn[1])


def test_a_moved_slider_replaces_its_code_alone(subject: Callable[[str], Subject]) -> None:
    played = subject("infogan")
    codes = played.codes(1, None)
    places = played.places(codes)
    assert len(places) == SLIDERS and played.sliders[0].categories == 10
    places[0], places[1] = (places[0] + 3) % 10, -1.0
    changed, count = played.moved(codes, places)
    assert count == 2 and changed[0, :2].tolist() == places[:2] and torch.equal(changed[0, 2:], codes[0, 2:])
    assert torch.equal(played.draw(changed), Networks(played.source.model, "", "").draw(changed)[0])
    assert not torch.equal(played.draw(changed), played.draw(codes))


def test_a_slider_stands_within_its_ends(subject: Callable[[str], Subject]) -> None:
    """Few numbers of a normal code lie beyond; they are drawn as they are, until the slider is moved."""
    played = subject("vae")
    codes = played.codes(0, None)
    codes[0, 0], codes[0, 1] = 4.25, -0.123456
    assert played.places(codes)[:2] == [3.0, -0.12]
    assert torch.equal(played.moved(codes, played.places(codes))[0], codes)
    assert played.moved(codes, [2.5, *played.places(codes)[1:]])[0][0, 0] == 2.5


@pytest.mark.parametrize("family", ["vae", "conditional"])
def test_the_way_goes_from_seed_to_seed_in_one_class(subject: Callable[[str], Subject], family: str) -> None:
    played = subject(family)
    way = played.way((3, 8), 1, 5)
    first, last = played.codes(3, 1), played.codes(8, 1)
    assert torch.equal(way[:1], first) and torch.equal(way[-1:], last)
    width = played.source.space.width
    assert torch.equal(way[:, :width], between(played.source.space, first[0, :width], last[0, :width], 5))
    assert (way[:, width:] == 1).all()


def test_a_model_that_draws_pixel_after_pixel_has_seeds_alone(subject: Callable[[str], Subject]) -> None:
    played = subject("autoregressive")
    assert not played.walks and played.sliders == [] and played.described == "autoregressive, 16 px"
