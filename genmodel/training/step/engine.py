"""One training step on a batch, for any family. Nothing in it waits for the device.

    engine = Engine(model, config, budget)
    engine.step(images, labels, images_seen)    # uint8 images in, weights and averages updated
    engine.means()                              # of the metrics since the last call: the only place that waits

An update whose loss or gradient is not finite changes no weight; `bad_steps` counts consecutive steps with one.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from genmodel import pixels
from genmodel.models.contract import Batch, Family, Noise, Step, Update
from genmodel.settings.config import TrainingConfig
from genmodel.settings.schedule import value_at
from genmodel.training.step.capture import CapturedStep
from genmodel.training.step.distributed import World
from genmodel.training.step.ema import EMA
from genmodel.training.step.optimizers import GuardedOptimizer
from genmodel.training.step.streams import begin_stream

Kept = dict[str, Callable[[], object]]  # what the updates of a part keep for each other
_GOOD = "good_steps"  # their number, in the sums beside their metrics


class Engine:
    def __init__(self, model: Family, config: TrainingConfig, budget: int, world: World | None = None) -> None:
        """`model` is already on its device; `budget` is the images of the whole training, over all of `world`."""
        self.world = world or World()
        self.world.share(model)
        self.model, self.config, self.budget = model, config, budget
        self.device = next(model.parameters()).device
        self.ema = EMA(model.averaged, config.ema_half_life)
        self.rng = torch.Generator(self.device)
        self.parts = config.accumulate  # that a batch goes through the networks in
        self.mixes = False  # whether losses were seen to depend on which images go through together
        players = {player.name: player for player in model.players()}
        self.updates = model.updates()
        assert self.updates[0].new_batch, "there is no batch before the first"
        self.optimizers = {name: GuardedOptimizer(player, self.device) for name, player in players.items()}
        self.lowered = 1.0  # what the learning rates are multiplied by after a divergence
        # What changes from step to step is at fixed addresses on the device, where a captured step reads it.
        self.values = torch.zeros(len(self._values(0)), device=self.device)
        self.knobs = dict(zip(model.knobs(), self.values[3 * len(players) :], strict=False))
        if self.device.type == "cuda":
            for optimizer, places in zip(self.optimizers.values(), self.values.split(3), strict=False):
                optimizer.take_rate_from(places[0])
        self.sums: dict[str, Tensor] = {}  # of metrics since the last row, on the device
        self.summed = 0
        self.bad_steps = torch.zeros((), dtype=torch.int64, device=self.device)
        can_capture = all(optimizer.can_be_captured for optimizer in self.optimizers.values())
        alone_on_gpu = self.device.type == "cuda" and self.world.size == 1
        can_capture = can_capture and self.parts == 1  # parts draw the same noise again, which a graph cannot
        self._captured = self._capture() if alone_on_gpu and can_capture else None

    def _capture(self) -> CapturedStep:
        return CapturedStep(self.update, self.rng)

    @property
    def images_per_step(self) -> int:
        return self.config.batch_size * self.model.batches_per_step

    def step(self, images: Tensor, labels: Tensor, images_seen: int) -> None:
        """One step on uint8 [N, H, W, C] images and labels int64 [N], N = images_per_step / world.size, after
        `images_seen` images.

        Its noise depends only on the seed and the step number.
        """
        self._prepare(images_seen)
        (self._captured or self.update)(images, labels)
        self.summed += 1

    def halve(self) -> None:
        """Let half as many images go through the networks at once from now on; the step's result is the same, except
        for rounding, unless it `mixes` them."""
        self.parts, self._captured = 2 * self.parts, None

    @property
    def halved(self) -> bool:
        return self.parts > self.config.accumulate

    def _prepare(self, images_seen: int) -> None:
        """Set what the step depends on besides its images: the noise's seed, and all that follows a schedule."""
        begin_stream(self.rng, self.config.seed, images_seen // self.images_per_step)
        values = self._values(images_seen)
        self.values.copy_(torch.tensor(values), non_blocking=True)
        for place, optimizer in enumerate(self.optimizers.values()):
            optimizer.take(values[3 * place : 3 * place + 3])

    def _values(self, images_seen: int) -> list[float]:
        """Learning rate and betas of each player, the family's knobs, and EMA's share."""
        share = self.lowered * rate_share(self.config, images_seen, self.budget)
        values = [value for each in self.optimizers.values() for value in each.values(images_seen, share)]
        values += [value_at(setting, images_seen) for setting in self.model.knobs().values()]
        return [*values, 1 - self.ema.decay(images_seen + self.images_per_step, self.images_per_step)]

    def update(self, images: Tensor, labels: Tensor) -> None:
        """The step itself: device work only."""
        self.model.train()
        metrics: dict[str, Tensor] = {}
        sound = torch.ones((), dtype=torch.bool, device=self.device)
        batches = zip(images.chunk(self.model.batches_per_step), labels.chunk(self.model.batches_per_step), strict=True)
        kept: list[Kept] = []
        buffers = self._buffer_versions()
        for update in self.updates:
            if update.new_batch:
                batch, kept = next(batches), [{} for _ in range(self.parts)]
            measured = self._run(update, *batch, kept)
            sound = sound & torch.stack([value.isfinite() for value in measured.values()]).all()
            metrics |= measured
        self.mixes |= self._buffer_versions() != buffers  # running statistics are
        self.ema.update(self.model.averaged, self.values[-1])
        self.bad_steps.copy_(torch.where(sound, 0, self.bad_steps + 1))
        for name, value in {**metrics, _GOOD: sound.float()}.items():
            counted = torch.where(sound, value, 0.0)
            if name in self.sums:
                self.sums[name] += counted
            else:
                self.sums[name] = counted

    def _run(self, update: Update, images: Tensor, labels: Tensor, kept: list[Kept]) -> dict[str, Tensor]:
        """One player's update; its metrics, means over the parts of the batch, and the norm of its gradient."""
        optimizer = self.optimizers[update.player]
        for weight in optimizer.parameters:
            weight.grad = None
        totals: dict[str, Tensor] = {}
        for share, step in self._parts(images, labels, kept):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                loss, metrics = update.loss(step)
            # for this player only, whatever else requires grad, as images do for a penalty
            (loss * share).backward(inputs=optimizer.parameters)
            for name, value in metrics.items():
                totals[name] = totals[name] + share * value if name in totals else share * value
        self.world.average(optimizer.parameters)
        totals = self.world.mean(totals)  # so that all processes agree whether the update is finite
        norm = self._clip(optimizer.parameters)
        optimizer.step(norm.isfinite() & torch.stack([value.isfinite() for value in totals.values()]).all())
        return totals | {f"gradient/{update.player}": norm}

    def _parts(self, images: Tensor, labels: Tensor, kept: list[Kept]) -> Iterator[tuple[float, Step]]:
        """The parts of the batch that go through the networks one after the other, with their shares of it. Each gets
        the noise that its images have in the whole batch. Only the last one holds what an update keeps: for all of them
        it would undo the memory saved."""
        parts, done = list(zip(images.chunk(self.parts), labels.chunk(self.parts), strict=True)), 0
        begun = self.rng.get_state() if len(parts) > 1 else None
        for number, (some, their) in enumerate(parts, 1):
            if begun is not None:
                self.rng.set_state(begun)
            rank, size, own = self.world.rank, self.world.size, len(some)
            noise = Noise(self.rng, size * done + rank * own, size * len(images), own)
            batch, held = Batch(pixels.to_model(some), their), kept[number - 1]
            yield own / len(images), Step(batch, noise, self.knobs, held, number == len(parts), self._gather)
            done += own

    def _gather(self, values: Tensor) -> Tensor:
        self.mixes = True
        return self.world.gather(values)

    def _buffer_versions(self) -> int:
        """A number that grows with each change of a buffer; only losses change them, once for each part."""
        return sum(value._version for value in self.model.buffers())

    def _clip(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The norm of all gradients as one vector; they are scaled down if it is above clip_norm."""
        gradients = [value.grad for value in parameters if value.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.config.clip_norm:
            torch._foreach_mul_(gradients, (self.config.clip_norm / (norm + 1e-12)).clamp(max=1))
        return norm

    def means(self) -> dict[str, float]:
        """The metrics' means over the good steps since the last call, by name, and the share of bad ones."""
        totals = {name: float(total) for name, total in sorted(self.sums.items())}
        good = totals.pop(_GOOD)
        bad = 1 - good / self.summed
        for total in self.sums.values():
            total.zero_()
        self.summed = 0
        return {name: total / good if good else math.nan for name, total in totals.items()} | {"health/bad_steps": bad}

    def is_finite(self) -> bool:
        """Whether all of the state is finite; waits for the device. A bad batch changes no weight, but it can spoil
        running statistics, and a step whose gradient is finite can still be too large."""
        numbers = [value for value in self.state().values() if value.is_floating_point()]
        return bool(torch.stack([value.isfinite().all().to(self.device) for value in numbers]).all())

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step after a good one depends on, by dotted name."""
        content = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        content |= {f"ema.{name}": value for name, value in self.ema.shadow.items()}
        content |= {f"sums.{name}": value for name, value in self.sums.items()}
        for name, optimizer in self.optimizers.items():
            content |= {f"optimizer.{name}.{key}": value for key, value in optimizer.flat_state().items()}
        return content

    def load(self, held: dict[str, Tensor]) -> None:
        """Go back to a `state`."""
        if self._captured is not None:
            self._captured = self._capture()  # the old one uses the old optimisers' state
        self.model.load_state_dict(_under("model.", held))
        for name, value in _under("ema.", held).items():
            self.ema.shadow[name].copy_(value)
        sums = _under("sums.", held)
        for name in self.sums.keys() - sums.keys():
            self.sums[name].zero_()
        for name, value in sums.items():
            self.sums.setdefault(name, torch.empty_like(value, device=self.device)).copy_(value)
        self.bad_steps.zero_()
        for name, optimizer in self.optimizers.items():
            optimizer.load(_under(f"optimizer.{name}.", held))


def rate_share(config: TrainingConfig, images_seen: int, budget: int) -> float:
    """The share of the full learning rates after `images_seen` images, in [0, 1]: a closed form.

    A linear rise over `warmup` images, times 1, 1 - t or (1 + cos(pi t)) / 2 for t = images_seen / budget (Loshchilov
    and Hutter 2017, eq. 5, without restarts).
    """
    rise = min(1.0, (images_seen + config.batch_size) / config.warmup) if config.warmup else 1.0
    done = min(1.0, images_seen / budget)
    shapes = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    return rise * shapes[config.schedule]


def set_precision(config: TrainingConfig, device: torch.device) -> None:
    """Set this process's matrix precision as configured. Call before the first work on the device."""
    if device.type != "cuda":
        return
    mode = "ieee" if config.precision == "fp32" else "tf32"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)


def _under(prefix: str, held: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}
