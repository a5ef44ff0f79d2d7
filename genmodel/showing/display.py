"""A training with a watcher: sample grids, timeline, replay, curves, gauges, a profile."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from genmodel.data.block import Block
from genmodel.errors import is_main_process
from genmodel.files import durable
from genmodel.fits import memory_errors, repeats
from genmodel.models.contract import Family
from genmodel.output.progress import say
from genmodel.settings.config import TrainingConfig
from genmodel.showing.curves import write_curves
from genmodel.showing.gauges import Gauges, PhaseClock
from genmodel.showing.grids import save_grid
from genmodel.showing.profiling import profiled
from genmodel.showing.replay import write_replay
from genmodel.showing.samples import COLUMNS, SampleGrids, grid_of, sample_moments
from genmodel.showing.walks import walk
from genmodel.training import trainer
from genmodel.training.identity import Identity
from genmodel.training.watcher import Watcher


def train(
    identity: Identity,
    block: Block,
    out: Path,
    runs: Path,
    device: str = "cpu",
    fresh: bool = False,
    profile: bool = False,
) -> Path:
    """genmodel.training.trainer.train with a watcher. `profile` writes a profile of ten steps to the run's folder."""
    fits = identity.config.image_size in block.sizes
    if fits and is_main_process() and (why := repeats(identity.config.training, block)):
        say(f"warning: {identity.name}: {why}")
    with memory_errors(identity.name, identity.config.training):
        return trainer.train(identity, block, out, runs, device, fresh, Display(profile))


class Display(Watcher):
    def __init__(self, profile: bool = False) -> None:
        self.profile = profile
        self._look: Callable[[], object] = lambda: None

    def begin(
        self,
        folder: Path,
        device: torch.device,
        config: TrainingConfig,
        images_per_step: int,
        clock: Literal["linear", "log"],
    ) -> None:
        self.folder, self.device, self.clock, self.seed = folder, device, clock, config.seed
        self.grids = SampleGrids(folder)
        self.moments = sample_moments(config.images, images_per_step)
        self.time = PhaseClock()
        self.gauges = Gauges(device)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with profiled(self.folder, self.device, self.profile) as self._look:
            yield

    def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
        return self.time.phase(name)

    def stepped(self) -> None:
        self._look()

    def wants_samples(self, images_seen: int) -> bool:
        return images_seen in self.moments

    def take_samples(self, images_seen: int, model: Family) -> None:
        self.grids.add(images_seen, grid_of(model, self.seed))

    def costs(self) -> dict[str, float]:
        return self.gauges.read() | self.time.read_and_reset()

    def facts(self) -> dict[str, Any]:
        return {"energy_kwh": self.gauges.energy_kwh}

    def restore(self, facts: Mapping[str, Any]) -> None:
        self.gauges = Gauges(self.device, facts.get("energy_kwh", 0.0))

    def diverged(self, rows: Sequence[Mapping[str, Any]]) -> str:
        picture = self.folder / "curves.png"
        return f", with its last curves in {picture.name}" if write_curves(rows, picture) else ""

    def publish(self, folder: Path, model: Family) -> None:
        """The sample grids, a timeline of them, the replay, and a walk from the first to the last sample of a grid's
        first row; equal trainings give equal bytes."""
        grids = self.grids.paths()
        for picture in grids.values():
            durable.write_bytes(folder / "samples" / picture.name, picture.read_bytes())
        timeline = self.grids.timeline(COLUMNS, model.image_size)
        durable.write_with(folder / "timeline.png", lambda handle: timeline.save(handle, format="PNG"))
        write_replay(grids, self.clock, folder / "replay.gif")
        if model.space.meaningful:
            between = walk(model, (0, COLUMNS - 1), COLUMNS, self.seed, [0] if model.classes else [])
            save_grid(folder / "walk.png", between, COLUMNS)
