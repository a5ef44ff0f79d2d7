"""Loads a finished model from its folder (config.json, weights.safetensors)."""

from pathlib import Path
from typing import Any

import torch

from genmodel.errors import ModelError
from genmodel.files import tensors
from genmodel.files.model_folder import read_config
from genmodel.models.contract import Family, ImageSpec
from genmodel.params import recorded_config


def load_model(folder: Path, device: str | torch.device = "cpu") -> tuple[Family, dict[str, Any]]:
    """The model in `folder`, in eval mode on `device`, and its config.json.

    ModelError for a folder that is missing or damaged, or whose weights do not fit the network or are not finite.
    """
    about = read_config(folder)
    if "classes" not in about:
        raise ModelError(f"{folder} was made by an earlier version of genmodel: train the model again")
    config = recorded_config(about["config"], f"{folder / 'config.json'}: config")
    weights, _ = tensors.load(folder / "weights.safetensors", about["weights"])
    if not all(torch.isfinite(weight).all() for weight in weights.values()):
        raise ModelError(f"{folder / 'weights.safetensors'} holds weights that are not finite: train the model again")
    spec = ImageSpec(config.image_size, about.get("channels", 3), len(about["classes"]))
    model: Family = config.model(config.network, spec)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"{folder / 'weights.safetensors'} does not fit the {config.family} that config.json describes:"
            f" train the model again ({' '.join(str(error).split())[:200]})"
        ) from error
    return model.to(device).eval().requires_grad_(False), about
