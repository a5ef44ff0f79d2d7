"""How the data came to be: what data.dvc keeps in its `meta`, and the same data made again from that.

meta:
  source: ILSVRC2012_img_train.tar
  sizes: [64, 256]
  licence: ImageNet's terms of access
  val_fraction: 0.05        # here and below only what is not the default
  updates:                  # what was added later, in this order
  - source: photos
    allow_rejects: 0.02
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.versioning import dvc as versioning
from flows.versioning.repo import DATA
from genmodel.data.block import Block
from genmodel.data.making.make import Maker, prepare
from genmodel.data.making.pool import make_shards
from genmodel.data.making.recipe import Recipe
from genmodel.data.making.update import Update, update
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.opening import open_source
from genmodel.errors import BlockError, VersioningError
from genmodel.files import durable
from genmodel.sizes import Size

DIGITS, DEFAULT_SIZES = "digits", (Size(16, 16),)  # embedded: scikit-learn's 1,797 scans
ALLOWED_REJECTS, VAL_FRACTION = 0.01, 0.1


@dataclass(frozen=True, kw_only=True)
class Step:
    """A source and how it is read. Paths are absolute or relative to the project."""

    source: str  # "digits", a path, or a pattern of paths
    allow_rejects: float = ALLOWED_REJECTS  # share of unreadable images that is not an error
    devkit: str | None = None  # of ImageNet's val tar, where it does not lie beside that
    licence: str | None = None  # of the images; it decides no byte, and stands on the models' cards
    layout: Layout = field(default_factory=Layout)

    def as_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = {"source": self.source}
        if self.allow_rejects != ALLOWED_REJECTS:
            told["allow_rejects"] = self.allow_rejects
        more = {"devkit": self.devkit, "licence": self.licence}
        return told | {name: text for name, text in more.items() if text is not None} | self.layout.as_dict()

    def location(self, root: Path) -> str:
        """What genmodel is to read."""
        return self.source if self.source == DIGITS else str(root / self.source)

    def devkit_path(self, root: Path) -> Path | None:
        return None if self.devkit is None else root / self.devkit

    def check(self, root: Path) -> None:
        """SourceError if the source is not there."""
        open_source(self.location(root), self.devkit_path(root))

    def add(self, root: Path, workers: int, block: Path, maker: Maker = make_shards) -> Update:
        """Add what is new in the source to a block."""
        return update(
            self.location(root),
            block,
            workers=workers,
            max_reject_share=self.allow_rejects,
            devkit=self.devkit_path(root),
            layout=self.layout.under(root),
            make=maker,
        )


@dataclass(frozen=True, kw_only=True)
class Origin(Step):
    """All that decides the block's bytes: the first source with its settings, then the updates."""

    sizes: tuple[Size, ...]
    val_fraction: float = VAL_FRACTION  # share of the images held out for validation
    recipe: Recipe = field(default_factory=Recipe)
    updates: tuple[Step, ...] = ()

    @classmethod
    def of_data(cls, root: Path) -> "Origin":
        """What data.dvc tells, or the embedded default where there is none."""
        told = versioning.origin(root) if versioning.is_versioned(root) else {}
        return cls.from_dict({"source": DIGITS, "sizes": DEFAULT_SIZES} | told)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Origin":
        try:
            return cls(
                **_step(told),
                sizes=tuple(Size.of(size) for size in told["sizes"]),
                val_fraction=float(told.get("val_fraction", VAL_FRACTION)),
                recipe=Recipe.from_dict(told),
                updates=tuple(Step(**_step(each)) for each in told.get("updates", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise VersioningError(
                f"data.dvc: meta must hold source and sizes, and a source for each of the updates, not {dict(told)}"
            ) from error

    def as_dict(self) -> dict[str, Any]:
        first = super().as_dict()
        told: dict[str, Any] = {"source": first.pop("source"), "sizes": [size.plain() for size in self.sizes]} | first
        if self.val_fraction != VAL_FRACTION:
            told["val_fraction"] = self.val_fraction
        told |= self.recipe.as_dict()
        return told | {"updates": [each.as_dict() for each in self.updates]} if self.updates else told

    @property
    def steps(self) -> tuple[Step, ...]:
        return (self, *self.updates)

    @property
    def licences(self) -> str | None:
        """Of all sources, where one is known."""
        known = {step.licence for step in self.steps}
        if len(known) == 1:
            return self.licence
        return "; ".join(f"{step.source}: {step.licence or 'not stated'}" for step in self.steps)

    @property
    def title(self) -> str:
        """The sources in words."""
        return " and ".join(step.source for step in self.steps)

    def make(self, root: Path, workers: int, maker: Maker = make_shards) -> Block:
        """Write data/ anew, an older one giving way at the end; a kill at any time loses no finished step."""
        data = root / DATA
        if not self.updates:
            return self._prepare(root, data, workers, maker)
        if durable.is_foreign(data, "block.json"):
            raise BlockError(f"{data} exists and is not a block: move it away")
        for step in self.steps:  # all of them, before the first has taken its time
            step.check(root)
        place = root / f"{DATA}.steps-{durable.digest_json(self.as_dict())[:12]}"
        done = len(Block.open(place).facts["generations"]) if place.exists() else 0
        if not done:
            self._prepare(root, place, workers, maker)
        for step in self.updates[max(done - 1, 0) :]:
            step.add(root, workers, place, maker)
        durable.replace_folder(place, data)
        return Block.open(data)

    def _prepare(self, root: Path, out: Path, workers: int, maker: Maker) -> Block:
        return prepare(
            self.location(root),
            out,
            self.sizes,
            workers=workers,
            val_fraction=self.val_fraction,
            max_reject_share=self.allow_rejects,
            devkit=self.devkit_path(root),
            layout=self.layout.under(root),
            recipe=self.recipe,
            make=maker,
        )


def _step(told: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a Step."""
    more = {name: None if told.get(name) is None else str(told[name]) for name in ("devkit", "licence")}
    step = {"source": str(told["source"]), "allow_rejects": float(told.get("allow_rejects", ALLOWED_REJECTS))}
    return step | more | {"layout": Layout.from_dict(told)}
