"""A finished model's folder (config.json, weights.safetensors), read and put to use."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genmodel import tensors
from genmodel.config import run_config
from genmodel.errors import ModelError
from genmodel.folder import read_config
from genmodel.models.base import GenerativeModel
from genmodel.models.families import FAMILIES
from genmodel.pixels import to_uint8


def load_model(folder: Path, device: str | torch.device = "cpu") -> tuple[GenerativeModel, dict[str, Any]]:
    """The model in `folder`, in eval mode on `device`, and its config.json.

    ModelError for a folder that is missing or damaged, or whose weights fit another network or are no numbers.
    """
    about = read_config(folder)
    config = run_config(about["config"], f"{folder / 'config.json'}: config")
    weights, _ = tensors.load(folder / "weights.safetensors", about["weights"])
    if not all(torch.isfinite(weight).all() for weight in weights.values()):
        raise ModelError(f"{folder / 'weights.safetensors'} holds weights that are no numbers: train the model again")
    model = FAMILIES[config.family](config.network, config.image_size)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"{folder / 'weights.safetensors'} does not fit the {config.family} that config.json describes:"
            f" train it again ({' '.join(str(error).split())[:200]})"
        ) from error
    return model.to(device).eval().requires_grad_(False), about


def draw_codes(model: GenerativeModel, n: int, seed: int) -> Tensor:
    """`n` codes on the CPU that `seed` alone decides: drawn at once, whatever the batch size."""
    return model.draw_codes(n, torch.Generator().manual_seed(seed))


@torch.inference_mode()
def generate_batches(model: GenerativeModel, codes: Tensor, batch_size: int = 256) -> Iterator[Tensor]:
    """Images of codes in order, as float [B, 3, S, S] batches in [-1, 1] on the model's device."""
    device = next(model.parameters()).device
    for z in codes.split(batch_size):
        yield model.generate(z.to(device))


def sample(model: GenerativeModel, n: int, seed: int, batch_size: int = 256) -> Tensor:
    """`n` samples, uint8 [n, S, S, 3] on the CPU; the same seed gives the same images in the same order."""
    batches = generate_batches(model, draw_codes(model, n, seed), batch_size)
    return torch.cat([to_uint8(images).cpu() for images in batches])


class Sampler(nn.Module):
    """What is shipped of a model: codes float32 [N, latent_dim] in, images uint8 [N, S, S, 3] out."""

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return to_uint8(self.model.generate(z))
