"""A training step of each model of a settings file beside a plain eager loop of the same networks and losses.

    python -m benchmarks.families [presets/cifar10-small.yaml] [--model dcgan] [--channels 3] [--steps 8] [--repeats 5]

The plain loop is torch's own: weights as torch lays them out, float32, torch.optim, nothing compiled or captured. Both
run in turns in one process, so that a noisy neighbour meets both; ratios are medians. Images are random: a step takes
as long for any.
"""

import argparse
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.compare import HEAD, Row, alternate, rate
from genmodel.devices import choose_device, use_cpu
from genmodel.errors import user_errors
from genmodel.models.contract import Adam, Adamax, Batch, Family, Noise, Player, Step, build_model
from genmodel.params import read_params
from genmodel.pixels import to_model
from genmodel.settings.config import RunConfig
from genmodel.settings.schedule import value_at
from genmodel.training.step.engine import Engine, set_precision

CLASSES = 10
Work = Callable[[], None]


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        use_cpu(options.threads)
        device = choose_device()
        models = read_params(options.settings).models
        print(f"{_machine(device)}; images of {options.channels} channels, {options.repeats} repeats\n\n{HEAD}", end="")
        for name in options.model or models:
            for precision in options.precision.split(","):
                print(measured(name, models[name], precision, device, options).text(), end="", flush=True)
    return 0


def measured(name: str, config: RunConfig, precision: str, device: str, options: argparse.Namespace) -> Row:
    config = replace(config, training=replace(config.training, precision=precision))  # type: ignore[arg-type]
    ours, per_step = engine_steps(config, options.channels, device, options.steps)
    theirs, _ = plain_steps(config, options.channels, device, options.steps)
    count = options.steps * per_step
    what = f"{name}, {precision}, {device}"
    return alternate(what, lambda: rate(count, ours), "eager fp32 loop", lambda: rate(count, theirs), options.repeats)


def engine_steps(config: RunConfig, channels: int, device: str, steps: int) -> tuple[Work, int]:
    """What runs `steps` steps of the engine, and the images of one."""
    set_precision(config.training, torch.device(device))
    model = build_model(config, CLASSES, channels).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = _batch(config, model, channels, device)
    _begin(model, images, labels)
    engine = Engine(model, config.training, budget=config.training.images)

    def work() -> None:
        for number in range(steps):
            engine.step(images, labels, number * len(images))
        engine.means()  # waits for the device

    return work, len(images)


def plain_steps(config: RunConfig, channels: int, device: str, steps: int) -> tuple[Work, int]:
    """The same of a loop without the engine."""
    model = build_model(config, CLASSES, channels).to(device)
    images, labels = _batch(config, model, channels, device)
    _begin(model, images, labels)
    model.train()
    players = {player.name: player for player in model.players()}
    optimizers = {name: _optimizer(player) for name, player in players.items()}
    noise = Noise(torch.Generator(device).manual_seed(0))
    knobs = {name: torch.tensor(value_at(setting, 0), device=device) for name, setting in model.knobs().items()}

    def step() -> None:
        kept: dict[str, object] = {}
        batches = zip(images.chunk(model.batches_per_step), labels.chunk(model.batches_per_step), strict=True)
        for update in model.updates():
            if update.new_batch:
                batch, label = next(batches)
                kept = {}
            real = to_model(batch).contiguous()
            optimizers[update.player].zero_grad()
            loss, _ = update.loss(Step(Batch(real, label), noise, knobs, kept))
            loss.backward(inputs=players[update.player].parameters())
            optimizers[update.player].step()
            loss.item()

    def work() -> None:
        for _ in range(steps):
            step()

    return work, len(images)


def _optimizer(player: Player) -> torch.optim.Optimizer:
    declared: Adam | Adamax = player.optimizer
    kind = torch.optim.Adam if isinstance(declared, Adam) else torch.optim.Adamax
    lr, beta1, beta2 = (float(value_at(setting, 0)) for setting in (declared.lr, *declared.betas))
    return kind(player.parameters(), lr, (beta1, beta2), declared.eps)


def _batch(config: RunConfig, model: Family, channels: int, device: str) -> tuple[Tensor, Tensor]:
    """A step's images, uint8 [N, H, W, C], and labels."""
    rng, count = torch.Generator().manual_seed(0), config.training.batch_size * model.batches_per_step
    images = torch.randint(256, (count, *config.image_size, channels), dtype=torch.uint8, generator=rng)
    return images.to(device), torch.randint(CLASSES, (count,), generator=rng).to(device)


def _begin(model: Family, images: Tensor, labels: Tensor) -> None:
    if count := model.first_images:
        again = -(-count // len(images))
        model.begin(Batch(to_model(images.repeat(again, 1, 1, 1)[:count]), labels.repeat(again)[:count]))


def _machine(device: str) -> str:
    name = (
        torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    return f"{name}; torch {torch.__version__}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__.splitlines()[0])
    parser.add_argument("settings", type=Path, nargs="?", default=Path("params.yaml"), help="(default: %(default)s)")
    parser.add_argument("--model", action="append", default=[], help="of the file (default: all)")
    parser.add_argument("--channels", type=int, default=1, help="of the images (default: %(default)s)")
    parser.add_argument("--precision", default="fp32,bf16", help="of the engine's steps (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="of one measurement (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of measurements (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="on the CPU; 0: torch's choice (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
