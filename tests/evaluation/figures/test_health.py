"""Sick runs, none promoted; twenty healthy ones, none blocked: whole evaluations of toy generators."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.evaluation.evaluate import evaluate
from genmodel.evaluation.figures.health import Levels, Meter, findings
from genmodel.evaluation.gate import Decision, decide
from genmodel.evaluation.reference import Reference, make_reference
from genmodel.files import tensors
from genmodel.files.model_folder import write_config
from genmodel.models.contract import Family, ImageSpec
from genmodel.models.families import FAMILIES
from genmodel.models.noise import Space, normal
from genmodel.params import run_config
from genmodel.settings.config import EvaluationConfig, GateConfig
from genmodel.sizes import Size

CONFIG = EvaluationConfig(samples=120, extractor="pixels", image_size=16)
IMAGES, CODES = 400, 8


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    latent_dim: int = CODES


class Toy(Family):
    """A generator that holds images and shows one of them, as its code says, times a gain."""

    Config = ToyConfig

    def __init__(self, config: ToyConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space = Space((normal(config.latent_dim),))
        self.table = nn.Parameter(torch.zeros(IMAGES, 3, *spec.size))
        self.gain = nn.Parameter(torch.ones(()))

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.table[(noise.sum(dim=1) * 1e4).long() % IMAGES] * self.gain
        return (images - images * 0).clamp(-1, 1)  # inf * 0: no number

    def initialise(self, rng: torch.Generator) -> None: ...
    def players(self) -> list: ...
    def updates(self) -> list: ...


def truth(n: int, seed: int, dark: bool = False) -> np.ndarray:
    """uint8 [n, 16, 16, 3]: soft blots of any colour and place; `dark`: stored in 0 to 3 by mistake."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    places, widths = rng.uniform(3, 13, (n, 2, 1, 1)), rng.uniform(2, 5, (n, 1, 1))
    blots = np.exp(-((rows - places[:, 0]) ** 2 + (columns - places[:, 1]) ** 2) / (2 * widths**2))
    images = blots[..., None] * rng.uniform(80, 255, (n, 1, 1, 3)) + rng.normal(0, 5, (n, 16, 16, 3))
    return images.clip(0, 255).astype(np.uint8) // (64 if dark else 1)


def make_block(folder: Path, dark: bool) -> Block:
    (folder / "raw").mkdir(parents=True)
    for number, image in enumerate(truth(150, seed=1, dark=dark)):
        Image.fromarray(image).save(folder / "raw" / f"{number:03d}.png")
    return prepare(str(folder / "raw"), folder / "data", [16], workers=1, val_fraction=0.2)


Bench = dict[bool, tuple[Block, Reference]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A block and its reference; under True those whose real images have the wrong range."""
    made = {}
    for dark in (False, True):
        folder = tmp_path_factory.mktemp("health")
        block = make_block(folder, dark)
        made[dark] = (block, make_reference(block, Size(16, 16), CONFIG, folder / "reference"))
    return made


Judge = Callable[..., Decision]


@pytest.fixture
def judge(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    monkeypatch.setitem(FAMILIES, "toy", f"{__name__}:Toy")

    def run(table: Tensor, gain: float = 1.0, history: str = "", dark: bool = False) -> Decision:
        """A finished toy's whole evaluation, and the gate's word on it."""
        config = run_config({"family": "toy", "image_size": 16, "network": {}}, "test")
        model = Toy(ToyConfig(), ImageSpec(Size.of(16)))
        model.table.data, model.gain.data = table, torch.tensor(gain)
        digest = tensors.save(tmp_path / "weights.safetensors", model.state_dict())
        about = {
            "name": "toy",
            "fingerprint": "f" * 64,
            "code": "c" * 64,
            "config": config.as_dict(),
            "weights": digest,
            "classes": ["raw"],
        }
        (tmp_path / "history.csv").write_text(history or scores(0.7, 0.3))
        write_config(tmp_path, about)
        report, _ = evaluate(tmp_path, *bench[dark], CONFIG)
        return decide(report, None, GateConfig())

    return run


def honest(seed: int, dark: bool = False) -> Tensor:
    return torch.from_numpy(truth(IMAGES, 100 + seed, dark)).permute(0, 3, 1, 2) / 127.5 - 1


def scores(real: float, fake: float, rows: int = 20) -> str:
    lines = [f"{64 * row},{row},0.7,1.2,{0.5 + (real - 0.5) * row / rows},{fake}" for row in range(1, rows + 1)]
    lines[-rows // 2 :] = [f"{64 * row},{row},0.1,6.0,{real},{fake}" for row in range(rows // 2, rows)]
    return "\n".join(["images_seen,step,loss/discriminator,loss/generator,score/real,score/fake", *lines, ""])


def collapsed(judge: Judge, seed: int) -> Decision:
    table = honest(seed)
    if seed % 2:  # few different images, each of them good
        return judge(table[seed : seed + 4].repeat(IMAGES // 4, 1, 1, 1))
    return judge(table.mean(dim=0) + 0.2 * (table - table.mean(dim=0)))


def constant(judge: Judge, seed: int) -> Decision:
    table = honest(seed)
    return judge(table[seed].expand(IMAGES, -1, -1, -1) + 0.01 * table)


def non_finite(judge: Judge, seed: int) -> Decision:
    table = honest(seed)
    if seed % 2:  # a few of the codes alone
        table[:: 10 * seed] *= 3e38
        return judge(table, gain=10.0)
    return judge(10 * table, gain=3e38)


def won(judge: Judge, seed: int) -> Decision:
    return judge(honest(seed), history=scores(1 - 0.002 * seed, 0.001 * (seed + 1)))


def wrong_range(judge: Judge, seed: int) -> Decision:
    if seed % 2:  # the block itself
        return judge(honest(seed, dark=True), dark=True)
    table = honest(seed)  # what was trained on lay in [0, 1], or in [0, 1] / 255
    return judge((table + 1) / 2 if seed else (table + 1) / 255 - 1)


def checkered(judge: Judge, seed: int) -> Decision:
    """Of period 2 or 4, of another strength and sign in each sample, on images that are fine but for it."""
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    cell = 1 + seed % 2
    strength = 0.2 * torch.randn(IMAGES, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    return judge((honest(seed) + strength * ((rows // cell + columns // cell) % 2 * 2 - 1)).clamp(-1, 1))


SICK = {
    collapsed: "Collapsed variance",
    constant: "Constant output",
    non_finite: "Non-finite output|is broken",
    won: "The discriminator won",
    checkered: "Checkerboard noise",
    wrong_range: "use only the levels|Wrong levels",
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", SICK, ids=lambda kind: kind.__name__)
def test_no_sick_run_is_promoted(kind: Callable[[Judge, int], Decision], seed: int, judge: Judge) -> None:
    decision = kind(judge, seed)
    assert decision.outcome == "reject"
    assert re.search(SICK[kind], decision.reasons[0]), decision.reasons


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_no_healthy_run_is_blocked(seed: int, judge: Judge) -> None:
    """Good ones and mediocre ones: blurred, of little contrast, of few modes, with a strong discriminator."""
    table = honest(10 + seed)
    kinds = [
        table,
        nn.functional.avg_pool2d(table, 5, 1, 2),
        table.mean(dim=0) + 0.6 * (table - table.mean(dim=0)),
        table + 0.1 * torch.randn(table.shape, generator=torch.Generator().manual_seed(seed)),
    ]
    vae = "images_seen,step,loss/negative_elbo\n64,1,5.0\n"
    history = ["", scores(0.97, 0.04), scores(0.5, 0.5), vae, scores(0.9, 0.001)][seed % 5]
    decision = judge(kinds[seed % 4], history=history)
    assert decision.outcome == "promote", decision.reasons


def test_levels_are_those_of_all_images_at_once() -> None:
    images, meter, whole = torch.from_numpy(truth(50, 3)), Meter(), Meter()
    whole.add(images, broken=8)
    assert whole.levels().grid > 0
    for batch in images.split(7):
        meter.add(batch, broken=1)
    levels, wide = meter.levels(), images.double()
    assert levels.grid == pytest.approx(whole.levels().grid)
    assert levels.mean == pytest.approx(float(wide.mean()))
    assert levels.deviation == pytest.approx(float(wide.std(correction=0)))
    assert levels.variance == pytest.approx(float(wide.var(dim=0, correction=0).mean()))
    assert (levels.low, levels.high, levels.broken) == (int(images.min()), int(images.max()), 8)


def test_a_loss_that_is_no_number_at_the_end_is_told() -> None:
    fine = Levels(mean=100, deviation=60, variance=3000, low=0, high=255)
    assert findings(fine, fine, 1.0) == []
    rows = [{"images_seen": 64.0, "loss/rate": 1.0}, {"images_seen": 128.0, "loss/rate": float("nan")}]
    assert findings(fine, fine, 1.0, rows) == ["Diverged: loss/rate was nan after 128 images."]
