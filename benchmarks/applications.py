"""Completing, denoising and enlarging held-out images: a model's error beside that of a plain way.

    python -m benchmarks.applications MODEL ... [--data data] [--images 50] [--tasks inpaint,denoise,upscale]
        [--picture FILE]

The same images for every model, evenly from the val split. A table of Markdown: the root mean squared error over all
colour values of what is asked for (of the hole alone, if a part is filled in), in levels of 0 to 255, and its standard
error over the images. A model that draws one of many possible answers is as far from the truth as they are from each
other; the mean of 8 is a fairer guess, and a blurred one. A conditional model is not told the class.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

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

DRAWS = 8  # whose mean is also measured
SIGMAS = 25, 50  # levels of noise
FACTORS = 2, 4


class Task(NamedTuple):
    """What is done to an image, uint8 [H, W, C], and how it is undone."""

    needs: tuple[type, ...]
    seen: Callable[[Tensor], Tensor]  # what is shown of it
    model: Callable[[Family, Tensor, int], Tensor]  # the answer of a model to what is shown, and a seed
    ways: Mapping[str, Callable[[Tensor], Tensor]]  # plain answers
    asked: Tensor | None = None  # bool [H, W]: only these pixels are measured


def tasks(size: tuple[int, int]) -> dict[str, Task]:
    """All that is measured, by name."""
    height, width = size
    middle = torch.zeros(size, dtype=torch.bool)
    middle[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    lower = (torch.arange(height) >= height // 2)[:, None].expand(size)
    found = {}
    for name, hole in (("inpaint, the middle quarter", middle), ("inpaint, the lower half", lower)):
        found[name] = _inpainting(hole)
    for sigma in SIGMAS:
        found[f"denoise, sigma {sigma}"] = _denoising(sigma)
    for factor in FACTORS:
        if all(side % factor == 0 for side in size):
            found[f"upscale, factor {factor}"] = _upscaling(factor)
    return found


def _inpainting(hole: Tensor) -> Task:
    def filled(values: Tensor) -> Tensor:
        return plain.filled(values, ~hole)

    def answer(model: Family, image: Tensor, seed: int) -> Tensor:
        return completed(model, image, ~hole, 1, seed)[0]

    return Task(tuple(COMPLETE), lambda image: image, answer, {"diffusion from the border": filled}, hole)


def _denoising(sigma: int) -> Task:
    def noisy(image: Tensor) -> Tensor:
        drawn = np.random.default_rng(image.numpy().tobytes()[0]).normal(0, sigma, image.shape)
        return (image + torch.from_numpy(drawn)).round().clamp(0, 255).to(torch.uint8)

    ways = {
        "as it is": lambda values: values,
        "median of 3x3": plain.median,
        "median of 5x5": lambda values: plain.median(values, 5),
    }
    return Task(tuple(RESTORE), noisy, lambda model, image, seed: denoised(model, image, sigma, seed), ways)


def _upscaling(factor: int) -> Task:
    def small(image: Tensor) -> Tensor:
        return avg_pool2d(image.permute(2, 0, 1).float(), factor).round().to(torch.uint8).permute(1, 2, 0).contiguous()

    def answer(model: Family, image: Tensor, seed: int) -> Tensor:
        return enlarged(model, image, factor, seed)

    return Task(tuple(RESTORE), small, answer, {"bicubic": lambda values: plain.enlarged(values, factor)})


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        use_cpu(options.threads)
        models = {folder.name: load_model(folder, choose_device())[0] for folder in options.models}
        block = Block.open(options.data)
        sizes = {(model.image_size, model.spec.channels) for model in models.values()}
        if len(sizes) > 1:
            raise ConfigError("models of different sizes or channels cannot be measured side by side")
        ((size, channels),) = sizes
        if channels != block.channels:
            raise ConfigError(f"{options.data} has images of {block.channels} channels, the models draw {channels}")
        images = torch.from_numpy(block.gather(size, held_out_rows(block, options.images)))
        print(f"| {len(images)} held-out images of {options.data.name} | of | one answer | mean of {DRAWS} |")
        print("| --- | --- | ---: | ---: |", flush=True)
        for name, task in tasks(size).items():
            if any(name.startswith(wanted) for wanted in options.tasks.split(",")):
                shown = _measured(name, task, models, images, options.pictures)
                if options.picture:
                    save_image(options.picture.with_stem(f"{options.picture.stem}-{name.split(',')[0]}"), page(shown))
    return 0
