"""The flow: what it learns, how it samples, what its bound of the likelihood is worth; images from a part."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from genmodel.data.block import Block
from genmodel.errors import ConfigError
from genmodel.models.abilities import Observation
from genmodel.models.contract import Batch, Noise, Step
from genmodel.models.flow import Flow
from genmodel.params import run_config
from genmodel.pixels import to_model
from genmodel.sampling.draw import Sampler, sample, sample_classes
from genmodel.sampling.export import export_onnx
from genmodel.sampling.load import load_model
from genmodel.sampling.requests import codes
from genmodel.showing import display
from genmodel.training.identify import identify
from tests.killing import assert_ends_the_same
from tests.models.flows import SMALL, awake, levels, model_of, normals, silent


class Watched(Flow):
    """Says what it was asked for, and answers with the same velocity everywhere."""

    def velocity(self, maps: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        self.asked = (maps, times, labels)
        return torch.full_like(maps, 0.25)


def watched_loss(labels: Tensor, images: float = 0.5, **network: Any) -> tuple[Tensor, Any]:
    model = model_of(3, **network)
    model.__class__ = Watched
    shape = (len(labels), 1, 8, 8)
    step = Step(Batch(torch.full(shape, images), labels), Noise(torch.Generator().manual_seed(5)))
    loss, metrics = model._loss(step)
    assert float(metrics["loss/flow"]) == float(loss)
    return loss, model.asked  # type: ignore[attr-defined]


def test_the_loss_is_the_distance_to_image_minus_noise() -> None:
    """Read from the place that the network is shown, x_t = (1 - t) noise + t image, and from its time alone."""
    loss, (maps, times, _) = watched_loss(torch.zeros(4000, dtype=torch.int64), times="uniform")
    early = times < 0.9  # where noise can be read from the place
    place = times[:, None, None, None]
    noise = (maps - place * 0.5) / (1 - place)
    expected = (0.25 - (0.5 - noise)).square().mean((1, 2, 3))
    assert float(noise[early].mean()) == pytest.approx(0, abs=0.01)
    assert float(noise[early].std()) == pytest.approx(1, abs=0.01)
    # the late ones are the same on average, for the noise does not depend on the time
    assert float(loss) == pytest.approx(float(expected[early].mean()), rel=0.01)
    assert float(times.mean()) == pytest.approx(0.5, abs=0.02) and float(times.var()) == pytest.approx(1 / 12, rel=0.05)


def test_images_are_moved_evenly_within_their_levels() -> None:
    model = model_of()
    model.__class__ = Watched
    rng = torch.Generator().manual_seed(0)
    shown = torch.full((500, 1, 8, 8), 101 / 127.5 - 1)
    loss, _ = model._loss(Step(Batch(shown, torch.zeros(500, dtype=torch.int64)), Noise(rng)))
    maps, times, _ = model.asked  # type: ignore[attr-defined]
    again = Noise(torch.Generator().manual_seed(0))
    place, noise = times[:, None, None, None], again.of(model.space, 500).view_as(maps)
    moved = (maps - (1 - place) * noise) / place
    apart = (moved - shown)[times > 0.5] * 127.5
    assert float(apart.min()) == pytest.approx(-0.5, abs=0.01) and float(apart.max()) == pytest.approx(0.5, abs=0.01)
    assert float(apart.var()) == pytest.approx(1 / 12, rel=0.03)
    torch.testing.assert_close(loss, (0.25 - (moved - noise)).square().mean(), rtol=1e-3, atol=0)


def test_times_are_drawn_by_their_setting() -> None:
    logits = watched_loss(torch.zeros(4000, dtype=torch.int64), times="logit_normal")[1][1].logit()
    assert float(logits.mean()) == pytest.approx(0, abs=0.05) and float(logits.std()) == pytest.approx(1, abs=0.05)


def test_labels_are_dropped_as_often_as_is_said_and_withheld_ones_always() -> None:
    given = torch.tensor([0, 1, 2, -1]).repeat(1000)
    for share in (0.0, 0.3, 1.0):
        told = watched_loss(given, label_drop=share)[1][2]
        known = given >= 0
        assert (told[~known] == 3).all() and bool(((told == given) | (told == 3)).all())
        assert float((told[known] == 3).float().mean()) == pytest.approx(share, abs=0.03)


def test_preconditioned_it_is_the_best_linear_guess() -> None:
    """By least squares on pairs of a place and what is to be said there."""
    rng = torch.Generator().manual_seed(0)
    noise, images = torch.randn(2, 200_000, generator=rng, dtype=torch.float64)
    images = 0.4 * images
    model = silent(data_deviation=0.4).double()
    for time in (0.0, 0.1, 0.5, 0.9, 1.0):
        place, target = (1 - time) * noise + time * images, images - noise
        slope = (place * target).mean() / place.square().mean()
        shown = place[: 64 * 100].view(100, 1, 8, 8)
        found = model.velocity(shown, torch.tensor([time], dtype=torch.float64), None)
        torch.testing.assert_close(found, slope * shown, rtol=0, atol=0.02)
    left = (0.5 * (noise + images)).square().mean()
    scaled = (images - noise - slope_at(0.5, 0.4) * 0.5 * (noise + images)) * left.sqrt() / 0.4
    assert float(scaled.std()) == pytest.approx(1, abs=0.01), "what the network has to say has variance 1"


def slope_at(time: float, spread: float) -> float:
    return (time * spread**2 - (1 - time)) / ((time * spread) ** 2 + (1 - time) ** 2)


def test_without_preconditioning_it_is_the_network_itself() -> None:
    model = awake(model_of(preconditioned=False))
    shown, times = normals(3, model).view(3, 1, 8, 8), torch.tensor([0.1, 0.5, 0.9])
    assert torch.equal(model.velocity(shown, times, None), model.network(shown, times, None))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_more_steps_come_nearer_to_the_flow_itself(solver: str, order: int) -> None:
    """Of independent values N(0, s^2) the flow takes noise to s times itself."""
    errors = []
    for steps in (8, 16, 32):
        model = silent(solver=solver, steps=steps, data_deviation=0.25)
        noise = normals(3, model).clamp(-3, 3)
        errors.append(float((model.sample(noise).flatten(1) - 0.25 * noise).norm()))
    assert all(one / other > 0.7 * 2**order for one, other in itertools.pairwise(errors)) and errors[-1] < 0.5


def test_guidance_weighs_what_the_class_changes() -> None:
    shown = normals(4, model_of()).view(4, 1, 8, 8)
    labels, nothing = torch.tensor([0, 1, 2, 1]), torch.full((4,), 3)
    found = {}
    for weight in (0.0, 1.0, 2.5):
        model = awake(model_of(3, guidance=weight))
        found[weight] = model.guided(shown, 0.3, labels)
    time = torch.tensor([0.3])
    asked, free = model.velocity(shown, time, labels), model.velocity(shown, time, nothing)
    assert (asked - free).abs().max() > 1e-3
    assert torch.equal(found[1.0], asked) and torch.equal(found[0.0], free)
    torch.testing.assert_close(found[2.5], free + 2.5 * (asked - free), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_class_that_is_asked_for_decides_the_image_and_neighbours_do_not(guidance: float) -> None:
    model = awake(model_of(3, channels=3, guidance=guidance), 0.2)
    assert model.classes == 3
    drawn = sample_classes(model, 4, 0, [0, 1, 2]).view(3, 4, -1)
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])
    noise, labels = normals(7, model), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    whole = model.sample(noise, labels)
    torch.testing.assert_close(model.sample(noise[4:5], labels[4:5]), whole[4:5], rtol=1e-4, atol=1e-5)


def test_conditional_without_classes_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^flow: the images have no classes; set network.conditional to false$"):
        model_of(0, conditional=True)


def test_gradients_of_the_loss_in_float64() -> None:
    """Against differences, for every weight of a network that has begun to learn."""
    model = awake(model_of(2, times="uniform", base_channels=2, max_channels=2)).double()
    images = to_model(levels(3, model)).double()

    class Wide(Noise):
        def of(self, *given: Any) -> Tensor:
            return super().of(*given).double()

    def loss() -> Tensor:
        step = Step(Batch(images, torch.tensor([0, 1, -1])), Wide(torch.Generator().manual_seed(2)))
        return model._loss(step)[0]

    weights = list(model.requires_grad_().parameters())
    slopes = torch.autograd.grad(loss(), weights)
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            way = torch.randn(weight.shape, generator=rng, dtype=torch.float64)
            ends = []
            for sign in (1, -1):
                weight.add_(sign * 1e-5 * way)
                ends.append(float(loss()))
                weight.sub_(sign * 1e-5 * way)
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float((slope * way).sum()), rel=1e-5, abs=1e-8)


def test_what_is_known_of_an_image_stays_and_the_rest_follows_the_noise() -> None:
    model = awake(model_of(3, channels=3), 0.2)
    images, labels = levels(4, model), torch.tensor([0, 1, 2, -1])
    known = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    noise = normals(4, model)
    with torch.inference_mode():
        made = model.complete(images, known, noise, labels)
        assert torch.equal(made, model.complete(images, known, noise, labels))
        other = model.complete(images, known, normals(4, model, 1), labels)
        changed = model.complete(images ^ (1 - known.to(torch.uint8))[..., None], known, noise, labels)
    where = known[:, None].expand_as(made)
    assert torch.equal(made[where], to_model(images)[where]) and made.abs().max() <= 1
    assert torch.equal(other[where], made[where]) and not torch.equal(other[~where], made[~where])
    assert torch.equal(changed, made), "what is not known is not looked at"
    alone = model.complete(images[2:3], known[2:3], noise[2:3], labels[2:3])
    torch.testing.assert_close(alone, made[2:3], rtol=1e-4, atol=1e-5)


def test_what_is_known_reaches_what_is_not() -> None:
    """Through the network: a completion is not a sample with the known part pasted in."""
    model = awake(model_of(), 0.3)
    known, noise = torch.zeros(1, 8, 8, dtype=torch.bool), normals(1, model)
    known[:, :4] = True
    images = levels(1, model)
    one, other = (model.complete(given, known, noise, torch.tensor([-1])) for given in (images, 255 - images))
    assert (one - other)[:, :, 5:].abs().max() > 1e-2


def test_a_restored_image_has_what_was_seen_of_it() -> None:
    model = awake(model_of(steps=16, data_deviation=0.2), 0.02)
    original = to_model(levels(1, model)) * 0.5
    pool = partial(torch.nn.functional.avg_pool2d, kernel_size=2)
    spread = lambda seen: seen.repeat_interleave(2, 2).repeat_interleave(2, 3)  # noqa: E731
    noise, labels = normals(5, model), torch.full((5,), -1)
    made = model.restore(Observation(pool(original), pool, spread, 0.0), noise, labels)
    assert made.shape == (5, 1, 8, 8)
    torch.testing.assert_close(pool(made), pool(original).expand(5, -1, -1, -1), rtol=0, atol=0.02)
    assert (made[0] - made[1]).abs().max() > 0.01, "what is not seen is drawn"


def test_the_noisier_an_image_is_the_less_of_it_is_kept() -> None:
    """Of independent values: all of it without noise, nearly all under a little, and next to nothing under much."""
    model = silent(steps=8, data_deviation=0.5)
    seen = 0.2 * normals(1, model, 3).view(1, 1, 8, 8)
    noise, labels = normals(200, model), torch.full((200,), -1)
    kept = []
    for deviation in (0.0, 0.05, 5.0):
        made = model.restore(Observation(seen, lambda maps: maps, lambda maps: maps, deviation), noise, labels)
        kept.append(float((made.mean(0) * seen[0]).sum() / seen.square().sum()))
    assert kept[:2] == pytest.approx([1, 1], abs=0.05) and abs(kept[2]) < 0.2


@pytest.mark.slow
def test_as_onnx_all_its_steps_draw_the_same_images(tmp_path: Path) -> None:
    """With both networks of the guidance in each."""
    model = awake(model_of(3, guidance=2.0, steps=2), 0.2)
    export_onnx(model, tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for n in (1, 5, 70):
        rows = codes(model.space, [1.0] * 3, n, seed=n)
        (images,) = session.run(["images"], {"codes": rows.numpy()})
        expected = Sampler(model)(rows).numpy()
        assert len(np.unique(expected)) > 50
        assert np.abs(images.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.slow
def test_the_graph_of_the_most_steps_is_of_a_sane_size_and_draws_the_same_images(tmp_path: Path) -> None:
    """As it is shipped: a whole batch at once, the weights in it once."""
    model = awake(model_of(3, guidance=2.0, steps=32, solver="euler"), 0.2)
    rows = codes(model.space, [1.0] * 3, 64, seed=3)
    with torch.no_grad():
        program = torch.export.export(Sampler(model), (rows,))
        torch.export.save(program, tmp_path / "model.pt2")
        drawn = torch.export.load(tmp_path / "model.pt2").module()(rows)
        assert torch.equal(drawn, Sampler(model)(rows)) and len(drawn.unique()) > 50
    weights = sum(value.numel() for value in model.parameters())
    assert (tmp_path / "model.pt2").stat().st_size < 4 * weights + 8_000_000
    assert len(program.graph.nodes) < 32 * 200


TRAINING = {"images": 320, "batch_size": 8, "threads": 1, "log_every": 56, "checkpoint_every": 80, "labelled": 5}

TRAINING |= {"ema_half_life": 100, "schedule": "cosine", "warmup": 40}

CHANGING = {"conditional": True, "guidance": 2.0, "learning_rate": {"start": 2e-3, "end": 1e-3, "over": 200}}


@pytest.mark.slow
def test_killed_and_resumed_it_ends_the_same(
    block: Block, in_child: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With classes, labels withheld and dropped, and a learning rate that follows a schedule."""
    monkeypatch.setattr(display, "sample_moments", lambda images, per_step: {0, images})
    values = {"family": "flow", "image_size": 8, "network": SMALL | CHANGING, "training": TRAINING}
    who = identify("it", run_config(values, "it"), block)
    assert_ends_the_same(who, block, in_child, tmp_path)
    model, about = load_model(tmp_path / "out")
    assert model.classes == 2 and about["classes"] == ["circle", "square"]
    assert torch.equal(sample(model, 5, seed=1), sample(model, 70, seed=1)[:5])
