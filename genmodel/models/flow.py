"""Flow matching: Lipman et al. 2023, with a U-Net, classifier-free guidance (Ho & Salimans 2022) and the
preconditioning of Karras et al. 2022 (EDM).

A velocity v(x, t) carries noise at t = 0 to images at t = 1, and is learned along straight lines between the two (their
section 4.1, example II, with sigma_min 0: what keeps the density finite is that training images are dequantised).
Sampling solves dx/dt = v(x, t) by a fixed number of steps.

The change of variables along the flow gives the density of an image. `bound` turns it into a bound of the probability
of the uint8 image: the density is asked at one point of the image's cell, drawn evenly (uniform dequantisation, Theis
et al. 2016, section 3.1), and the divergence of v is estimated with one random vector (Hutchinson; Grathwohl et al.
2019). Both are unbiased, so that the mean over images bounds the mean of -log2 p from above; a single image's value
scatters around its bound, as `scattered_bounds` tells. So this is not an exact likelihood, and there is no weighted
bound: the logarithm of a mean of such estimates is not a bound. What remains is the solver's error at
`likelihood_steps`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from genmodel.errors import ConfigError
from genmodel.models.abilities import Bounds, Completes, Observation, Reconstructs, Restores
from genmodel.models.contract import Adam, Family, ImageSpec, Noise, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.models.parts.convolution import base_map
from genmodel.models.parts.flow.ode import Solver, integrate
from genmodel.models.parts.flow.unet import UNet
from genmodel.models.parts.losses import bits_per_dim, widened
from genmodel.pixels import to_model
from genmodel.settings.config import Count, Positive, Range, Share
from genmodel.settings.schedule import Schedule

_CELL = 2 / 255  # what lies between two levels of a colour value


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    base_channels: Count = 64  # of the largest map; doubled at each halving, up to max_channels
    max_channels: Count = 256
    blocks: Count = 2  # residual blocks at each size, on the way down and again on the way up
    patches: bool = False  # 2x2 pixels are one place to the network, which costs a quarter of the work at full size
    preconditioned: bool = True  # EDM: inputs and targets of unit variance, and the best linear guess for free
    data_deviation: Positive = 0.5  # standard deviation of the images' values, for that
    times: Literal["uniform", "logit_normal"] = "logit_normal"  # that are trained (Esser et al. 2024, eq. 19)
    conditional: bool = False  # images of a class can be asked for
    label_drop: Share = 0.1  # share of the labels that training withholds, for guidance
    guidance: Annotated[float, Range(0)] = 1.0  # 0: of any class, 1: of the class asked for, above: more typical of it
    solver: Solver = "midpoint"
    steps: Annotated[int, Range(1, 32)] = 8  # of a sample; the exported graph holds all of them
    likelihood_steps: Count = 32
    learning_rate: Annotated[float | Schedule, Range(1e-12)] = 2e-4


class Flow(Family, Bounds, Reconstructs, Completes, Restores):
    Config: ClassVar[type] = FlowConfig
    clock: ClassVar[Literal["linear", "log"]] = "log"

    def __init__(self, config: FlowConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        if config.conditional and not spec.classes:
            raise ConfigError("flow: the images have no classes; set network.conditional to false")
        self.classes = spec.classes if config.conditional else 0
        self.shape = (spec.channels, *spec.size)
        self.space = Space((normal(*self.shape),))
        widths = (config.base_channels, config.max_channels, config.blocks)
        self.network = UNet(*widths, config.patches, spec, self.classes, "flow")

    @classmethod
    def check(cls, spec: ImageSpec) -> None:
        base_map(spec.size, "flow")

    def initialise(self, rng: torch.Generator) -> None:
        self.network.initialise(rng)

    def players(self) -> Sequence[Player]:
        return [Player("flow", [self], Adam(lr=self.config.learning_rate))]

    def updates(self) -> Sequence[Update]:
        return [Update("flow", self._loss)]

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """E |v(x_t, t) - (image - noise)|^2 per value, x_t = (1 - t) noise + t image."""
        count, labels = len(step.batch.images), self._told(step.batch.labels)
        noise = step.noise.of(self.space, count).view_as(step.batch.images)
        times = step.noise.rows(count, self._times).to(noise)
        images = step.batch.images + _within_cells(step.batch.images, step.noise)
        if labels is not None:
            dropped = step.noise.rows(count, _evenly) < self.config.label_drop
            labels = torch.where(dropped, self.classes, labels)
        place = times[:, None, None, None]
        velocity = self.velocity(torch.lerp(noise, images, place), times, labels)
        loss = (velocity - (images - noise)).square().mean()
        return loss, {"loss/flow": loss.detach()}

    def _times(self, count: int, rng: torch.Generator) -> Tensor:
        if self.config.times == "uniform":
            return _evenly(count, rng)
        return torch.randn(count, generator=rng, device=rng.device).sigmoid()

    def velocity(self, maps: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        """dx/dt at maps [N, C, H, W] and times [N] or [1]; labels as the network takes them.

        Preconditioned, it is the best linear guess for images of independent values of deviation s, and the network's
        output at the scale of what that leaves: E[v|x] = (t s^2 - (1 - t)) / (t^2 s^2 + (1 - t)^2) x.
        """
        if not self.config.preconditioned:
            return widened(self.network(maps, times, labels))
        spread, place = self.config.data_deviation, times[:, None, None, None]
        variance = self._variance(place)
        inputs = maps * variance.rsqrt()
        guess = (spread**2 * place - (1 - place)) * variance.rsqrt() * inputs
        found: Tensor = guess + spread * variance.rsqrt() * widened(self.network(inputs, times, labels))
        return found

    def _variance(self, time: Any) -> Any:
        """Of a value on the way from noise to an image, at a time or at times."""
        return (1 - time) ** 2 + (self.config.data_deviation * time) ** 2

    def guided(self, maps: Tensor, time: float, labels: Tensor | None) -> Tensor:
        """The velocity that samples follow: that of any class, plus `guidance` times what the class changes."""
        weight, times = self.config.guidance, maps.new_full((1,), time)
        if labels is None or weight == 1:
            return self.velocity(maps, times, labels)
        anything = torch.full_like(labels, self.classes)
        if weight == 0:
            return self.velocity(maps, times, anything)
        both = self.velocity(torch.cat([maps, maps]), times, torch.cat([anything, labels]))
        count = maps.shape[0]  # an exported graph takes any number
        return torch.lerp(both[:count], both[count:], weight)

    def _told(self, labels: Tensor | None) -> Tensor | None:
        """Labels as the network takes them: its last class where one is withheld; None for an unconditional network."""
        if not self.classes or labels is None:
            return None
        return torch.where(labels < 0, self.classes, labels)

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        told = self._told(labels)
        maps = noise.reshape(noise.shape[0], *self.shape)
        made = integrate(lambda x, t: self.guided(x, t, told), maps, self._grid(), self.config.solver)
        return made.clamp(-1, 1)

    def _grid(self) -> list[float]:
        return [step / self.config.steps for step in range(self.config.steps + 1)]

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The noise that the solver, run backwards, finds; of grey images, say, it need not look normal."""
        told = self._told(labels)
        grid = self._grid()[::-1]
        found = integrate(lambda x, t: self.guided(x, t, told), to_model(images), grid, self.config.solver)
        return found.flatten(1)

    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.sample(self.encode(images, labels), labels)

    def complete(self, images: Tensor, known: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        target, given = to_model(images), known[:, None]
        seen = Observation(target * given, lambda maps: maps * given, lambda seen: seen, 0.0)
        return torch.where(given, target, self.restore(seen, noise, labels))

    def restore(self, observation: Observation, noise: Tensor, labels: Tensor) -> Tensor:
        """Each step leads to the image that the velocity points to, after that has been moved towards what is seen of
        it: by the gradient of the chance to see it, which reaches all pixels (Pokle et al. 2023), and then, if there is
        no noise on it, all the way."""
        with torch.inference_mode(False):  # gradients, as in `bound`
            told = None if (told := self._told(labels)) is None else told.clone()
            maps = noise.clone().reshape(noise.shape[0], *self.shape)
            for now, after in itertools.pairwise(self._grid()):
                # what the image's variance is, given the maps, were its values independent
                left = (self.config.data_deviation * (1 - now)) ** 2 / self._variance(now)
                maps.requires_grad_()
                with torch.enable_grad():
                    velocity = self.guided(maps, now, told)
                    made = maps + (1 - now) * velocity
                    missed = observation.back(observation.seen - observation.look(made.detach()))
                    (pulled,) = torch.autograd.grad(made, maps, missed / (left + observation.deviation**2))
                made = made.detach() + (1 - now) ** 2 / max(now, 0.5 * after) * pulled
                if not observation.deviation:
                    made = made + observation.back(observation.seen - observation.look(made))
                maps = torch.lerp((maps - now * velocity).detach(), made, after)
            return maps.clamp(-1, 1)

    def bound(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        with torch.inference_mode(False):  # the divergence is a gradient, of tensors that were not made for one
            told = None if (told := self._told(labels)) is None else told.clone()
            target = to_model(images.clone())
            target = target + _within_cells(target, Noise(rng))
            probe = torch.randint(2, target.shape, generator=rng, device=rng.device).mul(2).sub(1).to(target)
            nats = self.negative_log_density(target, told, probe)
        return bits_per_dim(nats, target[0].numel()) - math.log2(_CELL)

    def scattered_bounds(
        self, images: Tensor, labels: Tensor, rng: torch.Generator, draws: int
    ) -> tuple[Tensor, Tensor]:
        """`draws` bounds of each image, averaged: float [N] bits per colour value, and the standard error of each."""
        found = torch.stack([self.bound(images, labels, rng) for _ in range(draws)])
        return found.mean(0), found.std(0) / draws**0.5

    def negative_log_density(self, maps: Tensor, labels: Tensor | None, probe: Tensor) -> Tensor:
        """-log p(maps) in nats, [N], of the velocity without guidance. `probe` [N, C, H, W], independent values of mean
        0 and variance 1, estimates the divergence."""

        def field(state: Tensor, time: float) -> Tensor:
            at = state[:, :-1].reshape(-1, *self.shape).requires_grad_()
            with torch.enable_grad():
                velocity = self.velocity(at, at.new_full((1,), time), labels)
                (pulled,) = torch.autograd.grad(velocity, at, probe)
            divergence = (pulled * probe).flatten(1).sum(1, keepdim=True)
            return torch.cat([velocity.detach().flatten(1), divergence], dim=1)

        start = torch.cat([maps.flatten(1), maps.new_zeros(len(maps), 1)], dim=1)
        found = integrate(field, start, self._grid_back(), "heun")
        noise, change = found[:, :-1], found[:, -1]
        return 0.5 * (noise.square() + math.log(2 * math.pi)).sum(1) - change

    def _grid_back(self) -> list[float]:
        """Most steps lie near the images, where the density changes within a level of a colour value."""
        steps = self.config.likelihood_steps
        return [1 - (step / steps) ** 2 for step in range(steps + 1)]


def _evenly(count: int, rng: torch.Generator) -> Tensor:
    return torch.rand(count, generator=rng, device=rng.device)


def _within_cells(images: Tensor, noise: Noise) -> Tensor:
    """What moves each colour value evenly within its cell."""
    shape = images.shape[1:]
    return _CELL * (
        noise.rows(len(images), lambda n, rng: torch.rand(n, *shape, generator=rng, device=rng.device)) - 0.5
    )
