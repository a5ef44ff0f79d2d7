"""Images as a file: a header of constant size, and the range coder's bytes of all their colour values in turn.

Encoding and decoding visit the colour values in the same way, one after the other: only the same sums in the same
order give the same probabilities to the last bit. So this runs on one thread of the CPU, and another machine or version
of torch may not be able to decode the file; the header's digest of the pixels tells.
"""

import contextlib
import hashlib
import struct
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from genmodel.compression.range_coder import Decoder, Encoder, cumulative
from genmodel.errors import ModelError, SourceError
from genmodel.models.abilities import Codes
from genmodel.models.contract import Family
from genmodel.sizes import Size, shape_text

MAGIC = b"genmodel-image\0\1"  # the last byte is the version
MOST = 64  # images in a file
_DIGEST = 16  # bytes of a sha256
_FIELDS = struct.Struct(f">{_DIGEST}s{_DIGEST}sHHHBi")  # model, pixels; images, height, width, channels, class or -1
_HEAD = len(MAGIC) + _FIELDS.size
HEADER = _HEAD + _DIGEST  # bytes; it ends in the digest of all the others


def compressed(model: Family, weights: str, images: Tensor, label: int | None) -> bytes:
    """A file of uint8 [N, H, W, C] images of the model's size and channels, all of class `label` if it is given.

    `weights` is the sha256 of the model's weights.
    """
    assert isinstance(model, Codes)
    encoder, values = Encoder(), iter(images.flatten(1).T)  # [N] each, in the order in which the model visits them

    def choose(probabilities: Tensor) -> Tensor:
        levels: Tensor = next(values)
        for level, starts in zip(levels.tolist(), cumulative(probabilities.numpy()), strict=True):
            encoder.encode(int(starts[level]), int(starts[level + 1]))
        return levels.long()

    with _alike():
        model.visit(_labels(len(images), label), choose)
    code = encoder.finish()
    told = -1 if label is None else label
    head = MAGIC + _FIELDS.pack(bytes.fromhex(weights)[:_DIGEST], _digest(images), *images.shape, told)
    return head + _digest(head + code) + code


def decompressed(model: Family, weights: str, content: bytes, name: str) -> Tensor:
    """The images, uint8 [N, H, W, C], of a file that `compressed` made; `name` is for messages.

    SourceError for another file, or one that is damaged; ModelError if another model has made it, or if this machine
    does not compute the same probabilities.
    """
    assert isinstance(model, Codes)
    _check(content, name)
    made_by, pixels, n, height, width, channels, told = _FIELDS.unpack(content[len(MAGIC) : _HEAD])
    if made_by != bytes.fromhex(weights)[:_DIGEST]:
        raise ModelError(f"{name} was made by another model: give the one with weights {made_by.hex()[:12]}...")
    if (Size(height, width), channels) != (model.image_size, model.spec.channels) or not 1 <= n <= MOST:
        shape = shape_text(model.image_size, model.spec.channels)
        raise SourceError(f"{name} does not hold {shape} images, 1 to {MOST} of them")
    decoder = Decoder(content[HEADER:])

    def choose(probabilities: Tensor) -> Tensor:
        return torch.tensor([decoder.decode(starts) for starts in cumulative(probabilities.numpy())])

    with _alike():
        images = model.visit(_labels(n, None if told < 0 else told), choose)
    if _digest(images) != pixels:
        raise ModelError(f"{name}: its images come out otherwise here: decode it with the torch and CPU that made it")
    return images


def _check(content: bytes, name: str) -> None:
    version = len(MAGIC) - 1
    if content[:version] != MAGIC[:version]:
        raise SourceError(f"{name} is not a file that genmodel compress made")
    if _digest(content[:_HEAD] + content[HEADER:]) != content[_HEAD:HEADER]:
        raise SourceError(f"{name} is damaged or cut off: take it back from a copy")
    if content[version:][:1] != MAGIC[version:]:
        raise SourceError(f"{name} was made by another version of genmodel compress")


def _labels(n: int, label: int | None) -> Tensor:
    return torch.full((n,), -1 if label is None else label)


def _digest(content: bytes | Tensor) -> bytes:
    if isinstance(content, Tensor):
        content = np.ascontiguousarray(content.numpy()).tobytes()
    return hashlib.sha256(content).digest()[:_DIGEST]


@contextlib.contextmanager
def _alike() -> Iterator[None]:
    """One thread, without gradients: a sum over several threads may end in other last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)
