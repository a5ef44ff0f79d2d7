"""The finished model's folder: weights, configuration, history, samples; nothing in it depends on time or place."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmodel import durable, tensors
from genmodel.folder import write_config
from genmodel.models.base import GenerativeModel
from genmodel.training.record import SHOWN, Record
from genmodel.training.replay import write_replay


def publish(model: GenerativeModel, facts: Mapping[str, Any], record: Record, out: Path) -> None:
    """Put `model` with its averaged weights at `out`, whole or not at all; `facts` are its config.json's.

    config.json holds the sha256 of all other files and a checksum of itself.
    """
    new = out.with_name(f".{out.name}.partial")
    durable.remove_folder(new)
    weights = tensors.save(new / "weights.safetensors", model.state_dict())
    durable.write_text(new / "history.csv", record.history())
    grids = record.grids()
    for picture in grids.values():
        durable.write_bytes(new / "samples" / picture.name, picture.read_bytes())
    timeline = record.timeline(columns=math.isqrt(SHOWN))
    durable.write_with(new / "timeline.png", lambda handle: timeline.save(handle, format="PNG"))
    write_replay(grids, model.replay_clock, new / "replay.gif")
    write_config(new, {**facts, "weights": weights})
    durable.replace_folder(new, out)
