"""DCGAN beside the network of pytorch/examples' tutorial, trained on the same images in the same order.

    python -m benchmarks.quality IMAGES --out FOLDER [--size 32] [--width 64] [--images 1000000] [--seeds 0,1,2]

IMAGES is what `genmodel prepare` takes, such as CIFAR-10 as class folders in a tar. For 32 px the tutorial's network
has one layer less. Both get batches of 64 and as many of them; genmodel's has its own settings beyond that (--set), and
its averaged weights. Every line is printed as it is known and kept in FOLDER/figures.jsonl: the same command goes on
where it was stopped, within a training too.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import plain
from genmodel import cli
from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.data.reading.loader import Loader
from genmodel.devices import choose_device, use_cpu
from genmodel.errors import ConfigError, user_errors
from genmodel.evaluation.extractors.features import Extractor, extract
from genmodel.evaluation.figures.distances import frechet_distance
from genmodel.evaluation.reference import Reference, make_reference
from genmodel.files import tensors
from genmodel.pixels import to_model, to_uint8
from genmodel.sampling.draw import sample
from genmodel.sampling.load import load_model
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

BATCH, SAVED_EVERY = 64, 1000  # images; steps
DOUBLINGS = {32: 3, 64: 4}
ASKED = ("size", "width", "images", "samples", "extractor", "classifier_images")  # the options that decide a figure


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        if options.size not in DOUBLINGS:
            raise ConfigError(f"--size: the tutorial's network is for 32 or 64 px, not {options.size}")
        compare(options, choose_device())
    return 0


def compare(options: argparse.Namespace, device: str) -> None:
    """Train and judge what FOLDER/figures.jsonl does not have yet; print a line for each, then the means."""
    use_cpu(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    data = options.out / "data"
    block = Block.open(data) if data.exists() else prepare(options.source, data, [options.size])
    judge = EvaluationConfig(
        image_size=Size(options.size, options.size),
        samples=options.samples,
        extractor=options.extractor,
        extractor_weights=options.weights,
        classifier_images=options.classifier_images,
        threads=options.threads,
    )
    reference = make_reference(block, judge.image_size, judge, options.out / "reference", device)
    extractor = reference.extractor(judge).to(device)
    found: dict[str, list[float]] = {"tutorial": [], "genmodel": []}
    for seed in map(int, options.seeds.split(",")):
        for way, distances in found.items():
            asked = _asked(options, way, seed)
            distance = _known(options.out, asked)
            if distance is None:
                draw = tutorial_images if way == "tutorial" else genmodel_images
                images = draw(block, seed, device, options)
                distance = _distance(images, reference, extractor, device)
                with (options.out / "figures.jsonl").open("a") as handle:
                    handle.write(json.dumps({**asked, "frechet_distance": distance}) + "\n")
            distances.append(distance)
            print(f"{way:8} seed {seed}: Frechet distance {distance:.4f} ({extractor.name})", flush=True)
    for way, distances in found.items():
        print(f"{way:8} mean {statistics.mean(distances):.4f}, {min(distances):.4f} to {max(distances):.4f}")


def tutorial_images(block: Block, seed: int, device: str, options: argparse.Namespace) -> Tensor:
    """Train the tutorial's network, or go on with it, and draw from it: uint8 [samples, H, W, 3]."""
    torch.manual_seed(seed)
    loop = plain.Networks(device, DOUBLINGS[options.size], options.width)
    networks = {"generator": loop.generator, "discriminator": loop.discriminator}
    for network in networks.values():
        network.apply(_as_published)
    loader = Loader(block, options.size, "train", seed, device=device)
    path = options.out / f"tutorial-{options.size}-{options.width}-{options.images}-{seed}.safetensors"
    steps, first = options.images // BATCH, _load(path, loop) if path.exists() else 0
    for step in range(first, steps):
        torch.manual_seed(seed << 32 | step)  # so that a stop changes nothing
        images, _ = loader.batch(step * BATCH, BATCH)
        loop.step(to_model(images).contiguous())
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == steps:
            tensors.save(path, _state(loop), {"step": str(step + 1)})
            print(f"tutorial seed {seed}: {step + 1:,} of {steps:,} steps", flush=True)
    noise = torch.randn(options.samples, 100, 1, 1, generator=torch.Generator().manual_seed(0))
    generator = loop.generator.eval()
    with torch.inference_mode():
        return torch.cat([to_uint8(generator(part.to(device))).cpu() for part in noise.split(BATCH)])


def genmodel_images(block: Block, seed: int, device: str, options: argparse.Namespace) -> Tensor:
    """The same with the family dcgan."""
    settings = [f"image_size={options.size}", f"training.images={options.images // BATCH * BATCH}"]
    settings += [f"batch_size={BATCH}", f"training.seed={seed}", f"threads={options.threads}"]
    settings += [f"network.base_channels={options.width}", *options.set]
    folder = options.out / f"genmodel-{options.size}-{seed}"
    places = ["--data", str(block.path), "--out", str(folder), "--runs", str(options.out / "runs"), "--device", device]
    cli.main(["train", "dcgan", *places, *(word for setting in settings for word in ("--set", setting))])
    model, about = load_model(folder, device)
    return sample(model, options.samples, 0, about["class_counts"] if model.classes else ())


def _as_published(module: nn.Module) -> None:
    """The tutorial's weights_init."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def _state(loop: plain.Networks) -> dict[str, Tensor]:
    """Weights, statistics and the optimisers' moments."""
    state = {f"generator.{name}": value for name, value in loop.generator.state_dict().items()}
    state |= {f"discriminator.{name}": value for name, value in loop.discriminator.state_dict().items()}
    for player, optimizer in (("g", loop.optimizer_g), ("d", loop.optimizer_d)):
        for place, fields in optimizer.state_dict()["state"].items():
            state |= {f"optimizer_{player}.{place}.{field}": value for field, value in fields.items()}
    return state


def _load(path: Path, loop: plain.Networks) -> int:
    """Go on with what `_state` gave; returns the step."""
    state, about = tensors.load(path)

    def under(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

    loop.generator.load_state_dict(under("generator."))
    loop.discriminator.load_state_dict(under("discriminator."))
    for player, optimizer in (("g", loop.optimizer_g), ("d", loop.optimizer_d)):
        fields: dict[int, dict[str, Tensor]] = {}
        for name, value in under(f"optimizer_{player}.").items():
            place, field = name.split(".")
            fields.setdefault(int(place), {})[field] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": fields})
    return int(about["step"])


def _distance(images: Tensor, reference: Reference, extractor: Extractor, device: str) -> float:
    features = extract(extractor, images.split(256), device).values
    return float(frechet_distance(reference.real.mean, reference.real.root, features).value)


def _asked(options: argparse.Namespace, way: str, seed: int) -> dict[str, Any]:
    """What decides a figure."""
    asked = {name: getattr(options, name) for name in ASKED}
    return {"way": way, "seed": seed, **asked, "set": options.set if way == "genmodel" else []}


def _known(out: Path, asked: dict[str, Any]) -> float | None:
    path = out / "figures.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return next((row["frechet_distance"] for row in rows if {**row, **asked} == row), None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("source", help="images, as `genmodel prepare` takes them")
    parser.add_argument("--out", type=Path, required=True, help="the folder for all that is made")
    parser.add_argument("--size", type=int, default=32, help="32 or 64 px (default: %(default)s)")
    parser.add_argument("--width", type=int, default=64, help="channels of both networks (default: %(default)s)")
    parser.add_argument("--images", type=int, default=1_000_000, help="of each training (default: %(default)s)")
    parser.add_argument("--seeds", default="0,1,2", help="(default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of genmodel's"
    )
    parser.add_argument("--samples", type=int, default=10_000, help="to judge by (default: %(default)s)")
    parser.add_argument("--extractor", default="classifier", choices=["classifier", "inception", "dinov2"])
    parser.add_argument("--classifier-images", type=int, default=100_000, help="its training (default: %(default)s)")
    parser.add_argument("--weights", default="", help="inception's or dinov2's")
    parser.add_argument("--threads", type=int, default=0, help="on the CPU; 0: torch's choice (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
