"""The step: what one batch does to a model, whatever its family. Nothing in it waits for the device.

    engine = Engine(model, config, budget)
    engine.step(batch, images_seen)        # uint8 images in, weights and averages updated
    engine.means()                         # of the metrics since the last call: the only place that waits

An update whose loss or gradient is not finite changes no weight; `bad_steps` counts the steps with one, in a row.
"""

import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodel import pixels
from genmodel.models.base import GenerativeModel, Noise, Phase
from genmodel.settings import TrainingConfig
from genmodel.training.capture import CapturedStep
from genmodel.training.distributed import World, gathering
from genmodel.training.ema import EMA
from genmodel.training.streams import begin_stream

_GOOD = "good_steps"  # in the sums, beside the metrics of these


class Engine:
    def __init__(self, model: GenerativeModel, config: TrainingConfig, budget: int, world: World | None = None) -> None:
        """`model` lies on its device already; `budget` is the images of the whole training, in all of `world`."""
        self.world = world or World()
        self.world.share(model)
        self.model, self.config, self.budget = model, config, budget
        self.device = next(model.parameters()).device
        self.ema = EMA(model.averaged, config.ema_half_life)
        self.rng = torch.Generator(self.device)
        self.noise = Noise(self.rng, self.world.rank, self.world.size)
        self.phases = model.phases()
        self.losses = {phase: self.world.wrap(phase) for phase in self.phases}
        self.optimizers = model.optimizers()
        self.full_rates = {name: float(optimizer.defaults["lr"]) for name, optimizer in self.optimizers.items()}
        self.lowered = 1.0  # what the learning rates are multiplied by after a divergence
        # What changes from step to step comes as a tensor, so that a captured step sees it: rates, EMA's share.
        self.knobs = torch.ones(len(self.optimizers) + 1, device=self.device)
        if self.device.type == "cuda":
            for knob, optimizer in zip(self.knobs, self.optimizers.values(), strict=False):
                for group in optimizer.param_groups:
                    group["lr"], group["capturable"] = knob, True
        self.sums: dict[str, Tensor] = {}  # of metrics since the last row, on the device
        self.summed = 0
        self.bad_steps = torch.zeros((), dtype=torch.int64, device=self.device)
        self._captured = CapturedStep(self) if self.device.type == "cuda" and self.world.size == 1 else None

    @property
    def images_per_step(self) -> int:
        return self.config.batch_size * self.model.batches_per_step

    def step(self, images: Tensor, images_seen: int) -> None:
        """One step on uint8 [N, S, S, 3] images, N = images_per_step / world.size, after `images_seen` images.

        Its noise depends on the seed and on the number of the step alone.
        """
        self._prepare(images_seen)
        (self._captured or self.update)(images)
        self.summed += 1

    def _prepare(self, images_seen: int) -> None:
        """Set what the step depends on besides its images: the noise's seed, the learning rates, EMA's share."""
        begin_stream(self.rng, self.config.seed, images_seen // self.images_per_step)
        share = self.lowered * rate_share(self.config, images_seen, self.budget)
        rates = [share * rate for rate in self.full_rates.values()]
        keep = self.ema.decay(images_seen + self.images_per_step, self.images_per_step)
        self.knobs.copy_(torch.tensor([*rates, 1 - keep]), non_blocking=True)
        if self.device.type != "cuda":
            for rate, optimizer in zip(rates, self.optimizers.values(), strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate

    def update(self, images: Tensor) -> None:
        """The step itself, of device work alone."""
        self.model.train()
        parts = images.chunk(self.model.batches_per_step)
        metrics: dict[str, Tensor] = {}
        sound = torch.ones((), dtype=torch.bool, device=self.device)
        for number, phase in enumerate(self.phases):
            measured = self._run(phase, parts[min(number, len(parts) - 1)])
            sound = sound & torch.stack([value.isfinite() for value in measured.values()]).all()
            metrics |= measured
        self.ema.update(self.model.averaged, self.knobs[-1])
        self.bad_steps.copy_(torch.where(sound, 0, self.bad_steps + 1))
        for name, value in {**metrics, _GOOD: sound.float()}.items():
            counted = torch.where(sound, value, 0.0)
            if name in self.sums:
                self.sums[name] += counted
            else:
                self.sums[name] = counted

    def _run(self, phase: Phase, images: Tensor) -> dict[str, Tensor]:
        """One player's update; its metrics, means over the parts of the batch, and the length of its gradient."""
        optimizer = self.optimizers[phase.name]
        parameters = [value for value in phase.network.parameters() if value.requires_grad]
        optimizer.zero_grad(set_to_none=True)
        parts = images.chunk(self.config.accumulate)
        totals: dict[str, Tensor] = {}
        for number, part in enumerate(parts, 1):
            weight = len(part) / len(images)
            with gathering(self.losses[phase], more=number < len(parts)):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                    loss, metrics = self.losses[phase](pixels.to_model(part), self.noise)
                # of this player alone, whatever else asks for gradients, as images do for a penalty
                (loss * weight).backward(inputs=parameters)
            for name, value in metrics.items():
                totals[name] = totals[name] + weight * value if name in totals else weight * value
        totals = self.world.mean(totals)  # so that all processes find the update sound, or none
        norm = self._clip(parameters)
        sound = norm.isfinite() & torch.stack([value.isfinite() for value in totals.values()]).all()
        optimizer.found_inf = (~sound).float()  # type: ignore[attr-defined]  # a fused optimiser then does nothing
        optimizer.step()
        return totals | {f"gradient/{phase.name}": norm}

    def _clip(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The length of all gradients as one vector; they are shortened where it is above clip_norm."""
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
        """Whether all of the state is; waits for the device. A bad batch changes no weight, but it can spoil running
        statistics, and a step whose gradient is finite can still be too long."""
        numbers = [value for value in self.state().values() if value.is_floating_point()]
        return bool(torch.stack([value.isfinite().all().to(self.device) for value in numbers]).all())

    def state(self) -> dict[str, Tensor]:
        """All tensors that the step after a good one depends on, by dotted name."""
        content = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        content |= {f"ema.{name}": value for name, value in self.ema.shadow.items()}
        content |= {f"sums.{name}": value for name, value in self.sums.items()}
        for name, optimizer in self.optimizers.items():
            content |= {f"optimizer.{name}.{key}": value for key, value in flatten_optimizer(optimizer).items()}
        return content

    def load(self, held: dict[str, Tensor]) -> None:
        """Go back to a `state`."""
        if self._captured is not None:
            self._captured = CapturedStep(self)  # the old one works on the old optimisers' state
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
            restore_optimizer(optimizer, _under(f"optimizer.{name}.", held))


def rate_share(config: TrainingConfig, images_seen: int, budget: int) -> float:
    """What share of the full learning rates holds after `images_seen` images, in [0, 1]: a closed form.

    A linear rise over `warmup` images, times 1, 1 - t or (1 + cos(pi t)) / 2 for t = images_seen / budget (Loshchilov
    and Hutter 2017, eq. 5, without restarts).
    """
    rise = min(1.0, (images_seen + config.batch_size) / config.warmup) if config.warmup else 1.0
    done = min(1.0, images_seen / budget)
    shapes = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    return rise * shapes[config.schedule]


def set_precision(config: TrainingConfig, device: torch.device) -> None:
    """Make this process multiply as the configuration says. Before the first work on the device."""
    if device.type != "cuda":
        return
    mode = "ieee" if config.precision == "fp32" else "tf32"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors named "<parameter index>.<field>"; its settings come from the configuration."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{field}": value for index, fields in state.items() for field, value in fields.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Put back what flatten_optimizer gave; nothing is a state before the first step.

    Moments take their weight's memory layout: a fused step walks through both side by side, and a checkpoint is
    contiguous where the weights are channels_last.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    optimizer.state.clear()
    for name, value in flat.items():
        index, field = name.split(".", 1)
        weight = weights[int(index)]
        like = weight if value.shape == weight.shape else value
        place = torch.empty_like(like, dtype=value.dtype, device=weight.device)
        optimizer.state[weight][field] = place.copy_(value)


def _under(prefix: str, held: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}
