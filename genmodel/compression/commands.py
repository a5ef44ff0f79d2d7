"""`genmodel compress` and `genmodel decompress`: their options, and what they write."""

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmodel.errors import ConfigError, ModelError, SourceError
from genmodel.output.counting import counted
from genmodel.output.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

    from genmodel.models.contract import Family

Command = Callable[[Callable[[argparse.Namespace], None], str, str], argparse.ArgumentParser]
_EXACT = {"1", "P", "L", "LA", "RGB", "RGBA"}  # Pillow's modes that a model's images can hold


def compress(arguments: argparse.Namespace) -> None:
    import torch

    from genmodel.compression.codec import HEADER, MOST, compressed
    from genmodel.files import durable
    from genmodel.showing.pictures import label_of

    if len(arguments.images) > MOST:
        raise ConfigError(f"a file holds up to {MOST} images, not {len(arguments.images)}: compress them in parts")
    model, about = _model(arguments.model)
    names = [str(name) for name in about["classes"]] if model.classes else []
    label = None if arguments.label is None else label_of(arguments.model, names, arguments.label)
    images = torch.stack([_read(path, model, arguments.model) for path in arguments.images])
    content = compressed(model, about["weights"], images, label)
    durable.write_bytes(arguments.out, content)
    bits = 8 * (len(content) - HEADER) / images.numel()
    what = f"{counted(len(images), 'image')} in {len(content):,} bytes, {HEADER} of them a header"
    print(printable(f"{arguments.out}: {what}; {bits:.3f} bits/dim, and the model says {_said(model, images, label)}"))


def decompress(arguments: argparse.Namespace) -> None:
    from genmodel.applications.files import save_image
    from genmodel.compression.codec import decompressed

    if arguments.out.suffix.lower() != ".png":
        raise ConfigError(f"--out: {arguments.out}: what is written is a PNG: name it so")
    model, about = _model(arguments.model)
    images = decompressed(model, about["weights"], _content(arguments.file), str(arguments.file))
    out = arguments.out
    names = [out] if len(images) == 1 else [out.with_stem(f"{out.stem}-{n}") for n in range(1, len(images) + 1)]
    for name, image in zip(names, images, strict=True):
        save_image(name, image)
    print(printable(str(out) if len(names) == 1 else f"{names[0]} to {names[-1].name}"))


def _model(folder: Path) -> "tuple[Family, dict[str, Any]]":
    from genmodel.applications.restore import able
    from genmodel.models.abilities import Codes
    from genmodel.sampling.load import load_model

    model, about = load_model(folder)
    try:
        able(model, [Codes], "compress images")
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    return model, about


def _said(model: "Family", images: "Tensor", label: int | None) -> str:
    """The likelihood of the images by the model itself."""
    import torch

    from genmodel.models.abilities import Likelihood

    if not isinstance(model, Likelihood):
        return "nothing"
    with torch.inference_mode():
        bits = model.bits(images, torch.full((len(images),), -1 if label is None else label))
    return f"{float(bits.mean()):.3f}"


def _read(path: Path, model: "Family", folder: Path) -> "Tensor":
    """uint8 [H, W, C] exactly as they are in the file; SourceError where that cannot be."""
    from PIL import Image

    from genmodel.applications.files import check_size, read_image

    channels = model.spec.channels
    image = read_image(path, channels)
    check_size(path, tuple(image.shape), model.image_size, f"{folder} codes")
    with Image.open(io.BytesIO(_content(path))) as opened:
        lost = None if opened.mode in _EXACT else f"more than 8 bits, or colours as {opened.mode}"
        if channels != 4 and opened.has_transparency_data:
            lost = "transparency"
    if lost:
        raise SourceError(f"{path} has {lost}, which would be lost: convert it to {8 * channels} bits a pixel")
    return image


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def add_compression(command: Command) -> None:
    """Both commands."""
    add = command(
        compress,
        "Store images in as many bits as a model finds in them.",
        "compress models/pixelcnn image.png -o image.gm",
    )
    add.add_argument("model", type=Path, help="a finished model's folder")
    add.add_argument("images", type=Path, nargs="+", help="images of the model's size")
    add.add_argument("--class", dest="label", help="of a conditional model: the images' class, by name or number")
    add.add_argument("--out", "-o", type=Path, required=True, help="the file to write")

    add = command(decompress, "Get back what compress stored.", "decompress models/pixelcnn image.gm -o image.png")
    add.add_argument("model", type=Path, help="the model that the file was made with")
    add.add_argument("file", type=Path, help="what compress wrote")
    add.add_argument("--out", "-o", type=Path, default=Path("image.png"), help="the PNG to write; several: numbered")
