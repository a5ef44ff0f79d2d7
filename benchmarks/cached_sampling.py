"""Sampling of PixelCNN++ that reuses what it has computed, beside plain sampling: the whole network for each pixel.

    python -m benchmarks.cached_sampling [--size 32] [--images 16] [--set KEY=VALUE] [--passes 8] [--repeats 3]

Plain sampling takes as many passes as there are pixels, and each as long as any other: --passes of them are measured
and scaled up. Both run in turns; ratios are medians. That both draw the same images is tests/models/test_pixelcnn.py's.
"""

import argparse
import sys

import torch

from benchmarks.compare import HEAD, alternate, rate
from genmodel.devices import use_cpu
from genmodel.errors import user_errors
from genmodel.models.contract import Noise, build_model
from genmodel.models.pixelcnn import PixelCNN
from genmodel.params import run_config


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors(), torch.inference_mode():
        use_cpu(options.threads)
        print(HEAD + measured(options), end="")
    return 0


def measured(options: argparse.Namespace) -> str:
    """The row of the table."""
    config = run_config({"family": "pixelcnn"}, "pixelcnn", [f"image_size={options.size}", *options.set])
    model = build_model(config, 0, options.channels).eval()
    assert isinstance(model, PixelCNN)
    noise = Noise(torch.Generator().manual_seed(0)).of(model.space, options.images)
    images = torch.zeros(options.images, options.channels, *model.image_size)
    share = options.passes / (model.image_size.height * model.image_size.width)

    def plain() -> float:
        return rate(options.images, lambda: [model.network(images, None) for _ in range(options.passes)]) * share

    what = f"pixelcnn, {config.image_size} px, {options.images} images at once"
    return alternate(
        what, lambda: rate(options.images, lambda: model.sample(noise)), "plain sampling", plain, options.repeats
    ).text()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cached_sampling", description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    parser.add_argument("--size", default="32", help="in pixels (default: %(default)s)")
    parser.add_argument("--channels", type=int, default=3, help="1, 3 or 4 (default: %(default)s)")
    parser.add_argument("--images", type=int, default=16, help="drawn at once (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=8, help="of plain sampling (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of measurements (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
