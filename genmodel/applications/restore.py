"""Images from what is seen of them, by whatever ability a model has: completed, denoised, enlarged.

    completed    Completes, else Restores, else Inverts
    denoised     Restores, else Inverts
    enlarged     Restores, else Inverts

All take and return uint8 [.., H, W, C] on the CPU. Image i of a seed is the same for any number of images: it comes
from the noise of sample i.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from genmodel.applications import plain
from genmodel.applications.inversion import corrected, drawn, search
from genmodel.applications.observing import known_pixels, noisy, smaller
from genmodel.errors import ModelError
from genmodel.models.abilities import Completes, Inverts, Observation, Reconstructs, Restores
from genmodel.models.contract import Family
from genmodel.models.families import FAMILIES, load_family
from genmodel.models.noise import image_seeds
from genmodel.pixels import to_model, to_uint8

COMPLETE: Sequence[type] = (Completes, Restores, Inverts)
RESTORE: Sequence[type] = (Restores, Inverts)
_BATCH = 8  # images that are drawn at once
_CANDIDATES = 64  # of a search


def able(model: Family, abilities: Sequence[type], what: str) -> None:
    """ModelError, naming the families that have one of the abilities, if the model has none."""
    if isinstance(model, tuple(abilities)):
        return
    can = [name for name in FAMILIES if issubclass(load_family(name), tuple(abilities))]
    raise ModelError(f"it cannot {what}; a model of one of these families can: {', '.join(can)}")


def completed(model: Family, image: Tensor, known: Tensor, n: int, seed: int, label: int | None = None) -> Tensor:
    """[n, H, W, C]: `image` where `known`, bool [H, W], is true, and n times what else it may be."""
    able(model, COMPLETE, "complete an image")
    images, there = _ready(model, image), known.to(_device(model))
    if isinstance(model, Completes):
        ability = model

        def complete(noise: Tensor, labels: Tensor) -> Tensor:
            rows = len(noise)
            return ability.complete(images.expand(rows, -1, -1, -1), there.expand(rows, -1, -1), noise, labels)

        with torch.inference_mode():
            made = _in_batches(model, complete, n, seed, label)
    else:
        inputs = to_model(images)
        made = _explained(model, known_pixels(inputs, there), plain.filled(inputs, there), seed, label, n)
    return torch.where(known[:, :, None], image, to_uint8(made))


def denoised(model: Family, image: Tensor, deviation: float, seed: int = 0, label: int | None = None) -> Tensor:
    """[H, W, C]: what may be under `image`, to which Gaussian noise of `deviation` levels was added."""
    able(model, RESTORE, "remove noise")
    inputs = to_model(_ready(model, image))
    observation = noisy(inputs, deviation / 127.5)
    return to_uint8(_explained(model, observation, plain.median(inputs), seed, label))[0]


def enlarged(model: Family, image: Tensor, factor: int, seed: int = 0, label: int | None = None) -> Tensor:
    """[factor * H, factor * W, C]: an image of which `image` holds the means of squares of factor x factor pixels."""
    able(model, RESTORE, "enlarge an image")
    inputs = to_model(_ready(model, image))
    observation = smaller(inputs, factor)
    return to_uint8(_explained(model, observation, plain.enlarged(inputs, factor), seed, label))[0]


def _explained(
    model: Family, observation: Observation, guess: Tensor, seed: int, label: int | None, n: int | None = None
) -> Tensor:
    """float [n, C, H, W] on the CPU: what may be behind an observation of one image, or without `n` the likeliest.

    `guess` is what a plain way makes of it, [1, C, H, W].
    """
    if isinstance(model, Restores):
        ability = model

        def restore(noise: Tensor, labels: Tensor) -> Tensor:
            seen = observation.seen.expand(len(noise), *observation.seen.shape[1:])
            whole = replace(observation, seen=seen)
            return corrected(whole, ability.restore(whole, noise, labels).detach())

        return _in_batches(model, restore, n or 1, seed, label)
    seeds = map(int, image_seeds(seed, n or 1))
    found = [_searched(model, observation, guess, own, label, likeliest=n is None) for own in seeds]
    return torch.cat(found).cpu()


def _searched(
    model: Family, observation: Observation, guess: Tensor, seed: int, label: int | None, likeliest: bool
) -> Tensor:
    """The image [1, C, H, W] of the noise that explains an observation: the likeliest, or one near a draw.

    The first candidate is the noise of `seed`; then come the encoder's codes of the guess, if there is one, for each
    class if that is not told.
    """
    seeds = np.concatenate([np.array([seed], np.uint64), image_seeds(seed, _CANDIDATES - 1)])
    starts = torch.from_numpy(model.space.draw(seeds)).to(guess.device)
    every = torch.arange(_CANDIDATES, device=guess.device)
    unknown = bool(model.classes) and label is None
    labels = every % model.classes if unknown else torch.full_like(every, -1 if label is None else label)
    centres = torch.zeros_like(starts) if likeliest else starts.clone()
    if isinstance(model, Reconstructs):
        coded = slice(1, 1 + min(model.classes if unknown else 1, _CANDIDATES // 2))
        guesses = to_uint8(guess).expand(len(labels[coded]), -1, -1, -1)
        starts[coded], centres[coded] = model.encode(guesses, labels[coded]), centres[:1]
    noise, labels = search(model, observation, starts, labels, centres)
    with torch.no_grad():
        return corrected(observation, drawn(model, noise, labels))


def _in_batches(
    model: Family, draw: Callable[[Tensor, Tensor], Tensor], n: int, seed: int, label: int | None
) -> Tensor:
    """draw(noise, labels) of images 0 .. n - 1 of a seed, on the CPU."""
    made = []
    for first in range(0, n, _BATCH):  # always whole batches: their size may change the last bits
        noise = torch.from_numpy(model.space.draw(image_seeds(seed, _BATCH, first))).to(_device(model))
        labels = torch.full((_BATCH,), -1 if label is None else label, device=noise.device)
        made.append(draw(noise, labels).cpu())
    return torch.cat(made)[:n]


def _ready(model: Family, image: Tensor) -> Tensor:
    """uint8 [1, H, W, C] on the model's device."""
    return image[None].to(_device(model))


def _device(model: Family) -> torch.device:
    return next(model.parameters()).device
