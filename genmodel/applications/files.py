"""The images and masks that a user hands over, and where the answers go. A mistake in them is one line."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genmodel.data.imaging.decode import COLOURED, decode
from genmodel.data.making.recipe import Recipe
from genmodel.data.sources.members import Reject
from genmodel.errors import SourceError
from genmodel.files import durable
from genmodel.sizes import Size


def read_image(path: Path, channels: int) -> Tensor:
    """uint8 [H, W, C] with the channels of a model; turned upright, and on white unless the fourth is transparency.

    SourceError if it cannot be read whole, or has colours where the model draws grey.
    """
    content = _content(path)
    pixels = np.asarray(_decoded(path, content, Recipe(channels=min(channels, 3), orient=True)))
    if channels == 4:  # as it is: the decoder's premultiplied colours are no longer the file's
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGBA"))
    return torch.from_numpy(np.array(pixels[..., :channels]))


def read_mask(path: Path, size: Size) -> Tensor:
    """Which pixels are known, bool [H, W]: where a mask is black. White marks what is to be filled in.

    SourceError if it cannot be read, is not of this size, or leaves nothing to be filled in.
    """
    pixels = np.asarray(_decoded(path, _content(path), Recipe(channels=1, luma=True, orient=True)))
    check_size(path, pixels.shape, size, "the image is")
    known = torch.from_numpy(pixels[..., 0] < 128)
    if known.all():
        raise SourceError(f"{path} has no white pixel: white marks what is to be filled in")
    return known


def check_size(path: Path, shape: tuple[int, ...], size: Size, whose: str) -> None:
    """SourceError unless the pixels read from `path`, [H, W, C], are of `size`; `whose` says why they should be."""
    if shape[:2] != tuple(size):
        raise SourceError(f"{path} is {Size(*shape[:2])} px, and {whose} {size} px: give one of that size")


def save_image(path: Path, image: Tensor | Image.Image) -> None:
    """Write uint8 [H, W, C] or a picture as a PNG."""
    if isinstance(image, Tensor):
        pixels = image.numpy()
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture = image
    durable.write_with(path, lambda handle: picture.save(handle, format="PNG"))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def _decoded(path: Path, content: bytes, recipe: Recipe) -> Image.Image:
    try:
        return decode(content, recipe)[0]
    except Reject as error:
        if str(error) == COLOURED:
            raise SourceError(f"{path} has colours, and the model draws grey images: convert it to grey") from error
        raise SourceError(f"{path}: {error}") from error
