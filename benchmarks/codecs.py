"""Bits per colour value of images by what needs no training to speak of: PNG, lossless WebP, a Gaussian for each pixel.

A file holds more than the image: a signature, its size, checksums. `bare` takes them off by the formats' own rules, so
that what is left is the coded pixels with the tables that decode them, as long as if the receiver knew the rest.
"""

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_ZLIB = 6  # bytes around the compressed data: two before, a checksum after
_VP8L = 5  # bytes before the coded image: a signature, width, height
_FLOORS = [2.0**power for power in range(-2, 7)]  # levels


def png(image: np.ndarray) -> bytes:
    """uint8 [H, W, C] as Pillow's smallest PNG."""
    return _saved(image, "PNG", optimize=True)


def webp(image: np.ndarray) -> bytes:
    """uint8 [H, W, C] as lossless WebP at its slowest; grey is stored as RGB, whose equal planes cost nothing."""
    return _saved(image, "WEBP", lossless=True, quality=100, method=6, exact=True)


def _saved(image: np.ndarray, form: str, **options: object) -> bytes:
    handle = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(handle, form, **options)
    return handle.getvalue()


def bare(content: bytes) -> int:
    """Bytes of a PNG's or WebP's compressed pixels alone."""
    if content.startswith(b"RIFF"):
        return sum(int.from_bytes(content[at + 4 : at + 8], "little") - _VP8L for at in _chunks(content, b"VP8L"))
    return sum(int.from_bytes(content[at - 4 : at], "big") for at in _chunks(content, b"IDAT")) - _ZLIB


def _chunks(content: bytes, name: bytes) -> list[int]:
    """Where the names of the chunks of a PNG or WebP stand that are called `name`."""
    is_riff, found = content.startswith(b"RIFF"), []
    at = 12 if is_riff else 8
    while at < len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little") if is_riff else int.from_bytes(content[at : at + 4])
        kind = at if is_riff else at + 4
        if content[kind : kind + 4] == name:
            found.append(kind)
        at += 8 + length + length % 2 if is_riff else 12 + length
    return found


def gaussian_bits(train: np.ndarray, held_out: np.ndarray) -> Tensor:
    """Bits per colour value of uint8 images [N, H, W, C], each value independent of the others: float64 [N].

    Mean and deviation of each value are those of nine tenths of `train`. A deviation is at least a floor, that with
    which the last tenth costs least: a border that was always black may not be so in another image.
    """
    seen, check = train[np.arange(len(train)) % 10 < 9], train[9::10]
    mean, deviation = (torch.from_numpy(kind(seen, axis=0, dtype=np.float64)) for kind in (np.mean, np.std))
    floor = min(_FLOORS, key=lambda least: float(_bits(check, mean, deviation.clamp(min=least)).mean()))
    return _bits(held_out, mean, deviation.clamp(min=floor))


def _bits(images: np.ndarray, mean: Tensor, deviation: Tensor) -> Tensor:
    parts = [
        -log_mass(torch.from_numpy(part), mean, deviation).flatten(1).mean(1) / math.log(2)
        for part in np.array_split(images, -(-len(images) // 256))
    ]
    return torch.cat(parts)


def log_mass(levels: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """log P(level) of a Gaussian over the 256 levels: its mass between the midpoints to a level's neighbours; the outer
    two also have the tails, so that the 256 masses sum to 1."""
    centred = (levels.double() - mean) / deviation
    half = 0.5 / deviation
    upper = torch.where(levels == 255, math.inf, centred + half)
    lower = torch.where(levels == 0, -math.inf, centred - half)
    # by symmetry the interval is taken on the side of the tail, where log_ndtr is exact
    low, high = torch.where(lower > 0, -upper, lower), torch.where(lower > 0, -lower, upper)
    most = torch.special.log_ndtr(high)
    return most + torch.log1p(-(torch.special.log_ndtr(low) - most).exp())
