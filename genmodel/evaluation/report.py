"""The report on a model, and the conditions it was made under; written as JSON and read back. Needs no torch."""

from dataclasses import dataclass
from typing import Any, Self

from genmodel.errors import EvaluationError
from genmodel.evaluation.as_json import AsJson
from genmodel.evaluation.table import FRECHET
from genmodel.sizes import Size, shape_text

_ODDS = 3.0  # of being right over those of chance, at least


@dataclass(frozen=True, kw_only=True)
class ExtractorId(AsJson):
    """Which extractor it was."""

    name: str
    fingerprint: str
    weights: str | None = None  # sha256, if the weights were given as a file
    accuracy: float | None = None  # share of the labelled val images that it gets right, if it was trained here
    chance: float | None = None  # share of their most frequent class
    classes: int | None = None

    @property
    def in_words(self) -> str:
        """Its name, its fingerprint and, if known, what it has learnt: it stands beside every figure."""
        known = f", {self.accuracy_in_words}" if self.accuracy_in_words else ""
        return f"{self.name} {self.fingerprint[:8]}{known}"

    @property
    def accuracy_in_words(self) -> str:
        """What it has learnt; empty if it was not trained here, or nothing was held out to try it on."""
        if self.accuracy is None or self.chance is None:
            return ""
        return f"{self.accuracy:.1%} right of {self.classes} classes (chance {self.chance:.1%})"

    @property
    def doubt(self) -> str:
        """Why it must not crown a model, a sentence with what helps; empty if it has learnt enough, or is not asked to.

        Enough: the odds of an image being told right are 3 times those of guessing the most frequent class, which means
        75% of 2 even classes, 50% of 4, 25% of 10 and 1.5% of 200.
        """
        if self.accuracy is None or self.chance is None:
            return ""
        floor = _ODDS * self.chance / (1 + (_ODDS - 1) * self.chance)
        if self.accuracy >= floor:
            return ""
        return (
            f"The extractor has learnt too little to judge: {self.accuracy_in_words}, and {floor:.1%} is the least."
            " Train it on more images (prepare more, or raise evaluation.classifier_images), or set"
            " evaluation.extractor to inception or dinov2, or to pixels, which needs no labels."
        )


@dataclass(frozen=True, kw_only=True)
class Conditions(AsJson):
    """All that figures depend on besides the model."""

    extractor: ExtractorId
    block: str  # digest
    split: str
    image_size: Size
    resize: str
    n_real: int
    n_held_out: int
    n_samples: int
    importance_samples: int
    seed: int
    channels: int = 3

    @property
    def shape(self) -> str:
        """Size and channels of the images, in words."""
        return shape_text(self.image_size, self.channels)


@dataclass(frozen=True, kw_only=True)
class Judged(AsJson):
    """What images show about their source. Figures of different `conditions` must not be compared.

    Numbers have 6 significant digits, here and in JSON, so that they are read back equal.
    """

    conditions: Conditions
    figures: dict[str, float | None]  # of table.py; None: it does not apply to the model, the extractor or the block
    intervals: dict[str, tuple[float, float]]  # 95%, of the figures that apply

    @property
    def ranks_by(self) -> str:
        """The name of the figure that it is compared by, a distance."""
        return FRECHET.called(self.conditions.extractor.name)

    @property
    def distance(self) -> float:
        """That figure; it may be NaN or infinite."""
        value = self.figures[self.ranks_by]
        assert value is not None, "it applies to every model"
        return value

    @classmethod
    def from_dict(cls, told: Any, where: str) -> Self:
        read = super().from_dict(told, where)
        if read.figures.get(read.ranks_by) is None:
            raise EvaluationError(f"{where}: figures: {read.ranks_by} is missing")
        return read


@dataclass(frozen=True, kw_only=True)
class Memorisation(AsJson):
    """Whether samples copy training images."""

    copied: float  # share of the samples, beyond what chance explains
    visible: float  # the smallest share that would be detected
    seen: bool
    verdict: str  # in words


@dataclass(frozen=True, kw_only=True)
class Report(Judged):
    """What is known about a finished model's quality."""

    name: str
    family: str
    fingerprint: str
    weights: str  # sha256
    recipe: str  # digest of all settings but the seed: models of one recipe show how much the seed changes figures
    seed: int  # of the training
    code: str  # sha256 of the code that trained it
    parameters: int  # of all its networks
    size: int  # bytes of its weights on disk
    memorisation: Memorisation | None  # None: nothing was held out to compare with
    health: list[str]  # what is wrong, a sentence each


@dataclass(frozen=True, kw_only=True)
class Timing(AsJson):
    """Speed of the evaluation; kept apart from the Report, which is the same every time."""

    seconds: float
    sampling_images_per_second: float | None = None  # None: the samples' features came from the cache
    features_images_per_second: float | None = None
