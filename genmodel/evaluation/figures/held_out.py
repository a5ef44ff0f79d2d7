"""Figures of a model's abilities besides sampling, over the val split, which no model is trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from genmodel.data.block import UNLABELLED, Block
from genmodel.evaluation import table
from genmodel.evaluation.extractors.features import BATCH_SIZE, held_out_rows, image_batches
from genmodel.evaluation.figures.bootstrap import Estimate
from genmodel.evaluation.figures.similarity import psnr, ssim
from genmodel.models import abilities
from genmodel.models.contract import Family
from genmodel.settings.config import EvaluationConfig


@dataclass(frozen=True)
class Shown:
    """A model and a batch of val images that it is shown."""

    model: Family
    images: Tensor  # uint8 [N, H, W, C]
    labels: Tensor  # int64 [N], the model's class numbers; -1 for a class that it does not know or no label
    labelled: Tensor  # bool [N], whether the block has a label
    importance_samples: int

    @cached_property
    def levels(self) -> Tensor:
        """float64 [N, C, H, W] in [0, 255]."""
        return self.images.permute(0, 3, 1, 2).double()

    @cached_property
    def rebuilt(self) -> Tensor:
        """The reconstructions, float64 [N, C, H, W] in [0, 255], not rounded."""
        assert isinstance(self.model, abilities.Reconstructs)
        return (self.model.reconstruct(self.images, self.labels).double() + 1) * 127.5


@torch.inference_mode()
def abilities_measured(
    model: Family, classes: list[str], block: Block, config: EvaluationConfig, device: torch.device
) -> Mapping[str, Estimate]:
    """The figures that apply to a model, means over the val split (at most `config.samples` images of it).

    `classes` are the names of the classes that it was trained with. Each image has the same weight, and each figure has
    its own random numbers, so that no figure affects another.
    """
    rows = held_out_rows(block, config.samples)
    figures = [figure for figure in table.FIGURES if figure.needs in table.ABILITIES and _can(model, figure.needs)]
    if not figures or not len(rows):
        return {}
    told = torch.as_tensor(block.labels[rows], dtype=torch.int64)
    known = torch.tensor([*(classes.index(name) if name in classes else -1 for name in block.classes), -1])
    labels = known[told]  # -1 picks the last entry: images without a label
    rngs = {figure.name: torch.Generator(device).manual_seed(config.seed) for figure in figures}
    found: dict[str, list[Tensor]] = {figure.name: [] for figure in figures}
    parts = (
        image_batches(block, model.image_size, rows),
        labels.split(BATCH_SIZE),
        (told != UNLABELLED).split(BATCH_SIZE),
    )
    for images, theirs, labelled in zip(*parts, strict=True):
        shown = Shown(model, images.to(device), theirs.to(device), labelled.to(device), config.importance_samples)
        for figure in figures:
            found[figure.name].append(figure.function()(shown, rngs[figure.name]))
    whole = {name: torch.cat(values).cpu() for name, values in found.items()}
    return {figure.name: figure.summary()(whole[figure.name]) for figure in figures if len(whole[figure.name])}


def _can(model: Family, ability: str) -> bool:
    return isinstance(model, getattr(abilities, ability))


def bits_per_dim(shown: Shown, rng: torch.Generator) -> Tensor:
    assert isinstance(shown.model, abilities.Bounds)
    return shown.model.bound(shown.images, shown.labels, rng)


def bits_per_dim_iw(shown: Shown, rng: torch.Generator) -> Tensor:
    """With `importance_samples` samples per image (Burda et al. 2016, eq. 8)."""
    assert isinstance(shown.model, abilities.Weighted)
    return shown.model.weighted_bound(shown.images, shown.labels, rng, shown.importance_samples)


def bits_per_dim_exact(shown: Shown, rng: torch.Generator) -> Tensor:
    assert isinstance(shown.model, abilities.Likelihood)
    return shown.model.bits(shown.images, shown.labels)


def peak_signal_to_noise(shown: Shown, rng: torch.Generator) -> Tensor:
    return psnr(shown.levels, shown.rebuilt)


def structural_similarity(shown: Shown, rng: torch.Generator) -> Tensor:
    return ssim(shown.levels, shown.rebuilt)


def accuracy(shown: Shown, rng: torch.Generator) -> Tensor:
    assert isinstance(shown.model, abilities.Classifies)
    right = shown.model.classify(shown.images).argmax(dim=1) == shown.labels
    return right[shown.labelled].double()


def clusters(shown: Shown, rng: torch.Generator) -> Tensor:
    """The groups and the class of each image that has one, int64 [N, G + 1]; -1: a class that the model never saw."""
    assert isinstance(shown.model, abilities.Clusters)
    told = torch.cat([shown.model.cluster(shown.images), shown.labels[:, None]], dim=1)
    return told[shown.labelled]
