"""A U-Net that is told a time and a class: Ronneberger et al. 2015, with the residual blocks of Dhariwal & Nichol 2021.

Group normalisation, so that an image never depends on its neighbours. What an encoder's block made goes to the
decoder's block of the same size, and at the smallest size every place attends to every other.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmodel.models.contract import ImageSpec
from genmodel.models.parts.convolution import Down, Up, base_map

_GROUPS = 8  # of channels that are normalised together, where their number allows it
_FINEST = 1000.0  # radians that the fastest of the time's waves turns by over [0, 1]
_SLOWEST = 1e-4  # of the fastest


class UNet(nn.Module):
    """maps [N, C, H, W], times [N] or [1] in [0, 1], labels int64 [N] -> maps [N, C, H, W], not bounded.

    `labels` only if `classes` is above 0: 0 .. classes - 1, and `classes` itself for "no class". With `patches` the
    network sees 2x2 pixels as one place, which replaces the first of its halvings.
    """

    def __init__(
        self,
        base_channels: int,
        max_channels: int,
        blocks: int,
        patches: bool,
        spec: ImageSpec,
        classes: int,
        name: str,
    ) -> None:
        super().__init__()
        _, times = base_map(spec.size, name)
        self.patch, self.blocks = 2 if patches else 1, blocks
        widths = [min(base_channels * 2**k, max_channels) for k in range(times + 1)][self.patch - 1 :]
        told = 4 * base_channels
        self.time = nn.Sequential(nn.Linear(2 * base_channels, told), nn.SiLU(), nn.Linear(told, told), nn.SiLU())
        self.waves: Tensor
        self.register_buffer(
            "waves", _FINEST * torch.logspace(0, math.log10(_SLOWEST), base_channels), persistent=False
        )
        self.embedding = nn.Embedding(classes + 1, told) if classes else None
        pixels = spec.channels * self.patch**2
        self.enter = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList([Block(width, width, told) for width in widths for _ in range(blocks)])
        self.downs = nn.ModuleList([Down(wide, narrow) for wide, narrow in itertools.pairwise(widths)])
        self.attention = Attention(widths[-1])
        self.decoder = nn.ModuleList([Block(2 * width, width, told) for width in widths for _ in range(blocks)])
        self.ups = nn.ModuleList([Up(after, before) for before, after in itertools.pairwise(widths)])
        self.norm = _norm(widths[0])
        self.leave = nn.Conv2d(widths[0], pixels, 3, padding=1)

    def forward(self, maps: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        angles = times[:, None] * self.waves
        told: Tensor = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        if self.embedding is not None:
            told = told + self.embedding(labels)
        maps = self.enter(F.pixel_unshuffle(maps, self.patch) if self.patch > 1 else maps)
        kept: list[Tensor] = []
        for number, block in enumerate(self.encoder):
            level, place = divmod(number, self.blocks)
            if level and not place:
                maps = self.downs[level - 1](maps)
            maps = block(maps, told)
            kept.append(maps)
        maps = self.attention(maps)
        for number, block in reversed(list(enumerate(self.decoder))):
            level, place = divmod(number, self.blocks)
            maps = block(torch.cat([maps, kept.pop()], dim=1), told)
            if level and not place:
                maps = self.ups[level - 1](maps)
        made: Tensor = self.leave(F.silu(self.norm(maps)))
        return F.pixel_shuffle(made, self.patch) if self.patch > 1 else made

    def initialise(self, rng: torch.Generator) -> None:
        """Weights keep the variance of their inputs (He et al. 2015); every block and the attention begin as their
        skips, and the output begins near 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                inputs = module.weight[0].numel() if not isinstance(module, Up) else 4 * module.in_channels
                nn.init.normal_(module.weight, 0, inputs**-0.5, generator=rng)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0, self.embedding.embedding_dim**-0.5, generator=rng)
        for module in self.modules():
            if isinstance(module, Block | Attention):
                nn.init.zeros_(module.last.weight)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)


class Block(nn.Module):
    """maps [N, before, H, W], told [N, D] or [1, D] -> [N, after, H, W]; what it is told scales and shifts the
    normalised maps between its two convolutions."""

    def __init__(self, before: int, after: int, told: int) -> None:
        super().__init__()
        self.first_norm, self.first = _norm(before), nn.Conv2d(before, after, 3, padding=1)
        self.told = nn.Linear(told, 2 * after)
        self.last_norm, self.last = _norm(after), nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, maps: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told)[:, :, None, None].chunk(2, dim=1)
        inner = self.first(F.silu(self.first_norm(maps)))
        inner = self.last(F.silu(torch.addcmul(shift, self.last_norm(inner), 1 + scale)))
        made: Tensor = self.skip(maps) + inner
        return made


class Attention(nn.Module):
    """maps [N, C, H, W] -> the same plus what each place takes from all others, with one head (Vaswani et al. 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.asked, self.last = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        places = self.norm(maps).permute(0, 2, 3, 1).flatten(1, 2)[:, None]  # ONNX knows no attention without heads
        taken = self.last(F.scaled_dot_product_attention(*self.asked(places).chunk(3, dim=3)))
        made: Tensor = maps + taken[:, 0].unflatten(1, maps.shape[2:]).permute(0, 3, 1, 2)
        return made


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, _GROUPS), channels, eps=1e-5)
