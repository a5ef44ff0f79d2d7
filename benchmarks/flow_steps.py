"""The steps of a flow's sampler against what its samples are worth, as a table and a picture; and those of its bound.

    python -m benchmarks.flow_steps NAME [--steps 1,2,4,8,16,32] [--guidance 1,1.5,2] [--out steps.png]

In a project with data/, models/NAME and reference/. All ways start from the same noise. "Recognised" is what an
outsider is sure of (benchmarks.recognised); the distance is that of the project's extractor.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.svm import SVC

from benchmarks import recognised
from genmodel.data.block import Block
from genmodel.devices import use_cpu
from genmodel.errors import ModelError, user_errors
from genmodel.evaluation.extractors.features import extract, held_out_rows
from genmodel.evaluation.figures.distances import frechet_distance
from genmodel.evaluation.reference import Reference
from genmodel.files import durable
from genmodel.models.flow import Flow
from genmodel.models.parts.flow.ode import EVALUATIONS
from genmodel.params import read_params
from genmodel.sampling.draw import sample
from genmodel.sampling.load import load_model
from genmodel.showing.curves import COLOURS


class Way(NamedTuple):
    """How the sampler was asked to go, and what came of it."""

    solver: str
    guidance: float
    evaluations: int  # of the velocity, in one sample
    rate: float  # images/s
    recognised: float
    distance: float


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        use_cpu(options.threads)
        block, judge = Block.open(Path("data")), read_params(Path("params.yaml")).evaluation
        model, about = load_model(Path("models") / options.name)
        if not isinstance(model, Flow):
            raise ModelError(f"models/{options.name} is not a flow")
        svm, reference = recognised.judge(block, model.image_size), Reference.open(Path("reference"))
        extractor, plain = reference.extractor(judge), model.config
        print("solver    guidance  steps  evaluations  images/s  recognised  distance")
        ways: list[Way] = []
        for guidance in options.guidance:
            for solver in options.solvers if guidance == options.guidance[0] else options.solvers[-1:]:
                for steps in options.steps:
                    model.config = dataclasses.replace(plain, solver=solver, steps=steps, guidance=guidance)
                    start = time.perf_counter()
                    images = sample(model, options.samples, 0, about["class_counts"] if model.classes else ())
                    rate = options.samples / (time.perf_counter() - start)
                    features = extract(extractor, images.split(256)).values
                    distance = float(frechet_distance(reference.real.mean, reference.real.root, features).value)
                    way = Way(solver, guidance, EVALUATIONS[solver] * steps, rate, _sure(svm, images), distance)
                    print(
                        f"{solver:8} {guidance:9g} {steps:6} {way.evaluations:12} {rate:9.0f}"
                        f" {way.recognised:11.1%} {distance:9.3f}",
                        flush=True,
                    )
                    ways.append(way)
        draw(ways, options.out)
        model.config = plain
        _bounds(model, block, about["classes"], options.likelihood_steps)
    return 0


def _sure(svm: SVC, images: torch.Tensor) -> float:
    """Share of uint8 [N, H, W, C] images that the judge is sure of."""
    flat = images.numpy().reshape(len(images), -1).astype(np.float32) / 255
    return float(np.mean(svm.predict_proba(flat).max(1) > recognised.SURE))


def _bounds(model: Flow, block: Block, classes: Sequence[str], counts: Sequence[int]) -> None:
    """The bound on val images by the solver's steps, with the scatter of its estimate."""
    rows = held_out_rows(block, 64)
    images = torch.from_numpy(block.gather(model.image_size, rows))
    known = [classes.index(name) if name in classes else -1 for name in block.classes]
    labels = torch.tensor(known)[torch.as_tensor(block.labels[rows], dtype=torch.int64)]
    print(f"\nbits/dim of {len(rows)} val images, 4 draws of each; the estimator's standard errors")
    print("steps     bound     of the mean   of one image, one draw")
    for steps in counts:
        model.config = dataclasses.replace(model.config, likelihood_steps=steps)
        mean, error = model.scattered_bounds(images, labels, torch.Generator().manual_seed(0), 4)
        ours = float(error.square().mean().sqrt())
        print(f"{steps:5} {float(mean.mean()):9.4f} {ours / len(rows) ** 0.5:15.4f} {2 * ours:24.4f}", flush=True)


def draw(ways: Sequence[Way], out: Path) -> None:
    """Both figures against the evaluations, a line for each solver and guidance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    lines = dict.fromkeys((way.solver, way.guidance) for way in ways)
    for axes, (name, title, scale) in zip(
        panels, (("recognised", "samples recognised, %", 100), ("distance", "Frechet distance", 1)), strict=True
    ):
        for colour, line in zip(COLOURS * 3, lines, strict=False):
            own = [way for way in ways if (way.solver, way.guidance) == line]
            values: Any = [scale * getattr(way, name) for way in own]
            label = f"{line[0]}, guidance {line[1]:g}"
            axes.plot([way.evaluations for way in own], values, "o-", color=colour, markersize=4, label=label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(title, loc="left")
        axes.grid(alpha=0.3)
    panels[1].set_yscale("log")
    panels[1].yaxis.set_major_formatter("{x:g}")
    panels[1].yaxis.set_minor_formatter("{x:g}")
    panels[1].legend(frameon=False)
    figure.supxlabel("evaluations of the network in one sample")
    durable.write_with(out, lambda handle: figure.savefig(handle, format="png", dpi=100))


def _numbers(kind: type) -> Any:
    return lambda text: [kind(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow_steps", description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the model in models/")
    parser.add_argument("--steps", type=_numbers(int), default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--solvers", type=_numbers(str), default=["euler", "heun", "midpoint"])
    parser.add_argument(
        "--guidance",
        type=_numbers(float),
        default=[1.0],
        help="all solvers with the first, the last one with the others",
    )
    parser.add_argument("--likelihood-steps", type=_numbers(int), default=[8, 16, 32, 64])
    parser.add_argument("--samples", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="on the CPU; 0: torch's choice (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("steps.png"), help="the picture (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
