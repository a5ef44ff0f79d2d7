"""Judges a finished model's folder, and draws its samples beside their nearest training images."""

import time
from dataclasses import asdict
from pathlib import Path

import torch

from genmodel.data.block import Block
from genmodel.evaluation.figures.pairwise import nearest
from genmodel.evaluation.judge import Seen, judge_model, networks
from genmodel.evaluation.reference import Reference
from genmodel.evaluation.report import Report, Timing
from genmodel.sampling.draw import ImageSource
from genmodel.sampling.load import load_model
from genmodel.settings.config import EvaluationConfig
from genmodel.showing.grids import save_grid

_SHOWN, _NEIGHBOURS = 16, 3  # samples on the picture, and training images beside each


def evaluate(
    model_dir: Path,
    block: Block,
    reference: Reference,
    config: EvaluationConfig,
    device: str = "cpu",
    *,
    cache: Path | None = None,
    picture: Path | None = None,
) -> tuple[Report, Timing]:
    """Judge the model in `model_dir` by `config.samples` samples, and by its other abilities on the val split.

    Features of samples are kept in the folder `cache`. `picture` is a PNG of samples beside their nearest training
    images. IncomparableError if the reference does not fit the block, the settings or the model's image size.
    """
    start = time.perf_counter()
    reference.check(block, config)
    model, about = load_model(model_dir, device)
    report, seen = judge_model(model, about, model_dir, block, reference, config, cache)
    if picture is not None:
        draw_neighbours(picture, networks(model, about, model_dir), block, reference, seen, config)
    return report, Timing(seconds=time.perf_counter() - start, **asdict(seen.took))


@torch.inference_mode()
def draw_neighbours(
    path: Path, source: ImageSource, block: Block, reference: Reference, seen: Seen, config: EvaluationConfig
) -> None:
    """Samples, each with its 3 nearest training images to its right; the most suspicious first, then any."""
    order = list(range(config.samples))
    if (copies := seen.compared.copies) is not None:
        suspicious = copies.ratios.argsort(stable=True)[: _SHOWN // 2].tolist()
        order = [*suspicious, *(row for row in order if row not in suspicious)]
    chosen = torch.tensor(order[:_SHOWN])
    images = source.draw(source.codes(config.samples, config.seed)[chosen])[0].cpu()
    rows = reference.rows(block)[nearest(seen.samples.features.values[chosen], reference.real.features, _NEIGHBOURS)[1]]
    real = torch.from_numpy(block.gather(reference.image_size, rows.reshape(-1)))
    real = real.reshape(len(chosen), _NEIGHBOURS, *images.shape[1:])
    tiles = torch.cat([images[:, None], real], dim=1).flatten(0, 1)
    save_grid(path, tiles, columns=2 * (1 + _NEIGHBOURS))
