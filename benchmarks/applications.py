"""Completing, denoising and enlarging held-out images: a model's error beside that of plain ways.

    python -m benchmarks.applications MODEL ... [--data data] [--images 32] [--draws 4] [--tasks inpaint,denoise]
        [--picture FILE]

The same images for every model, evenly from the val split. A table of Markdown: the root mean squared error over all
colour values that are asked for (those of the hole, if a part is filled in), in levels of 0 to 255, its standard error
over the images, and PSNR. One answer of several possible ones is as far from the truth as they are from each other; the
mean of several is a fairer guess, and a blurred one. Conditional models are not told the class.
"""

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from genmodel.applications import plain
from genmodel.applications.files import save_image
from genmodel.applications.page import masked, page
from genmodel.applications.restore import COMPLETE, RESTORE, completed, denoised, enlarged
from genmodel.data.block import Block
from genmodel.devices import choose_device, use_cpu
from genmodel.errors import ConfigError, user_errors
from genmodel.evaluation.extractors.features import held_out_rows
from genmodel.models.contract import Family
from genmodel.pixels import to_model, to_uint8
from genmodel.sampling.load import load_model
from genmodel.sizes import Size

SIGMAS = 25, 50  # levels of noise
FACTORS = 2, 4
SHOWN, GAP = 6, 4  # images of a picture, and white pixels between them


class Task(NamedTuple):
    """What is shown of an image, uint8 [H, W, C], and how it is found again."""

    needs: Sequence[type]  # abilities, of which a model must have one
    seen: Callable[[Tensor], Tensor]
    answer: Callable[[Family, Tensor, int], Tensor]  # a model's, to what is shown and a seed
    ways: Mapping[str, Callable[[Tensor], Tensor]]  # without a model, of float [N, C, H, W]
    asked: Tensor  # bool [H, W], the pixels that are measured


def tasks(size: Size) -> dict[str, Task]:
    """All that is measured, by name."""
    rows, columns = torch.arange(size.height)[:, None], torch.arange(size.width)[None, :]
    middle = (2 * rows - size.height + 1).abs().lt(size.height // 2) & (2 * columns - size.width + 1).abs().lt(
        size.width // 2
    )
    lower = (rows >= size.height // 2).expand(size)
    found = {"inpaint, the middle quarter": _inpainting(middle), "inpaint, the lower half": _inpainting(lower)}
    found |= {f"denoise, sigma {sigma}": _denoising(sigma, size) for sigma in SIGMAS}
    fitting = [factor for factor in FACTORS if not any(side % factor for side in size)]
    return found | {f"upscale, factor {factor}": _upscaling(factor, size) for factor in fitting}


def _inpainting(hole: Tensor) -> Task:
    def answer(model: Family, image: Tensor, seed: int) -> Tensor:
        return completed(model, image, ~hole, 1, seed)[0]

    def seen(image: Tensor) -> Tensor:
        return torch.where(hole[:, :, None], 0, image)

    return Task(COMPLETE, seen, answer, {"diffusion": lambda values: plain.filled(values, ~hole)}, hole)


def _denoising(sigma: int, size: Size) -> Task:
    def seen(image: Tensor) -> Tensor:
        rng = torch.Generator().manual_seed(int(image.sum()))  # the same for every model
        return (image + sigma * torch.randn(image.shape, generator=rng)).round().clamp(0, 255).to(torch.uint8)

    def answer(model: Family, image: Tensor, seed: int) -> Tensor:
        return denoised(model, image, sigma, seed)

    medians = {f"median of {side}x{side}": partial(plain.median, window=side) for side in (3, 5)}
    return Task(RESTORE, seen, answer, {"as it is": lambda values: values, **medians}, torch.ones(size).bool())


def _upscaling(factor: int, size: Size) -> Task:
    def seen(image: Tensor) -> Tensor:
        return (
            F.avg_pool2d(image.permute(2, 0, 1).float(), factor).round().to(torch.uint8).permute(1, 2, 0).contiguous()
        )

    def answer(model: Family, image: Tensor, seed: int) -> Tensor:
        return enlarged(model, image, factor, seed)

    ways = {"bicubic": partial(plain.enlarged, factor=factor)}
    return Task(RESTORE, seen, answer, ways, torch.ones(size).bool())


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        use_cpu(options.threads)
        models = {folder.name: load_model(folder, choose_device())[0] for folder in options.models}
        images = _held_out(list(models.values()), Block.open(options.data), options.images)
        columns = ["one answer", *([f"mean of {options.draws}"] if options.draws > 1 else [])]
        print(f"| {len(images)} held-out images of {options.data.name} | by | {' | '.join(columns)} |")
        print(f"| --- | --- |{' ---: |' * len(columns)}", flush=True)
        for name, task in tasks(Size(*images.shape[1:3])).items():
            if any(name.startswith(wanted) for wanted in options.tasks.split(",")):
                shown = _measured(name, task, models, images, options.draws)
                if options.picture:
                    _save(options.picture.with_stem(f"{options.picture.stem}-{re.sub('[ ,]+', '-', name)}"), shown)
    return 0


def _held_out(models: Sequence[Family], block: Block, n: int) -> Tensor:
    """uint8 [N, H, W, C] of the size that all models draw."""
    if len(kinds := {(model.image_size, model.spec.channels) for model in models}) > 1:
        raise ConfigError("models of different sizes or channels cannot be measured side by side")
    ((size, channels),) = kinds
    if channels != block.channels:
        raise ConfigError(f"{block.path} has images of {block.channels} channels, and the models draw {channels}")
    return torch.from_numpy(block.gather(size, held_out_rows(block, n)))


def _measured(name: str, task: Task, models: Mapping[str, Family], images: Tensor, draws: int) -> dict[str, Tensor]:
    """Prints a line for each way and model; the truth, what is shown of it, and each one's answers."""
    seen = [task.seen(image) for image in images]
    hidden = [masked(image, ~task.asked) for image in images]
    shown = {"truth": images, "seen": torch.stack(seen if task.asked.all() else hidden)}

    def tell(by: str, answers: Tensor | None) -> None:
        cells = ["cannot"]
        if answers is not None:
            shown[by], means = answers[0], [answers[0], answers.double().mean(0)]
            cells = [_error(made, images, task.asked) for made in means[: min(2, len(answers))]]
        cells += [""] * (min(2, draws) - len(cells))
        print(f"| {name} | {by} | {' | '.join(cells)} |", flush=True)

    for way, do in task.ways.items():
        tell(way, torch.cat([to_uint8(do(to_model(image[None]))) for image in seen])[None])
    for by, model in models.items():
        able = isinstance(model, tuple(task.needs))
        made = [torch.stack([task.answer(model, image, seed) for image in seen]) for seed in range(draws * able)]
        tell(by, torch.stack(made) if made else None)
    return shown


def _error(made: Tensor, truth: Tensor, asked: Tensor) -> str:
    squares = (made.double() - truth.double())[:, asked].square().flatten(1).mean(1)
    error = float(squares.mean().sqrt())
    spread = float(squares.std() / len(squares) ** 0.5) / (2 * max(error, 1e-9))  # of the mean square, by its root
    return f"{error:.1f} ± {spread:.1f} ({20 * math.log10(255 / max(error, 1e-9)):.1f} dB)"


def _save(path: Path, shown: Mapping[str, Tensor]) -> None:
    """A column for each way and model, with the first images below each other."""
    height = shown["truth"].shape[1]
    columns = {}
    for name, images in shown.items():
        zoom = max(1, 64 // height) * height // images.shape[1]
        large = images[:SHOWN].repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
        columns[name] = F.pad(large, (0, 0, 0, 0, 0, GAP), value=255).flatten(0, 1)
    save_image(path, page(columns))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.applications", description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="finished models' folders")
    parser.add_argument("--data", type=Path, default=Path("data"), help="a block with held-out images")
    parser.add_argument("--images", type=int, default=32, help="held-out images (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=4, help="answers to each image (default: %(default)s)")
    parser.add_argument("--tasks", default="inpaint,denoise,upscale", help="(default: %(default)s)")
    parser.add_argument("--picture", type=Path, help="save answers to the first images, as a PNG for each task")
    parser.add_argument("--threads", type=int, default=0, help="on the CPU; 0: torch's choice (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
