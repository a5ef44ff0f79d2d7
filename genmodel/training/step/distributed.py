"""Multiple processes: torchrun starts them, each takes its share of every batch, all hold the same weights.

    torchrun --nproc-per-node 8 -m genmodel.cli train dcgan --data data --set batch_size=4096

The result does not depend on their number, except for rounding: the order of images, the noise, the statistics of
batch normalisation and the gradients are those of the whole batch. Without torchrun nothing here has an effect.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from genmodel.errors import ConfigError
from genmodel.files import durable
from genmodel.output import progress
from genmodel.output.counting import counted
from genmodel.settings.config import TrainingConfig


@dataclass(frozen=True)
class World:
    """The processes of a training and this one's place among them. Methods that wait for the others say "Waits"."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def check(self, config: TrainingConfig) -> None:
        """ConfigError if a batch cannot be shared equally."""
        shares = self.size * config.accumulate
        if self.size > 1 and config.batch_size % shares:
            parts = f" in {config.accumulate} parts each" if config.accumulate > 1 else ""
            raise ConfigError(
                f"training.batch_size: {config.batch_size} cannot be split equally among {self.size} processes{parts}: "
                f"set a multiple of {shares}"
            )

    def say(self, line: str) -> None:
        if self.is_main:
            progress.say(line)

    def share(self, model: nn.Module) -> None:
        """Make batch normalisation see the whole batch: see SharedBatchNorm."""
        if self.size > 1:
            for module in model.modules():
                if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
                    module.__class__ = SharedBatchNorm  # same weights, same names
                assert not isinstance(module, nn.modules.batchnorm._BatchNorm) or type(module) is SharedBatchNorm

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the parameters' gradients by their means over all processes. Waits, but not for the device.

        A loss may reach a parameter in some processes only; in the others its gradient is 0. A parameter reached in
        none keeps no gradient, so that its optimiser skips it.
        """
        if self.size == 1:
            return
        reached = torch.tensor([int(weight.grad is not None) for weight in parameters])
        dist.all_reduce(reached)
        moved = [weight for weight, count in zip(parameters, reached.tolist(), strict=True) if count]
        if not moved:
            return
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in moved]
        total = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(total)
        means = total.div_(self.size).split([gradient.numel() for gradient in gradients])
        for weight, gradient, mean in zip(moved, gradients, means, strict=True):
            weight.grad = gradient.copy_(mean.view(gradient.shape))

    def gather(self, values: Tensor) -> Tensor:
        """Rows [N, ...] of this process -> those of all, [size * N, ...], in the order of the batch. Waits.

        Gradients go back to the processes that the rows come from.
        """
        if self.size == 1:
            return values
        slots = [values if place == self.rank else torch.zeros_like(values) for place in range(self.size)]
        rows: Tensor = _Sum.apply(torch.cat(slots))
        return rows

    def mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars on the device -> their means over the processes, the same on each. Waits."""
        if self.size == 1:
            return values
        total = torch.stack(list(values.values()))
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).unbind(), strict=True))

    def any(self, here: bool) -> bool:
        """Whether `here` is true in any process. Waits, but not for the device."""
        if self.size == 1:
            return here
        holding = torch.tensor(int(here))
        dist.all_reduce(holding)
        return bool(holding)

    def same(self, number: int) -> bool:
        """Whether all processes gave the same number. Waits."""
        if self.size == 1:
            return True
        bounds = torch.tensor([number, -number])
        dist.all_reduce(bounds, dist.ReduceOp.MAX)
        return bool(bounds[0] == -bounds[1])

    def alone_in(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """The main process locks the run's folder: two trainings would delete each other's checkpoints."""
        if not self.is_main:
            return contextlib.nullcontext()
        busy = f"{folder} is in use by another process: wait until it ends, or stop it and run the same command again"
        return durable.sole(folder.with_name(f"{folder.name}.lock"), busy)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the with block first, then the others, which find what it wrote."""
        if not self.is_main:
            self.any(False)
        try:
            yield
        finally:
            if self.is_main:
                self.any(False)


@contextlib.contextmanager
def joined(device: str) -> Iterator[tuple[World, str]]:
    """The processes that torchrun started, and the device of this one; just this process without torchrun.

    nccl handles GPU tensors, gloo CPU tensors. ConfigError if there are fewer GPUs than processes.
    """
    world = World(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    if world.size == 1:
        yield World(), device
        return
    if device.startswith("cuda"):
        device = _own_gpu(device, int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield world, device
    except SystemExit:  # all leave together, as at the end
        dist.destroy_process_group()
        raise
    # not after an error: the others may never get here, and torchrun ends them
    dist.destroy_process_group()


def _own_gpu(asked: str, local_rank: int) -> str:
    if asked != "cuda":
        raise ConfigError(f"--device {asked}: torchrun gives each process its own GPU; write cuda or leave it out")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"torch sees {counted(torch.cuda.device_count(), 'GPU')} here: lower torchrun's --nproc-per-node to that"
        )
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the mean and variance over the images of all processes; each has equally many.

    Ioffe and Szegedy 2015, algorithm 1, as one process with the whole batch would do it, on [N, C] or [N, C, H, W].
    Unlike nn.SyncBatchNorm it also works on the CPU, and its gradient is differentiable, as the R1 penalty needs.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's name
        assert input.ndim in (2, 4), input.shape

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        if not self.training:
            return super().forward(input)
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        over = (0, *range(2, input.ndim))
        variance, mean = torch.var_mean(wide, over, correction=0)
        rank, size = dist.get_rank(), dist.get_world_size()
        slots = torch.stack([torch.stack([mean, variance]) * (place == rank) for place in range(size)])
        means, variances = _Sum.apply(slots).unbind(1)
        variance, mean = torch.var_mean(means, 0, correction=0)
        variance = variance + variances.mean(0)
        self._follow(mean.detach(), variance.detach(), size * input.numel() // input.shape[1])
        scale = (variance + self.eps).rsqrt() * (self.weight if self.affine else 1)
        place = (slice(None), *[None] * (input.ndim - 2))
        result: Tensor = (wide - mean[place]) * scale[place] + (self.bias[place] if self.affine else 0)
        return result.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics, as nn.BatchNorm2d does; `count` values per channel were seen."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_((variance * count / max(1, count - 1)).to(self.running_var), self.momentum)
        self.num_batches_tracked.add_(1)


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each contributes to all the others' losses, so gradients are summed, too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Sum.apply(gradient)
