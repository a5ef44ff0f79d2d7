"""The finished model's folder: weights, configuration, history, pictures; nothing in it depends on time or place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from genmodel.files import durable, tensors
from genmodel.files.model_folder import write_config
from genmodel.models.contract import Family
from genmodel.training.record import Record
from genmodel.training.watcher import Watcher


def publish(model: Family, facts: Mapping[str, Any], record: Record, out: Path, watcher: Watcher) -> None:
    """Put `model` with its averaged weights at `out`, whole or not at all; `facts` go into config.json.

    config.json holds the sha256 of all other files and a checksum of itself.
    """
    new = out.with_name(f".{out.name}.partial")
    durable.remove_folder(new)
    weights = tensors.save(new / "weights.safetensors", model.state_dict())
    durable.write_text(new / "history.csv", record.history())
    watcher.publish(new, model)
    write_config(new, {**facts, "weights": weights})
    durable.replace_folder(new, out)


def costs_of(model: Family, watcher: Watcher) -> dict[str, Any]:
    """What a training took besides its time: energy, if that is known, parameters, and the device."""
    energy, device = watcher.facts().get("energy_kwh"), next(model.parameters()).device
    return ({"energy_kwh": energy} if energy else {}) | {
        "parameters": sum(value.numel() for value in model.parameters()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
