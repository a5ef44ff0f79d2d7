"""Stacked MNIST: how many of 1,000 modes does a GAN cover? Three digits are the colours of an image (Metz et al. 2017).

    python -m benchmarks.stacked_mnist MNIST --work FOLDER [--images 100000] [--set KEY=VALUE ...]

MNIST is a folder with an images-idx3-ubyte file and its labels. R3GAN and DCGAN see equally many stacked images, and a
classifier of single digits counts the combinations among 10,000 samples, eight times in a training. It names a digit
for anything, noise included: so the combinations of which it is sure stand beside them. A second call with the same
FOLDER goes on where the first one stopped. `--set` changes a setting of R3GAN.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.data.making.recipe import Recipe
from genmodel.errors import user_errors
from genmodel.evaluation.extractors.classifier import Classifier
from genmodel.files import tensors
from genmodel.models.contract import Family
from genmodel.params import run_config
from genmodel.sampling.draw import sample
from genmodel.sampling.load import load_model
from genmodel.settings.config import EvaluationConfig
from genmodel.showing.display import Display
from genmodel.sizes import Size
from genmodel.training import trainer
from genmodel.training.identify import identify

SINGLE, EDGE = Size(28, 28), 2  # pixels of a digit, and around it
STACKED, SAMPLES = 30_000, 10_000
SURE = 0.9  # of each of the three digits
TRAINING = {"batch_size": 64, "flip": False, "threads": 1, "ema_half_life": 2_000, "log_every": 6_400}


def network(images: int) -> dict[str, dict[str, Any]]:
    """Of both families, about equally wide; schedules over `images`."""
    changing = {
        "learning_rate": {"start": 1.0e-3, "end": 2.0e-4, "over": images},
        "beta2": {"start": 0.9, "end": 0.99, "over": images},
        "gamma": {"start": 1.0, "end": 0.1, "over": images},
    }
    widths = {"base_channels": 16, "max_channels": 128, "blocks": 1}
    return {"r3gan": {"latent_dim": 64, **widths, **changing}, "dcgan": {"latent_dim": 64, "base_channels": 32}}


class Judge(Display):
    """Prints the modes covered, when samples are drawn and an eighth of the training has passed since the last time."""

    def __init__(self, name: str, classifier: Classifier, images: int) -> None:
        super().__init__()
        self.name, self.classifier, self.every, self.due = name, classifier, images // 8, 0

    def take_samples(self, images_seen: int, model: Family) -> None:
        super().take_samples(images_seen, model)
        if images_seen >= self.due:
            self.due = images_seen + self.every
            print(told(self.name, images_seen, modes(model, self.classifier)), flush=True)


def told(name: str, images_seen: int, covered: tuple[int, int, float]) -> str:
    modes, sure, divergence = covered
    return f"{name}: {images_seen:,} images, {modes} of 1,000 modes, {sure} of them surely, KL {divergence:.3f}"


def modes(model: Family, classifier: Classifier) -> tuple[int, int, float]:
    """The combinations of digits among SAMPLES samples, those seen surely, and KL(samples || uniform) in nats."""
    found, sure = numbers(sample(model, SAMPLES, seed=0), classifier)
    shares = found.bincount(minlength=1_000).double() / len(found)
    present = shares[shares > 0]
    return len(present), len(found[sure].unique()), float((present * (present * 1_000).log()).sum())


@torch.inference_mode()
def numbers(images: Tensor, classifier: Classifier) -> tuple[Tensor, Tensor]:
    """The combinations, 0 .. 999, that stacked images uint8 [N, 32, 32, 3] show, and which it is SURE of."""
    inside = images[:, EDGE:-EDGE, EDGE:-EDGE]
    logits = [
        torch.cat([classifier(part)[1] for part in inside[..., colour : colour + 1].split(500)]) for colour in range(3)
    ]
    shares, digits = torch.stack(logits).softmax(2).max(2)
    return 100 * digits[0] + 10 * digits[1] + digits[2], (shares >= SURE).all(0)


def stacked(singles: Block, out: Path) -> Block:
    """A block of STACKED images of three digits drawn at random."""
    rows = singles.rows("train")
    chosen = np.random.default_rng(0).choice(rows, (STACKED, 3))
    levels = singles.gather(SINGLE, np.unique(chosen))[..., 0]
    images = levels[np.searchsorted(np.unique(chosen), chosen)].transpose(0, 2, 3, 1)
    array = out.with_suffix(".npz")
    np.savez(array, images=np.pad(images, ((0, 0), (EDGE, EDGE), (EDGE, EDGE), (0, 0))))
    return prepare(str(array), out, [SINGLE.height + 2 * EDGE], val_fraction=0.02)


def kept(singles: Block, path: Path, images: int) -> Classifier:
    """The classifier of single digits, trained on so many images unless it was before."""
    if not path.exists():
        judge = EvaluationConfig(image_size=SINGLE, classifier_images=images)
        made = Classifier.make(singles, SINGLE, judge, "cpu")
        tensors.save(path, made.weights(), {"val_accuracy": str(made.val_accuracy)})
    weights, about = tensors.load(path)
    classifier = Classifier(SINGLE, singles.channels, len(singles.classes)).eval().requires_grad_(False)
    classifier.load_state_dict(weights)
    classifier.val_accuracy = float(about["val_accuracy"])
    return classifier


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    work, images = options.work, options.images
    with user_errors():
        places = {name: work / name for name in ("singles", "stacked")}
        if not places["singles"].exists():
            prepare(
                str(options.source), places["singles"], [SINGLE.height], val_fraction=0.2, recipe=Recipe(channels=1)
            )
        singles = Block.open(places["singles"])
        block = Block.open(places["stacked"]) if places["stacked"].exists() else stacked(singles, places["stacked"])
        classifier = kept(singles, work / "classifier.safetensors", options.classifier_images)
        rows = block.rows("val")
        real, _ = numbers(torch.from_numpy(block.gather(block.sizes[0], rows)), classifier)
        print(
            f"classifier: {classifier.val_accuracy:.4f} of held-out digits; {len(real.unique())} modes in {len(rows)}"
        )
        for family in options.families.split(","):
            values = {"family": family, "image_size": 32, "network": network(images)[family]}
            changes = options.set if family == "r3gan" else []
            config = run_config({**values, "training": {**TRAINING, "images": images}}, family, changes)
            out = work / "models" / family
            watcher = Judge(family, classifier, images)
            trainer.train(identify(family, config, block), block, out, work / "runs", watcher=watcher)
            print(told(f"{family}, the end", images, modes(load_model(out)[0], classifier)), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classifier-images", type=int, default=60_000)
    parser.add_argument("--families", default="r3gan,dcgan")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
