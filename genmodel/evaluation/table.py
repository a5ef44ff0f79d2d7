"""The table of figures: what each is called and means, which direction is better, where it applies, what computes it.

A new figure is one entry here and its function: reports, intervals, the leaderboard, the page, cards and the gate's
guardrails follow from it. docs/add-a-figure.md walks through one. Needs no torch: a figure's function is loaded when
used, and its code counts for the stage `evaluate` as if it were imported (flows/versioning/closures.py).
"""

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

# of genmodel/models/abilities.py
ABILITIES = ("Bounds", "Weighted", "Likelihood", "Reconstructs", "Classifies", "Clusters")
_DIGITS = "{:#.4g}"
_ENDS = ("_low", "_high", "_mean", "_spread")  # of a figure's extra columns


@dataclass(frozen=True, kw_only=True)
class Figure:
    """An entry.

    For samples, its function takes a figures.Compared and gives an Estimate; for a model's ability, it takes a
    held_out.Shown and a generator, and gives values [N] whose mean is the figure, or what `over` makes it of; for
    "weights", it takes an of_weights.Stored and gives the figure.
    """

    name: str  # with {extractor} if it depends on one
    published: str = ""  # its published name, used only with the reference Inception weights
    better: Literal["lower", "higher", "nearer 1", "neither"]
    needs: str = "samples"  # a key of figures.HAS, an ability, or "weights": where it applies
    made_by: str  # module:function
    over: str = "genmodel.evaluation.figures.bootstrap:mean"  # of an ability's values over all batches
    meaning: str  # a sentence for people, without the full stop; does not decide a report (genmodel/code.py)
    format: str = _DIGITS  # for people
    unit: str = ""  # for a heading: what it counts, or is a share of
    guardrail: str = ""  # the gate's setting that bounds it: a floor if higher is better, else a ceiling
    contradicts: bool = False  # if it says the opposite of FRECHET beyond the intervals, the gate decides nothing
    detail: bool = False  # in files and on the page, but not in a terminal's table

    def called(self, extractor: str) -> str:
        return self.published if self.published and extractor == "inception" else self.name.format(extractor=extractor)

    @property
    def is_own(self) -> bool:
        """Whether its name includes the extractor's."""
        return "{" in self.name

    def is_called(self, name: str) -> bool:
        """Whether `name` is its name with some extractor."""
        start, own, end = self.name.partition("{extractor}")
        if not own:
            return name == start
        middle = name[len(start) : len(name) - len(end)]
        return name == self.published or (bool(middle) and "_" not in middle and name == f"{start}{middle}{end}")

    def prefers(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`, in the figure's direction."""
        if self.better == "nearer 1":
            return abs(one - 1) < abs(other - 1)
        return one < other if self.better == "lower" else one > other

    def show(self, value: float) -> str:
        usual = self.format == _DIGITS or not math.isfinite(value)
        return show_number(value) if usual else self.format.format(value)

    def function(self) -> Callable[..., Any]:
        return _named(self.made_by)

    def summary(self) -> Callable[..., Any]:
        return _named(self.over)


def _named(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


_FEATURES, _HELD_OUT = "genmodel.evaluation.figures.of_features", "genmodel.evaluation.figures.held_out"
_WEIGHTS = "genmodel.evaluation.figures.of_weights"
_BITS = "bits per colour value of the val images (8: no better than uniform)"

FRECHET = Figure(  # ranks models and decides the champion
    name="fd_{extractor}", published="fid", better="lower", made_by=f"{_FEATURES}:frechet",
    unit="distance", meaning="Fréchet distance between the features of samples and real images, 0 if equal",
)  # fmt: skip
FIGURES: tuple[Figure, ...] = (
    FRECHET,
    Figure(
        name="fd_{extractor}_infinity", published="fid_infinity", better="lower", detail=True,
        made_by=f"{_FEATURES}:frechet_infinity",
        unit="distance", meaning="the Fréchet distance, extrapolated to infinitely many samples",
    ),
    Figure(
        name="kd_{extractor}", published="kid", better="lower", contradicts=True, detail=True,
        made_by=f"{_FEATURES}:kernel",
        unit="distance", meaning="kernel distance (unbiased MMD²) between the same features, about 0 if equal",
    ),
    Figure(
        name="is_{extractor}", published="inception_score", better="higher", needs="class logits", contradicts=True,
        made_by=f"{_FEATURES}:inception",
        unit="score", meaning="Inception score of the extractor's classes: how sure and varied they are",
    ),
    Figure(
        name="precision", better="higher", contradicts=True, guardrail="min_precision",
        made_by=f"{_FEATURES}:precision",
        unit="share of samples", meaning="share of the samples among the real images",
    ),
    Figure(
        name="recall", better="higher", contradicts=True, guardrail="min_recall", made_by=f"{_FEATURES}:recall",
        unit="share of real", meaning="share of the real images among the samples",
    ),
    Figure(
        name="density", better="nearer 1", contradicts=True, detail=True, made_by=f"{_FEATURES}:density",
        unit="ratio", meaning="how deep samples lie among the real images, above 1 where they huddle",
    ),
    Figure(
        name="coverage", better="higher", contradicts=True, detail=True, made_by=f"{_FEATURES}:coverage",
        unit="share of real", meaning="share of the real images with a sample next to them",
    ),
    Figure(
        name="pair_ms_ssim", better="neither", detail=True, made_by=f"{_FEATURES}:pair_similarity",
        unit="similarity", meaning="MS-SSIM within pairs of samples, high where samples are alike",
    ),
    Figure(
        name="copied", better="lower", needs="held-out images", guardrail="max_copied", made_by=f"{_FEATURES}:copied",
        unit="share of samples", meaning="share of the samples that copy a training image",
    ),
    Figure(
        name="conditional_accuracy", better="higher", needs="requested classes", contradicts=True, format="{:.1%}",
        made_by=f"{_FEATURES}:conditional_accuracy",
        unit="% of samples",
        meaning="share of the samples in which the extractor, which never saw the model, sees the class asked for",
    ),
    Figure(
        name="wavelet_distance", better="lower", needs="wavelets", contradicts=True, detail=True,
        made_by=f"{_FEATURES}:wavelet_distance",
        unit="distance",
        meaning="Fréchet distance between colours and wavelets, which needs no labels: sees blur, noise, checkerboards",
    ),
    Figure(
        name="walk_detour_{extractor}", better="lower", needs="walks through the noise", detail=True,
        made_by=f"{_FEATURES}:walk_detour",
        unit="ratio",
        meaning="the way that features go from one sample to another as the noise does, divided by the straight line: "
        "1 if direct",
    ),
    Figure(
        name="walk_jump_{extractor}", better="lower", needs="walks through the noise", detail=True, format="{:.1%}",
        made_by=f"{_FEATURES}:walk_jump",
        unit="% of the way",
        meaning="share of that way in the longest of 15 steps: 6.7% if even, 100% if an image changes all at once",
    ),
    Figure(
        name="bits_per_dim", better="lower", needs="Bounds", made_by=f"{_HELD_OUT}:bits_per_dim",
        unit="bits, bound", meaning=f"{_BITS}, an upper bound from one latent sample",
    ),
    Figure(
        name="bits_per_dim_iw", better="lower", needs="Weighted", detail=True, made_by=f"{_HELD_OUT}:bits_per_dim_iw",
        unit="bits, bound", meaning=f"{_BITS}, an importance-weighted upper bound, not comparable with bits_per_dim",
    ),
    Figure(
        name="bits_per_dim_exact", better="lower", needs="Likelihood", made_by=f"{_HELD_OUT}:bits_per_dim_exact",
        unit="bits, exact", meaning=f"{_BITS}, exact, not comparable with the bounds",
    ),
    Figure(
        name="psnr", better="higher", needs="Reconstructs", detail=True, format="{:.2f} dB",
        made_by=f"{_HELD_OUT}:peak_signal_to_noise",
        unit="dB", meaning="decibels between the val images and their reconstructions",
    ),
    Figure(
        name="ssim", better="higher", needs="Reconstructs", detail=True, made_by=f"{_HELD_OUT}:structural_similarity",
        unit="similarity", meaning="structural similarity of the val images and their reconstructions",
    ),
    Figure(
        name="accuracy", better="higher", needs="Classifies", format="{:.1%}", made_by=f"{_HELD_OUT}:accuracy",
        unit="% of val images", meaning="share of the val images whose class the model predicts",
    ),
    Figure(
        name="cluster_accuracy", better="higher", needs="Clusters", format="{:.1%}", made_by=f"{_HELD_OUT}:clusters",
        over="genmodel.evaluation.figures.latent.matching:cluster_accuracy",
        unit="% of val images",
        meaning="share of the val images in the group that stands for their class, of groups found without labels",
    ),
    Figure(
        name="compression", better="neither", needs="weights", detail=True, format="{:.4g}x",
        made_by=f"{_WEIGHTS}:compression",
        unit="bytes per byte",
        meaning="bytes of the block's images of this size, uncompressed, for each byte of weights",
    ),
)  # fmt: skip


def modules() -> list[str]:
    """The modules that compute figures."""
    return sorted({place.partition(":")[0] for figure in FIGURES for place in (figure.made_by, figure.over)})


def of_column(column: str) -> Figure | None:
    """The figure whose value, interval end, mean or spread a leaderboard column holds."""
    for name in (column, *(column.removesuffix(end) for end in _ENDS if column.endswith(end))):
        for figure in FIGURES:
            if figure.is_called(name):
                return figure
    return None


def in_order(extractors: Iterable[str]) -> dict[str, Figure]:
    """The figures by their names with these extractors: first those named after an extractor, then the others."""
    own = {figure.called(extractor): figure for extractor in extractors for figure in FIGURES if figure.is_own}
    return own | {figure.name: figure for figure in FIGURES if not figure.is_own}


def show(column: str, value: Any) -> str:
    """A cell for people: a figure in its own format, any other number with 4 significant digits."""
    if not isinstance(value, float):
        return str(value)
    figure = of_column(column)
    return show_number(value) if figure is None else figure.show(value)


def show_number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else _DIGITS.format(value)
