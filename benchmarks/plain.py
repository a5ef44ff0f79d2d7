"""The plain way, as tutorials teach it: ImageFolder, Resize, CenterCrop, DataLoader; an eager fp32 loop.

It is what the line is measured against, so it is written without its ideas: no block, no channels_last, no fused
optimiser, batches of 64, and the discriminator's gradients made and thrown away in the generator's step.
"""

import functools
import io
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from genmodel.models.contract import ImageSpec, Noise
from genmodel.models.vae import VAE
from genmodel.sizes import Size


def folder(images: Path, size: int, to_tensor: bool = True) -> ImageFolder:
    steps: list = [Resize(size), CenterCrop(size)]
    steps += [ToTensor(), Normalize([0.5] * 3, [0.5] * 3)] if to_tensor else [np.array]
    return ImageFolder(str(images), Compose(steps))


def prepare(images: Path, size: int, out: Path, workers: int) -> int:
    """Write all images as one uint8 array, one worker a core; returns how many."""
    loader = DataLoader(folder(images, size, to_tensor=False), batch_size=64, num_workers=workers)
    written = np.lib.format.open_memmap(out, "w+", np.uint8, (len(loader.dataset), size, size, 3))  # type: ignore[arg-type]
    start = 0
    for batch, _ in loader:
        written[start : start + len(batch)] = batch.numpy()
        start += len(batch)
    written.flush()
    return start


def adm(content: bytes, size: int) -> np.ndarray:
    """ADM's resize as Pillow alone does it: uint8 [size, size, 3]."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image)[top : top + size, left : left + size]


def batches(images: Path, size: int, batch_size: int, workers: int) -> Iterator[Tensor]:
    """Shuffled float batches in [-1, 1], epoch after epoch."""
    loader = DataLoader(
        folder(images, size),
        batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    while True:
        for batch, _ in loader:
            yield batch


def train(family: str, images: Path, size: int, device: str, steps: int, workers: int) -> float:
    """Images/s of `steps` more steps of the one loop that this process has for `family`, data included."""
    loop, source = _loop(family, device), _batches(images, size, workers)
    count = 0
    start = time.perf_counter()
    for _ in range(steps):
        batch = next(source)
        loop.step(batch.to(device))  # returns numbers, so it waits for the device
        count += len(batch)
    return count / (time.perf_counter() - start)


@functools.cache
def _loop(family: str, device: str) -> "Networks | Autoencoder":
    return {"dcgan": Networks, "vae": Autoencoder}[family](device)


@functools.cache
def _batches(images: Path, size: int, workers: int) -> Iterator[Tensor]:
    return batches(images, size, 64, workers)


class Networks:
    """DCGAN-64 and its two optimisers, as published with the tutorials (width 64).

    With `doublings` 3 it is for 32 px, by leaving out the widest layers.
    """

    def __init__(self, device: str, doublings: int = 4, width: int = 64) -> None:
        first, widths = width, [width * 2**k for k in range(doublings)]

        def up(before: int, after: int, stride: int = 2, padding: int = 1) -> list[nn.Module]:
            return [
                nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(True),
            ]

        def down(before: int, after: int) -> list[nn.Module]:
            return [
                nn.Conv2d(before, after, 4, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2, True),
            ]

        self.generator = nn.Sequential(
            *up(100, widths[-1], 1, 0),
            *itertools.chain.from_iterable(up(2 * width, width) for width in reversed(widths[:-1])),
            nn.ConvTranspose2d(first, 3, 4, 2, 1),
            nn.Tanh(),
        ).to(device)
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, first, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, True),
            *itertools.chain.from_iterable(down(width, 2 * width) for width in widths[:-1]),
            nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        ).to(device)
        self.loss = nn.BCELoss()
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), 2e-4, (0.5, 0.999))
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), 2e-4, (0.5, 0.999))

    def step(self, real: Tensor) -> tuple[float, float]:
        ones, zeros = real.new_ones(len(real)), real.new_zeros(len(real))
        self.discriminator.zero_grad()
        loss_real = self.loss(self.discriminator(real).view(-1), ones)
        loss_real.backward()
        fake = self.generator(torch.randn(len(real), 100, 1, 1, device=real.device))
        loss_fake = self.loss(self.discriminator(fake.detach()).view(-1), zeros)
        loss_fake.backward()
        self.optimizer_d.step()
        self.generator.zero_grad()
        loss_g = self.loss(self.discriminator(fake).view(-1), ones)
        loss_g.backward()
        self.optimizer_g.step()
        return loss_real.item() + loss_fake.item(), loss_g.item()


class Autoencoder:
    """genmodel's VAE of width 64 trained as tutorials train theirs: its layers and its loss, nothing of its engine."""

    def __init__(self, device: str) -> None:
        self.model = VAE(VAE.Config(), ImageSpec(Size.of(64)))
        self.model.initialise(torch.Generator().manual_seed(0))
        self.model.to(device)
        self.noise = Noise(torch.Generator(device))
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)

    def step(self, real: Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.model.negative_elbo(real, self.noise)["negative_elbo"].mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()
