"""Augmentation of what a discriminator sees, real and fake alike; without it, it memorises a small training set.

The transforms are those of ADA's pipe (Karras et al. 2020, "Training Generative Adversarial Networks with Limited
Data", appendix B) and of DiffAugment (Zhao et al. 2020): each is applied to an image with the same probability, drawn
anew, so that up to about 0.8 a generator does not learn to draw augmented images (ADA, section 2.2).

Of gathers and elementwise arithmetic alone: they are differentiable any number of times, as penalties on the images
before augmentation need, can be captured in a CUDA graph, have a deterministic mode (F.grid_sample has none of the
three) and, unlike a matrix product, are not rounded by autocast.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from genmodel.models.contract import Noise, Step
from genmodel.models.parts.losses import widened
from genmodel.settings.config import Range, Share
from genmodel.settings.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Which transforms, and how strong; none by default.

    A family has it as its setting `augment`, and `probability` among its knobs as `augmentation`.
    """

    probability: Annotated[float | Schedule, Range(0, 1)] = 1.0  # of each transform below that is not 0 or false
    flip: bool = False  # mirror left and right
    rotate90: bool = False  # a multiple of 90 degrees; of 180 where images are not square
    translate: Annotated[float, Range(0, 0.5)] = 0.0  # by whole pixels, up to this share of the short side
    geometry: Share = 0.0  # scale, any rotation, stretch and shift; share of ADA's strength
    colour: Share = 0.0  # brightness, contrast, hue and saturation; share of ADA's strength
    cutout: Share = 0.0  # side of a grey rectangle, as a share of the image's

    @property
    def is_off(self) -> bool:
        strengths = (self.flip, self.rotate90, self.translate, self.geometry, self.colour, self.cutout)
        return self.probability == 0 or not any(strengths)


def augmented(images: Tensor, settings: Augmentation, step: Step) -> Tensor:
    """What a discriminator sees of `images` at a step of a family that has `augmentation` among its knobs."""
    return images if settings.is_off else augment(images, settings, step.knobs["augmentation"], step.noise)


def augment(images: Tensor, settings: Augmentation, probability: Tensor, noise: Noise) -> Tensor:
    """Augmented images [N, C, H, W] in [-1, 1], or slightly beyond: colours are not clamped, as gradients would vanish.

    `probability` is a scalar on their device, the value of `settings.probability` at this step (a knob). At 0 the
    images come back as they are. Nothing is drawn where `settings` are off.
    """
    if settings.is_off:
        return images
    images = widened(images)
    if settings.flip:
        images = _flipped(images, probability, noise)
    if settings.rotate90:
        images = _turned(images, probability, noise)
    if settings.translate:
        images = translate(images, round(settings.translate * min(images.shape[2:])), probability, noise)
    if settings.geometry:
        images = _warped(images, settings.geometry, probability, noise)
    if settings.colour:
        images = _recoloured(images, settings.colour, probability, noise)
    if settings.cutout:
        images = _cut(images, settings.cutout, probability, noise)
    return images


def _flipped(images: Tensor, probability: Tensor, noise: Noise) -> Tensor:
    """Mirrored or not, equally often, where the transform is applied."""
    applied, chosen = _uniform(noise, len(images), 2)
    return torch.where(_each((applied < probability) & (chosen < 0.5)), images.flip(3), images)


def _turned(images: Tensor, probability: Tensor, noise: Noise) -> Tensor:
    """By 0, 90, 180 or 270 degrees, equally often, where the transform is applied."""
    applied, half, quarter = _uniform(noise, len(images), 3)
    images = torch.where(_each((applied < probability) & (half < 0.5)), images.flip(2, 3), images)
    if images.shape[2] != images.shape[3]:
        return images
    return torch.where(_each((applied < probability) & (quarter < 0.5)), images.rot90(1, (2, 3)), images)


def translate(images: Tensor, reach: int, probability: Tensor, noise: Noise) -> Tensor:
    """Moved by -reach to reach pixels along both axes; what comes in is -1, black."""
    height, width = images.shape[2:]
    applied, *shifts = _uniform(noise, len(images), 3)
    down, right = (
        torch.where(applied < probability, (shift * (2 * reach + 1)).floor().clamp(max=2 * reach) - reach, 0).long()
        for shift in shifts
    )
    rows = torch.arange(height, device=images.device)[:, None] - _each(down)[:, 0]
    columns = torch.arange(width, device=images.device) - _each(right)[:, 0]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    moved = _taken(images, rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    return torch.where(inside[:, None], moved, -1.0)


def _warped(images: Tensor, strength: float, probability: Tensor, noise: Noise) -> Tensor:
    """Scaled by 2^N(0, 0.2^2), rotated, stretched by 2^N(0, 0.2^2) along one axis and as much shrunk along the other,
    rotated, shifted by N(0, 0.125^2) of each side: each with `probability` (the two rotations together), around the
    middle; all but the angles are multiplied by `strength`, and these are up to `strength` times 180 degrees.

    The image is doubled in size and that is read between its pixels, mirrored at its edges: reading the image itself
    would blur it.
    """
    height, width = images.shape[2:]
    chances, angles = _uniform(noise, len(images), 5), _uniform(noise, len(images), 2)
    scale, stretch, down, right = (strength * number for number in _normal(noise, len(images), 4))
    turning = 1 - (1 - probability).sqrt()  # so that an image keeps its angle with 1 - probability
    scale = (0.2 * _where(chances[0] < probability, scale)).exp2()
    stretch = (0.2 * _where(chances[1] < probability, stretch)).exp2()
    down, right = (0.125 * side * _where(chances[2] < probability, by) for side, by in ((height, down), (width, right)))
    first, second = (
        _where(chance < turning, strength * math.pi * (2 * angle - 1))
        for chance, angle in zip(chances[3:], angles, strict=True)
    )
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2 - _each(down)[:, 0]
    x = torch.arange(width, device=images.device) - (width - 1) / 2 - _each(right)[:, 0]
    y, x = _rotated(y, x, first)
    y, x = y * _each(scale * stretch)[:, 0], x * _each(scale / stretch)[:, 0]
    y, x = _rotated(y, x, second)
    doubled = _doubled(_doubled(images.contiguous()).mT.contiguous()).mT.contiguous()  # gathers want rows
    return _read(doubled, 2 * y + height - 1, 2 * x + width - 1)


def _recoloured(images: Tensor, strength: float, probability: Tensor, noise: Noise) -> Tensor:
    """Brighter by N(0, 0.2^2), contrast times 2^N(0, 0.5^2), and where there are colours, hue turned by up to 180
    degrees and saturation times 2^N(0, 1): each with `probability` and times `strength`. Alpha stays."""
    chances, (angle,) = _uniform(noise, len(images), 4), _uniform(noise, len(images), 1)
    brightness, contrast, saturation = (strength * number for number in _normal(noise, len(images), 3))
    colours, alpha = images[:, :3], images[:, 3:]
    colours = colours + _each(0.2 * _where(chances[0] < probability, brightness))
    colours = colours * _each((0.5 * _where(chances[1] < probability, contrast)).exp2())
    if len(colours[0]) == 3:
        turned, saturated = chances[2] < probability, chances[3] < probability
        angle = _where(turned, strength * math.pi * (2 * angle - 1))
        grey = colours.mean(1, keepdim=True)
        hue = colours - grey  # around the grey axis (Rodrigues' formula)
        across = (hue.roll(1, 1) - hue.roll(-1, 1)) / math.sqrt(3)
        hue = (hue * _each(angle.cos()) + across * _each(angle.sin())) * _each(_where(saturated, saturation).exp2())
        colours = torch.where(_each(turned | saturated), grey + hue, colours)
    return torch.cat([colours, alpha], 1)


def _cut(images: Tensor, share: float, probability: Tensor, noise: Noise) -> Tensor:
    """A rectangle of `share` of both sides, its centre anywhere, becomes 0, mid-grey."""
    applied, down, right = _uniform(noise, len(images), 3)
    height, width = images.shape[2:]
    y = (torch.arange(height, device=images.device)[:, None] + 0.5) / height - _each(down)
    x = (torch.arange(width, device=images.device) + 0.5) / width - _each(right)
    hole = (y.abs() < share / 2) & (x.abs() < share / 2) & _each(applied < probability)
    return torch.where(hole, 0.0, images)


def _uniform(noise: Noise, count: int, numbers: int) -> tuple[Tensor, ...]:
    """`numbers` times one number in [0, 1) for each image: [count] each."""
    drawn = noise.rows(count, lambda n, rng: torch.rand(n, numbers, generator=rng, device=rng.device))
    return drawn.unbind(1)


def _normal(noise: Noise, count: int, numbers: int) -> tuple[Tensor, ...]:
    drawn = noise.rows(count, lambda n, rng: torch.randn(n, numbers, generator=rng, device=rng.device))
    return drawn.unbind(1)


def _where(chosen: Tensor, values: Tensor) -> Tensor:
    """`values`, and 0 for the images that are not chosen."""
    return torch.where(chosen, values, 0.0)


def _each(values: Tensor) -> Tensor:
    """A number for each image, [N] -> [N, 1, 1, 1]."""
    return values[:, None, None, None]


def _rotated(y: Tensor, x: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Places [N, H, W] turned by [N] radians."""
    cos, sin = _each(angle.cos())[:, 0], _each(angle.sin())[:, 0]
    return cos * y - sin * x, sin * y + cos * x


def _doubled(images: Tensor) -> Tensor:
    """[..., H, W] -> [..., 2H - 1, W]: the rows, and between two of them (-1, 9, 9, -1) / 16 of their neighbours,
    mirrored at the edges (the interpolation of Dubuc 1986)."""
    above, below = images[..., :-1, :], images[..., 1:, :]
    before = torch.cat([images[..., 1:2, :], images[..., :-2, :]], -2)
    after = torch.cat([images[..., 2:, :], images[..., -2:-1, :]], -2)
    between = (9 * (above + below) - before - after) / 16
    return torch.cat([torch.stack([above, between], -2).flatten(-3, -2), images[..., -1:, :]], -2)


def _read(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Values of images [N, C, h, w] at places [N, H, W] between their pixels: bilinear, mirrored at the edges."""
    top, lower, down = _neighbours(rows, images.shape[2])
    left, next_, right = _neighbours(columns, images.shape[3])
    above, below = (_between(_taken(images, row, left), _taken(images, row, next_), right) for row in (top, lower))
    return _between(above, below, down)


def _neighbours(places: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after each place along a side of `side` pixels, and its share of the way between them."""
    folded = places.remainder(2 * (side - 1))
    folded = torch.minimum(folded, 2 * (side - 1) - folded)
    before = folded.floor()
    return before.long(), (before.long() + 1).clamp(max=side - 1), folded - before


def _between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """[N, C, H, W] from two such and a share [N, H, W]; exactly the first at 0."""
    return first + share[:, None] * (second - first)


def _taken(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of images [N, C, h, w] at rows and columns, whole numbers that broadcast to [N, H, W]."""
    places = rows * images.shape[3] + columns
    flat = places.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    taken: Tensor = images.flatten(2).gather(2, flat).view(*images.shape[:2], *places.shape[1:])
    return taken
