"""Walks through a model's noise, from the noise of one image to that of another.

Only where the space is meaningful: a model that draws pixel after pixel has no images in between.
"""

import math

import torch
from torch import Tensor

from genmodel.models.noise import Space


def between(space: Space, start: Tensor, end: Tensor, frames: int) -> Tensor:
    """The way from the noise `start` to `end`, [space.width] each, both included: [frames, space.width].

    A normal part turns along an arc: on the straight line it would become shorter than any that is drawn (Shoemake
    1985; White 2016). A uniform one goes straight and never leaves its range. A category changes halfway, at once.
    """
    places = torch.linspace(0, 1, frames)[:, None]
    ways, column = [], 0
    for part in space.parts:
        here = slice(column, column + part.width)
        ways.append(_WAYS[part.kind](start[here], end[here], places))
        column += part.width
    way = torch.cat(ways, dim=1)
    way[0], way[-1] = start, end  # to the last bit
    return way


def _arc(start: Tensor, end: Tensor, places: Tensor) -> Tensor:
    cosine = torch.dot(start, end) / (start.norm() * end.norm())
    angle = float(torch.arccos(cosine.clamp(-1, 1)))
    if not 1e-3 < angle < math.pi - 1e-3:  # one direction, or opposite ones: there is no arc, or more than one
        return _straight(start, end, places)
    return (((1 - places) * angle).sin() * start + (places * angle).sin() * end) / math.sin(angle)


def _straight(start: Tensor, end: Tensor, places: Tensor) -> Tensor:
    return (1 - places) * start + places * end


def _halfway(start: Tensor, end: Tensor, places: Tensor) -> Tensor:
    return torch.where(places < 0.5, start, end)


_WAYS = {"normal": _arc, "uniform": _straight, "categorical": _halfway}


def smooth_walks(codes: Tensor, space: Space, frames: int) -> Tensor:
    """Walks from each even row of codes (as requests.codes makes them, [2 W, ...]) to the next: [W, frames, ...].

    What cannot change little by little stays as at the start: categories, and the class of a conditional model.
    """
    starts, ends = codes[0::2], codes[1::2].clone()
    column = 0
    for part in space.parts:
        if part.kind == "categorical":
            ends[:, column : column + part.width] = starts[:, column : column + part.width]
        column += part.width
    ways = [between(space, a[:column], b[:column], frames) for a, b in zip(starts, ends, strict=True)]
    return torch.cat([torch.stack(ways), starts[:, None, column:].expand(-1, frames, -1)], dim=2)
