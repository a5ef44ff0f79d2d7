"""The judgement itself: sets of images whose order is known, ranked by each distance.

    python -m benchmarks.judgement BLOCK --size 16 [--classifier-images 20000] [--samples 2000]

The val images of a block, which the extractor has not seen, are spoilt in steps, each worse than the one before. A row
is a ladder of such sets, for each distance: its values must rise. "last units" are the features of the classifier's
last layer alone, which ranked models before its version 2.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from genmodel.data.block import Block
from genmodel.devices import use_cpu
from genmodel.errors import user_errors
from genmodel.evaluation.extractors.classifier import Classifier
from genmodel.evaluation.extractors.features import BATCH_SIZE, image_batches, spread
from genmodel.evaluation.extractors.wavelets import wavelets
from genmodel.evaluation.figures.distances import frechet_distance, moments, square_root
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

Ladder = list[Tensor]  # uint8 [N, H, W, C] each, best first
_LEAST = 1e-3  # deviation that wavelets are divided by


def ladders(images: Tensor, labels: Tensor) -> dict[str, Ladder]:
    """Real images [N, H, W, C] of classes [N], and the same ones spoilt in steps, in six ways."""
    side = min(images.shape[1:3])
    return {
        "blurred": [images, *(blurred(images, side / part) for part in (24, 12, 6))],
        "noise": [images, *(noisy(images, levels) for levels in (16, 40, 90))],
        "checkerboard": [images, *(checkered(images, levels) for levels in (8, 24, 60))],
        "mixed with noise": [images, *(mixed(images, share) for share in (0.1, 0.3, 0.9))],
        "classes dropped": [images, *(dropped(images, labels, share) for share in (0.5, 0.9))],
        "copies": [images, *(copied(images, share) for share in (0.2, 0.05, 0.01))],
    }


def blurred(images: Tensor, sigma: float) -> Tensor:
    """By a Gaussian of `sigma` pixels."""
    reach = max(1, round(3 * sigma))
    window = (-torch.arange(-reach, reach + 1).float().square() / (2 * sigma**2)).exp()
    window, channels = window / window.sum(), images.shape[-1]
    soft = pad(images.permute(0, 3, 1, 2).float(), (reach,) * 4, mode="replicate")
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        soft = conv2d(soft, window.view(shape).expand(channels, -1, -1, -1), groups=channels)
    return _levels(soft.permute(0, 2, 3, 1))


def noisy(images: Tensor, levels: float) -> Tensor:
    """With normal noise of that deviation."""
    return _levels(images.float() + levels * torch.randn(images.shape, generator=_rng()))


def checkered(images: Tensor, levels: float) -> Tensor:
    """With a checkerboard of single pixels, of that amplitude."""
    down, along = torch.arange(images.shape[1]), torch.arange(images.shape[2])
    board = (down[:, None] + along[None]) % 2 * 2 - 1
    return _levels(images.float() + levels * board[None, :, :, None])


def mixed(images: Tensor, share: float) -> Tensor:
    """With noise in place of a share of the images."""
    rows, made = torch.randperm(len(images), generator=_rng())[: int(len(images) * share)], images.clone()
    made[rows] = torch.randint(256, made[rows].shape, generator=_rng(), dtype=torch.uint8)
    return made


def dropped(images: Tensor, labels: Tensor, share: float) -> Tensor:
    """Without a share of the classes; images of the others come more than once."""
    classes = labels.unique()
    kept = classes[torch.randperm(len(classes), generator=_rng())[int(len(classes) * share) :]]
    rows = torch.isin(labels, kept).nonzero()[:, 0]
    return images[rows[torch.arange(len(images)) % len(rows)]]


def copied(images: Tensor, share: float) -> Tensor:
    """A share of the images, again and again."""
    rows = torch.from_numpy(spread(np.arange(len(images)), max(2, int(len(images) * share))))
    return images[rows[torch.arange(len(images)) % len(rows)]]


def _levels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).byte()


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


Features = Callable[[Tensor], Tensor]


def distances(extract: Features, real: Tensor, steps: Mapping[str, Ladder]) -> dict[str, list[float]]:
    """The Frechet distance of each set to the real images; each ladder begins with the same set."""
    mean, covariance = moments(_all(extract, real))
    root = square_root(covariance)

    def to_real(images: Tensor) -> float:
        return frechet_distance(mean, root, _all(extract, images)).value

    best = to_real(next(iter(steps.values()))[0])
    return {ladder: [best, *map(to_real, sets[1:])] for ladder, sets in steps.items()}


def in_order(values: list[float]) -> bool:
    return values == sorted(set(values))


@torch.inference_mode()
def _all(extract: Features, images: Tensor) -> Tensor:
    return torch.cat([extract(part) for part in images.split(BATCH_SIZE)])


def judges(classifier: Classifier, real: Tensor) -> Mapping[str, Features]:
    """The features that are compared, by name."""
    colours = _all(wavelets, real)
    mean, deviation = colours.mean(dim=0), colours.std(dim=0).clamp(min=_LEAST)
    return {
        "last units": lambda images: classifier.layers(images)[0][:, -classifier.penultimate.out_features :],
        "classifier": lambda images: classifier(images)[0],
        "wavelets": lambda images: (wavelets(images) - mean) / deviation,
    }


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        use_cpu(1)
        block, size = Block.open(options.block), Size.of(options.size)
        config = EvaluationConfig(image_size=size, classifier_images=options.classifier_images)
        classifier = Classifier.make(block, size, config, "cpu")
        print(f"classifier: {classifier.val_accuracy:.1%} of the val images right (chance {classifier.chance:.1%})")
        rows = {split: spread(block.rows(split), options.samples) for split in ("train", "val")}
        real, held_out = (torch.cat(list(image_batches(block, size, rows[split]))) for split in ("train", "val"))
        steps = ladders(held_out, torch.as_tensor(block.labels[rows["val"]]))
        for judge, extract in judges(classifier, real).items():
            covariance = moments(_all(extract, real)).covariance
            shares = torch.linalg.eigvalsh(covariance).flip(0) / covariance.trace()
            print(f"\n{judge}: 99% of the variance in {int((shares.cumsum(0) < 0.99).sum()) + 1} directions")
            for ladder, found in distances(extract, real, steps).items():
                word = "" if in_order(found) else "  out of order"
                print(f"  {ladder:17}" + "".join(f"{value:10.3f}" for value in found) + word, flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    what = "Rank sets of images whose order is known."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgement", description=what)
    parser.add_argument("block", type=Path, help="a block's folder")
    parser.add_argument("--size", type=int, default=64, help="of its images, in pixels")
    parser.add_argument("--classifier-images", type=int, default=20_000, help="the classifier's training budget")
    parser.add_argument("--samples", type=int, default=2000, help="images of a set, at most")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
