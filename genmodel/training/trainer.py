"""The loop: one for every family. Its clock is images_seen, and the same command continues what was cut short."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from genmodel import durable, pixels, progress, tensors
from genmodel.data.block import Block
from genmodel.data.loader import Loader
from genmodel.errors import ModelError, SettingsChangedError, TrainingDivergedError
from genmodel.models.base import build_model
from genmodel.training.checkpoint import Checkpoint, Checkpoints, flatten_optimizer, restore_optimizer
from genmodel.training.ema import EMA
from genmodel.training.identity import Identity
from genmodel.training.record import Record, sample_moments

_SHOWN = 64  # samples in a grid


def train(identity: Identity, block: Block, out: Path, runs: Path, device: str = "cpu", fresh: bool = False) -> Path:
    """Train a model to its budget of images and put the finished folder at `out`; returns the run's folder.

    Checkpoints and the record live in `runs`/<fingerprint>, outside `out`: a second call after a kill continues
    there, a second call after the end only publishes again. `fresh` forgets them first.
    """
    if durable.is_foreign(out, "config.json"):
        raise ModelError(f"{out} is there and is no model: move it away or choose another --out")
    training = Training(identity, block, run_folder(identity, runs), device, fresh)
    with durable.storage_errors(out):  # where nothing can be written shall be told now, not after the training
        out.parent.mkdir(parents=True, exist_ok=True)
    while training.images_seen < training.budget:
        training.step()
        training.record_and_save()
    training.publish(out)
    return training.folder


def run_folder(identity: Identity, runs: Path) -> Path:
    return runs / identity.fingerprint[:16]


class Training:
    """The state of one training and the moves that the loop makes with it."""

    def __init__(self, identity: Identity, block: Block, folder: Path, device: str, fresh: bool) -> None:
        self.identity, self.folder = identity, folder
        self.config = config = identity.config.training
        self.device = torch.device(device)
        if config.threads:
            torch.set_num_threads(config.threads)
        model = build_model(identity.config)  # first: it knows best which image sizes there can be
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loader = Loader(block, identity.config.image_size, "train", config.seed, device=device, flip=config.flip)
        if fresh:
            durable.remove_folder(folder)
        self.ema = EMA(self.model.averaged, config.ema_half_life)
        self.rng = torch.Generator(self.device)
        self.codes = self.model.draw_codes(_SHOWN, torch.Generator().manual_seed(config.seed)).to(self.device)
        self.budget = math.ceil(config.images / config.batch_size) * config.batch_size
        self.moments = sample_moments(config.images, config.batch_size)
        self.images_seen = self.step_number = 0
        self.seconds = 0.0  # of training, over all resumes
        self.sums: dict[str, Tensor] = {}  # of metrics since the last row of the record, on the device
        self.summed = 0
        self.record = Record(folder)
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self._refuse_other_settings()
        self._resume()
        self.bar = progress.bar(self.budget, self.images_seen, f"train {identity.name}")
        self._clock = self._row_clock = time.perf_counter()
        self._row_images = self.images_seen
        if self.images_seen == 0:
            self.draw_samples()

    def step(self) -> None:
        """One optimiser update; its noise depends on the seed and the step alone."""
        config = self.config
        images, _ = self.loader.batch(self.images_seen, config.batch_size)
        self.rng.manual_seed(config.seed * 1_000_003 + self.step_number)
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            metrics = self.model.step(pixels.to_model(images), self.rng)
        self.images_seen += config.batch_size
        self.step_number += 1
        self.ema.update(self.model.averaged, self.images_seen, config.batch_size)
        for name, value in metrics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.summed += 1
        self.bar.update(config.batch_size)

    def record_and_save(self) -> None:
        """A row, a sample grid, a checkpoint, each where it is due; at the end all three."""
        if self._due(self.config.log_every):
            self.add_row()
        if self.images_seen in self.moments or self.images_seen == self.budget:
            self.draw_samples()
        if self._due(self.config.checkpoint_every):
            self.save()

    def _due(self, every: int) -> bool:
        """Whether the last step went past a multiple of `every` images, or was the last."""
        before = self.images_seen - self.config.batch_size
        return self.images_seen // every > before // every or self.images_seen == self.budget

    def add_row(self) -> None:
        """A row of means since the last one; TrainingDivergedError when a loss is no number any more."""
        means = {name: float(self.sums[name]) / self.summed for name in sorted(self.sums)}
        sick = [name for name, value in means.items() if not math.isfinite(value)]
        if sick:
            raise TrainingDivergedError(
                f"{self.identity.name}: {sick[0]} is not finite near image {self.images_seen:,}: lower the learning "
                f"rate; the record is in {self.folder}"
            )
        now = time.perf_counter()
        rate = (self.images_seen - self._row_images) / (now - self._row_clock)
        self._row_clock, self._row_images = now, self.images_seen
        self.record.add(self.step_number, self.images_seen, means | {"throughput/images_per_second": rate})
        losses = [f"{name.split('/')[1]} {value:.3f}" for name, value in means.items() if name.startswith("loss/")]
        self.bar.set_postfix_str(", ".join(losses), refresh=False)
        self.sums, self.summed = {}, 0

    @torch.no_grad()
    def draw_samples(self) -> None:
        with self.ema.applied_to(self.model.averaged):
            self.record.add_samples(self.images_seen, pixels.to_uint8(self.model.generate(self.codes)))

    def save(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now
        content = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        content |= {f"ema.{name}": value for name, value in self.ema.state().items()}
        content |= {f"sums.{name}": value for name, value in self.sums.items()}
        for optimizer, held in self.model.optimizers().items():
            content |= {f"optimizer.{optimizer}.{name}": value for name, value in flatten_optimizer(held).items()}
        facts = {
            "images_seen": self.images_seen,
            "step": self.step_number,
            "summed": self.summed,
            "seconds": self.seconds,
        }
        self.checkpoints.save(Checkpoint(content, facts))

    def _resume(self) -> None:
        checkpoint, warnings = self.checkpoints.latest()
        for warning in warnings:
            progress.say(f"{warning}; going on from the one before")
        if checkpoint is None:
            return
        held = checkpoint.tensors
        self.model.load_state_dict(_under("model.", held))
        for name, value in _under("ema.", held).items():
            self.ema.shadow[name].copy_(value)
        self.sums = {name: value.to(self.device) for name, value in _under("sums.", held).items()}
        for name, optimizer in self.model.optimizers().items():
            restore_optimizer(optimizer, _under(f"optimizer.{name}.", held))
        facts = checkpoint.facts
        self.images_seen, self.step_number, self.summed = facts["images_seen"], facts["step"], facts["summed"]
        self.seconds = facts["seconds"]
        progress.say(f"{self.identity.name}: going on from {self.images_seen:,} images")

    def _refuse_other_settings(self) -> None:
        """The run's folder is named by the fingerprint; the whole of it is kept inside and must agree."""
        path = self.folder / "identity.json"
        mine = self.identity.as_dict()
        if path.exists() and (theirs := json.loads(path.read_text()))["fingerprint"] != mine["fingerprint"]:
            changed = sorted(key for key in mine if mine[key] != theirs.get(key))
            raise SettingsChangedError(f"{self.folder} belongs to another training ({', '.join(changed)}): use --fresh")
        durable.write_json(path, mine)

    def publish(self, out: Path) -> None:
        """Put the finished model at `out`, whole or not at all: nothing in it depends on time or place."""
        self.bar.close()
        self.loader.check()  # a short training may end before the shards that it read were all compared
        new = out.with_name(f".{out.name}.partial")
        durable.remove_folder(new)
        with self.ema.applied_to(self.model.averaged):
            weights = tensors.save(new / "weights.safetensors", self.model.state_dict())
        facts = self.identity.as_dict() | {"images_seen": self.images_seen, "weights": weights}
        durable.write_json(new / "config.json", facts)
        durable.write_text(new / "history.csv", self.record.history())
        for picture in sorted(self.record.samples.glob("*.png")):
            durable.write_bytes(new / "samples" / picture.name, picture.read_bytes())
        timeline = self.record.timeline(columns=math.isqrt(_SHOWN))
        durable.write_with(new / "timeline.png", lambda handle: timeline.save(handle, format="PNG"))
        durable.write_json(self.folder / "cost.json", self.cost())
        durable.replace_folder(new, out)

    def cost(self) -> dict[str, object]:
        return {
            "seconds": self.seconds,
            "images_per_second": self.images_seen / self.seconds,
            "parameters": sum(value.numel() for value in self.model.parameters()),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
        }


def _under(prefix: str, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}
