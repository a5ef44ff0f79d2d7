"""`genmodel inpaint`, `denoise` and `upscale`: their options, and what they write."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genmodel.devices import choose_device
from genmodel.errors import ConfigError, ModelError
from genmodel.output.counting import counted
from genmodel.output.printable import printable
from genmodel.showing.options import add_device, check_seed

if TYPE_CHECKING:
    from torch import Tensor

    from genmodel.models.contract import Family

Command = Callable[[Callable[[argparse.Namespace], None], str, str], argparse.ArgumentParser]
_MOST = 64  # completions


def inpaint(arguments: argparse.Namespace) -> None:
    from genmodel.applications.files import check_size, read_image, read_mask, save_image
    from genmodel.applications.page import masked, page
    from genmodel.applications.restore import COMPLETE, completed

    if not 1 <= arguments.n <= _MOST:
        raise ConfigError(f"-n: must be between 1 and {_MOST}, not {arguments.n}")
    model, label = _model(arguments, COMPLETE, "complete an image")
    image = read_image(arguments.image, model.spec.channels)
    check_size(arguments.image, tuple(image.shape), model.image_size, f"{arguments.model} draws")
    known = read_mask(arguments.mask, model.image_size)
    made = completed(model, image, known, arguments.n, arguments.seed, label)
    tiles = {"original": image, "masked": masked(image, known)}
    save_image(arguments.out, page(tiles | {str(number): each for number, each in enumerate(made, 1)}))
    names = [arguments.out.with_stem(f"{arguments.out.stem}-{number}") for number in range(1, len(made) + 1)]
    for name, each in zip(names, made, strict=True):
        save_image(name, each)
    files = str(names[0]) if len(names) == 1 else f"{names[0]} to {names[-1].name}"
    print(printable(f"{arguments.out}: the image, its mask and {counted(len(made), 'completion')}, which are {files}"))


def denoise(arguments: argparse.Namespace) -> None:
    from genmodel.applications import plain
    from genmodel.applications.files import check_size, read_image
    from genmodel.applications.restore import RESTORE, denoised

    if not (math.isfinite(arguments.sigma) and 0 < arguments.sigma <= 255):
        raise ConfigError(f"--sigma: is in levels of 0 to 255, above 0, not {arguments.sigma:g}")
    model, label = _model(arguments, RESTORE, "remove noise")
    image = read_image(arguments.image, model.spec.channels)
    check_size(arguments.image, tuple(image.shape), model.image_size, f"{arguments.model} draws")
    made = denoised(model, image, arguments.sigma, arguments.seed, label)
    _save(arguments.out, {"noisy": image, "denoised": made, "median": _plainly(plain.median, image)})


def upscale(arguments: argparse.Namespace) -> None:
    from genmodel.applications import plain
    from genmodel.applications.files import check_size, read_image
    from genmodel.applications.restore import RESTORE, enlarged
    from genmodel.sizes import Size

    factor = arguments.factor
    if factor < 2:
        raise ConfigError(f"--factor: must be at least 2, not {factor}")
    model, label = _model(arguments, RESTORE, "enlarge an image")
    if any(side % factor for side in model.image_size):
        raise ConfigError(f"--factor: must divide the {model.image_size} px that {arguments.model} draws, not {factor}")
    small = Size(*(side // factor for side in model.image_size))
    image = read_image(arguments.image, model.spec.channels)
    check_size(arguments.image, tuple(image.shape), small, f"with --factor {factor} {arguments.model} enlarges")
    made = enlarged(model, image, factor, arguments.seed, label)
    pixels = image.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    bicubic = _plainly(lambda values: plain.enlarged(values, factor), image)
    _save(arguments.out, {"small": pixels, "upscaled": made, "bicubic": bicubic})


def _model(arguments: argparse.Namespace, abilities: Sequence[type], what: str) -> "tuple[Family, int | None]":
    """The model, which has one of the abilities, and the class that is asked for."""
    from genmodel.applications.restore import able
    from genmodel.sampling.load import load_model
    from genmodel.showing.pictures import label_of

    check_seed(arguments.seed)
    if arguments.out.suffix.lower() != ".png":
        raise ConfigError(f"--out: {arguments.out}: what is written is a PNG: name it so")
    model, about = load_model(arguments.model, choose_device(arguments.device))
    try:
        able(model, abilities, what)
    except ModelError as error:
        raise ModelError(f"{arguments.model}: {error}") from error
    names = [str(name) for name in about["classes"]] if model.classes else []
    return model, None if arguments.label is None else label_of(arguments.model, names, arguments.label)


def _plainly(way: "Callable[[Tensor], Tensor]", image: "Tensor") -> "Tensor":
    """What a way without a model makes of uint8 [H, W, C]."""
    from genmodel.pixels import to_model, to_uint8

    return to_uint8(way(to_model(image[None])))[0]


def _save(out: Path, tiles: "dict[str, Tensor]") -> None:
    """Write the second tile, and all of them beside it."""
    from genmodel.applications.files import save_image
    from genmodel.applications.page import page

    compared = out.with_stem(f"{out.stem}-compared")
    save_image(out, list(tiles.values())[1])
    save_image(compared, page(tiles))
    print(printable(f"{out}; {compared}: {', '.join(tiles)}"))


def add_applications(command: Command) -> None:
    """All three commands."""
    add = command(
        inpaint,
        "Fill in a part of an image, in several ways.",
        "inpaint models/dcgan image.png --mask mask.png -n 8",
    )
    _add_files(add, "inpainted.png", "an image of the model's size")
    add.add_argument("--mask", type=Path, required=True, help="an image of the same size: white is filled in")
    add.add_argument("-n", type=int, default=8, help="how many completions")

    add = command(denoise, "Remove noise from an image.", "denoise models/vae image.png --sigma 25")
    _add_files(add, "denoised.png", "an image of the model's size")
    add.add_argument("--sigma", type=float, default=25.0, help="deviation of the noise, in levels of 0 to 255")

    add = command(upscale, "Enlarge an image.", "upscale models/vae image.png --factor 2")
    _add_files(add, "upscaled.png", "an image FACTOR times smaller than the model's")
    add.add_argument("--factor", type=int, default=2, help="how many times as wide and high it becomes")


def _add_files(to: argparse.ArgumentParser, out: str, what: str) -> None:
    to.add_argument("model", type=Path, help="a finished model's folder")
    to.add_argument("image", type=Path, help=what)
    to.add_argument("--seed", type=int, default=0, help="of the noise; completion i is the same for any -n")
    to.add_argument("--class", dest="label", help="of a conditional model: its class, by name or number")
    to.add_argument("--out", "-o", type=Path, default=Path(out), help="the PNG to write")
    add_device(to)
