"""The noise of what is seen of an image, searched for in a model whose samples are differentiable in their noise.

The model of an image is x = sample(z) + what the generator cannot draw, N(0, m^2) with an unknown m, and what is seen
of it y = look(x) + N(0, deviation^2). So the values that are seen differ from look(sample(z)) by a variance of at least
deviation^2, which is fitted with z: the search minimises -log p(y | z) at the best such variance, plus half the squared
distance of the normal numbers from their centres. If these are 0, that is the most likely z; if each is a draw from the
prior, what is not seen of the image stays as it was drawn, and several draws give several images ("randomise, then
optimise", Bardsley et al. 2014). Uniform numbers stay in their range. Categories and classes are not searched but
tried: candidates begin with different ones.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genmodel.models.abilities import Observation
from genmodel.models.contract import Family
from genmodel.models.noise import Space

_RACE = ((10, 16), (40, 4), (150, 1))  # steps of Adam, and how many candidates go on: those that are then the best
_RATE = 0.1
_TURNS = 50  # of projections
_ROUNDING = (2 / 255) ** 2 / 12  # variance of what rounding to levels adds


def search(
    model: Family, observation: Observation, starts: Tensor, labels: Tensor, centres: Tensor
) -> tuple[Tensor, Tensor]:
    """The best noise found for what is seen of one image, [1, width], and its label, [1].

    `starts` and `centres` are rows of noise [K, width]; labels int64 [K]. Deterministic.
    """
    for steps, count in _RACE:
        starts = _descended(model, observation, starts, labels, centres, steps, cooled=count == 1)
        with torch.no_grad():
            losses = loss(model, observation, starts, labels, centres)
        kept = losses.argsort(stable=True)[:count]
        starts, labels, centres = starts[kept], labels[kept], centres[kept]
    return starts, labels


def _descended(
    model: Family, observation: Observation, noise: Tensor, labels: Tensor, centres: Tensor, steps: int, cooled: bool
) -> Tensor:
    """Noise after some steps of Adam, row by row; `cooled`: in steps that become smaller."""
    noise = noise.clone().requires_grad_()
    optimizer = torch.optim.Adam([noise], lr=_RATE)
    for step in range(steps):
        if cooled:
            optimizer.param_groups[0]["lr"] = _RATE * (0.01 + 0.99 * math.cos(0.5 * math.pi * step / steps) ** 2)
        with torch.enable_grad():
            (noise.grad,) = torch.autograd.grad(loss(model, observation, noise, labels, centres).sum(), noise)
        optimizer.step()
        with torch.no_grad():
            for kind, columns in columns_of(model.space):
                if kind == "uniform":
                    noise[:, columns].clamp_(-1, 1)
    return noise.detach()


def loss(model: Family, observation: Observation, noise: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """What the search minimises, [K] in nats up to a constant."""
    apart = variance(observation, drawn(model, noise, labels))
    told = apart.clamp(min=observation.deviation**2 + _ROUNDING)
    count = observation.seen[0].numel()
    found = 0.5 * count * (told.log() + apart / told)
    for kind, columns in columns_of(model.space):
        if kind == "normal":
            found = found + 0.5 * (noise[:, columns] - centres[:, columns]).square().sum(dim=1)
    return found


def variance(observation: Observation, images: Tensor) -> Tensor:
    """Mean squared difference between what is seen and what would be seen of `images` [K, C, H, W]: [K]; 0 if nothing
    is seen."""
    apart = (observation.look(images) - observation.seen).flatten(1)
    return apart.square().sum(dim=1) / max(1, apart.shape[1])


def corrected(observation: Observation, images: Tensor) -> Tensor:
    """The mean of x given z and y: images [N, C, H, W] = sample(z), moved to what is seen by the share of the
    difference that the noise on it does not explain; within [-1, 1].

    Without noise that is all of it, and what leaves the range by it is made up for in turns, as long as something is
    missing: the truth is in both sets, and each projection onto either leads nearer to it.
    """
    noise = observation.deviation**2
    share = 1 - noise / variance(observation, images).clamp(min=max(noise, 1e-12))
    for _ in range(1 if noise else _TURNS):
        missing = observation.back(observation.seen - observation.look(images))
        images = (images + share[:, None, None, None] * missing).clamp(-1, 1)
    return images


def drawn(model: Family, noise: Tensor, labels: Tensor) -> Tensor:
    return model.sample(noise, labels) if model.classes else model.sample(noise)


def columns_of(space: Space) -> Sequence[tuple[str, slice]]:
    """The kind of each part of a space's noise, and its columns."""
    ends = torch.tensor([0, *(part.width for part in space.parts)]).cumsum(0).tolist()
    return [(part.kind, slice(*ends[place : place + 2])) for place, part in enumerate(space.parts)]
