"""The loop: one for every family. Its clock is images_seen, and the same command resumes an interrupted training."""

import math
import time
from pathlib import Path

import torch
from torch import Tensor

from genmodel import pixels
from genmodel.data.block import Block
from genmodel.data.reading.loader import Loader
from genmodel.devices import lacks_bf16, use_cpu
from genmodel.errors import ConfigError, ModelError, TrainingDivergedError
from genmodel.files import durable
from genmodel.models.contract import Batch, build_model
from genmodel.output import progress
from genmodel.training.checkpoint import Checkpoint, Checkpoints
from genmodel.training.identity import Identity, claim
from genmodel.training.preemption import EXIT, Preemption
from genmodel.training.publish import publish
from genmodel.training.record import Record
from genmodel.training.step.distributed import World, joined
from genmodel.training.step.engine import Engine, set_precision
from genmodel.training.unfinished import latest_unfinished
from genmodel.training.watcher import Watcher

_PATIENCE = 3  # steps in a row whose loss or gradient is not finite, before the training goes back
_LOWER = 0.5  # then the learning rates are multiplied by this, once


def train(
    identity: Identity,
    block: Block,
    out: Path,
    runs: Path,
    device: str = "cpu",
    fresh: bool = False,
    watcher: Watcher | None = None,
) -> Path:
    """Train a model to its budget of images and put the finished folder at `out`; returns the run's folder.

    Checkpoints and the record are in `runs`/<fingerprint>, outside `out`: a second call after a kill continues there,
    a second call after the end only publishes again. `fresh` deletes them first. `watcher` is notified, in the first
    process. On SIGTERM the state is saved and SystemExit(143) raised. Under torchrun all processes call this and train
    as one.
    """
    if durable.is_foreign(out, "config.json"):
        raise ModelError(f"{out} exists and is not a model: move it away or choose another --out")
    folder = run_folder(identity, runs)
    with Preemption() as preemption, joined(device) as (world, device), world.alone_in(folder):
        training = Training(identity, block, folder, device, fresh, world, watcher)
        if world.is_main:  # fail now if nothing can be written there, not after the training
            durable.probe(out.parent)
        with training.watcher.watching():
            while training.images_seen < training.budget:
                training.step()
                training.record_and_save()
                training.watcher.stepped()
                if world.any(preemption.asked):
                    training.leave()
        training.finish(out)
    return folder


def run_folder(identity: Identity, runs: Path) -> Path:
    return runs / identity.fingerprint[:16]


class Training:
    """The state of one training and the operations of the loop on it."""

    def __init__(
        self,
        identity: Identity,
        block: Block,
        folder: Path,
        device: str,
        fresh: bool,
        world: World | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.identity, self.folder = identity, folder
        self.world = world = world or World()
        self.watcher = watcher if watcher and world.is_main else Watcher()
        self.config = config = identity.config.training
        world.check(config)
        self.device = torch.device(device)
        use_cpu(config.threads)
        set_precision(config, self.device)
        # first: it checks which sizes are possible
        model = build_model(identity.config, len(block.classes), block.channels)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loader = Loader(
            block,
            identity.config.image_size,
            "train",
            config.seed,
            device=device,
            flip=config.flip,
            labelled=config.labelled,
            rank=world.rank,
            world_size=world.size,
        )
        self._begin()
        per_step = config.batch_size * model.batches_per_step
        self.budget = math.ceil(config.images / per_step) * per_step
        self.engine = Engine(self.model, config, self.budget, world)
        self.images_seen = 0
        self.seconds = 0.0  # of training, over all resumes
        with world.main_first():
            if fresh and world.is_main:
                durable.remove_folder(folder)
            self.record = Record(folder)
            self.checkpoints = Checkpoints(folder / "checkpoints")
            claim(folder, identity, write=world.is_main)
        self.watcher.begin(folder, self.device, config, per_step, model.clock)
        resumed = self._resume()
        if config.precision == "bf16" and lacks_bf16(self.device.type):
            self.world.say(
                f"warning: {identity.name}: this CPU has no instructions for bf16, which makes steps many times slower:"
                " precision: fp32 is fast here, and another training"
            )
        self.bar = progress.bar(self.budget, self.images_seen, f"train {identity.name}", shown=world.is_main)
        self._clock = self._row_clock = time.perf_counter()
        self._row_images = self.images_seen
        if not resumed:
            if before := latest_unfinished(folder.parent, identity):
                self.world.say(before.line(identity.name))
            if self.watcher.wants_samples(0):
                self.draw_samples()
            self.save()  # for a training that diverges early to go back to

    @torch.no_grad()
    def _begin(self) -> None:
        """Show the model its first images, all of them in every process; a resume restores the result."""
        if self.model.first_images:
            images, labels = self.loader.first(self.model.first_images)
            self.model.begin(Batch(pixels.to_model(images), labels))

    @property
    def step_number(self) -> int:
        """Steps finished."""
        return self.images_seen // self.engine.images_per_step

    def step(self) -> None:
        """One step of the engine on the next batch."""
        with self.watcher.phase("data"):
            images, labels = self._batch()
        with self.watcher.phase("step"):
            self.engine.step(images, labels, self.images_seen)
        self.images_seen += self.engine.images_per_step
        self.bar.update(self.engine.images_per_step)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Images and labels of the next step; with several processes each takes its share of every part that the
        networks see at once."""
        seen, count = self.images_seen, self.engine.images_per_step
        parts = self.model.batches_per_step * self.config.accumulate if self.world.size > 1 else 1
        shares = [self.loader.batch(seen + part * count // parts, count // parts) for part in range(parts)]
        if parts == 1:
            return shares[0]
        return torch.cat([images for images, _ in shares]), torch.cat([labels for _, labels in shares])

    def record_and_save(self) -> None:
        """A row, samples, a checkpoint, each if due; at the end all three. Goes back if steps are bad."""
        due_row, due_save = self._due(self.config.log_every), self._due(self.config.checkpoint_every)
        looks = self.device.type == "cpu" or due_row or due_save  # do not wait for a GPU at every step
        bad_steps = int(self.engine.bad_steps) if looks else 0
        if bad_steps >= _PATIENCE or (due_save and not self.engine.is_finite()):
            self.go_back()
            return
        if due_row:
            self.add_row()
        if self.watcher.wants_samples(self.images_seen):
            with self.watcher.phase("samples"):
                self.draw_samples()
        if due_save and not bad_steps:  # a checkpoint is a good place to go back to
            with self.watcher.phase("checkpoint"):
                self.save()

    def _due(self, every: int) -> bool:
        """Whether the last step passed a multiple of `every` images, or ended the training."""
        before = self.images_seen - self.engine.images_per_step
        return self.images_seen // every > before // every or self.images_seen == self.budget

    def go_back(self) -> None:
        """To the last checkpoint, with lower learning rates; TrainingDivergedError if that was already tried."""
        where = f"{self.identity.name}: losses or gradients are not finite near image {self.images_seen:,}"
        with self.world.main_first():  # its last one may still be being written
            checkpoint, _ = self.checkpoints.latest(regular=True)
        if self.engine.lowered < 1 or checkpoint is None:
            shown = self.watcher.diverged(self.record.rows())
            raise TrainingDivergedError(
                f"{where}, even with lower learning rates: set still lower ones; the record is in {self.folder}{shown}"
            )
        gone = self.images_seen
        self._restore(checkpoint)
        self.engine.lowered = _LOWER
        self.world.say(f"{where}: going back to image {self.images_seen:,}, with {_LOWER:g} times the learning rates")
        self.bar.update(self.images_seen - gone)
        self._row_clock, self._row_images = time.perf_counter(), self.images_seen

    def add_row(self) -> None:
        """A row of means over the steps since the last one."""
        means = self.engine.means()
        now = time.perf_counter()
        rate = (self.images_seen - self._row_images) / (now - self._row_clock)
        self._row_clock, self._row_images = now, self.images_seen
        if not self.world.is_main:
            return
        costs = {"throughput/images_per_second": rate} | self.watcher.costs()
        order = self.loader.order_digest(self.images_seen)
        self.record.add(self.step_number, self.images_seen, means | costs, order)
        losses = [f"{name.split('/')[1]} {value:.3f}" for name, value in means.items() if name.startswith("loss/")]
        self.bar.set_postfix_str(", ".join(losses), refresh=False)

    @torch.no_grad()
    def draw_samples(self) -> None:
        self.model.eval()  # all of it, averaged or not; the next step sets train mode again
        with self.engine.ema.applied_to(self.model.averaged):
            self.watcher.take_samples(self.images_seen, self.model)

    def save(self, stopped: bool = False) -> None:
        if not self.world.is_main:
            return
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now
        facts = {
            "images_seen": self.images_seen,
            "summed": self.engine.summed,
            "lowered": self.engine.lowered,
            "seconds": self.seconds,
            **self.watcher.facts(),
        }
        self.record.sync()
        self.checkpoints.save(Checkpoint(self.engine.state(), facts, stopped))

    def leave(self) -> None:
        """Save, if the state is good, and exit like a process ended by SIGTERM."""
        good = not int(self.engine.bad_steps) and self.engine.is_finite()
        with self.world.main_first():  # if others exited first, torchrun would end it, too
            if good:
                self.save(stopped=True)
            self.checkpoints.wait()
        self.bar.close()
        self.world.say(
            f"{self.identity.name}: stopped at {self.images_seen:,} images; the same command resumes from here"
        )
        raise SystemExit(EXIT)

    def _resume(self) -> bool:
        """Resume from the last checkpoint, if any. It is not written again: a kill between its two files would leave a
        training that has only this one without any."""
        checkpoint, warnings = self.checkpoints.latest()
        for warning in warnings:
            self.world.say(f"{warning}; resuming from the one before")
        if checkpoint is not None:
            self._restore(checkpoint)
        if not self.world.same(self.images_seen):
            raise ConfigError(
                f"{self.folder} is not the same in all processes: put --runs on storage that all machines share"
            )
        if checkpoint is not None:
            self.world.say(f"{self.identity.name}: resuming at {self.images_seen:,} images")
        return checkpoint is not None

    def _restore(self, checkpoint: Checkpoint) -> None:
        facts = checkpoint.facts
        self.engine.load(checkpoint.tensors)
        self.engine.summed, self.engine.lowered = facts["summed"], facts["lowered"]
        self.images_seen, self.seconds = facts["images_seen"], facts["seconds"]
        self.watcher.restore(facts)

    def finish(self, out: Path) -> None:
        """Publish the model, once everything it was made from is on disk and checked."""
        self.bar.close()
        self.checkpoints.wait()
        self.loader.check()  # a short training may end before all shards that it read were checked
        if not self.world.is_main:
            return
        block = self.loader.block
        seen = {"channels": block.channels, "classes": block.classes, "class_counts": self.loader.class_counts()}
        facts = self.identity.as_dict() | {"images_seen": self.images_seen} | seen
        with self.engine.ema.applied_to(self.model.averaged):
            publish(self.model, facts, self.record, out, self.watcher)
        durable.write_sealed(self.folder / "cost.json", self.cost())

    def cost(self) -> dict[str, object]:
        energy = self.watcher.facts().get("energy_kwh")
        return ({"energy_kwh": energy} if energy else {}) | {
            "seconds": self.seconds,
            "images_per_second": self.images_seen / self.seconds,
            "parameters": sum(value.numel() for value in self.model.parameters()),
            "processes": self.world.size,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
        }
