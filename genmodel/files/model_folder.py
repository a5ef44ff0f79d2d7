"""A finished model's folder: config.json, sealed, and the digests of all files beside it. Needs no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmodel.errors import ModelError
from genmodel.files import durable

_FIX = "train the model again, or pull it again (dvc pull)"


def write_config(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write config.json last: `facts` (with the weights' sha256), and the sha256 of the other files in `folder`."""
    beside = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in beside if path.name not in ("config.json", "weights.safetensors")]
    files = {path.relative_to(folder).as_posix(): durable.digest_file(path) for path in kept}
    durable.write_sealed(folder / "config.json", {**facts, "files": files})


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a finished model; ModelError if it is missing, damaged or incomplete."""
    about = durable.read_sealed(folder / "config.json", ModelError, _FIX)
    absent = [key for key in ("name", "fingerprint", "config", "weights") if key not in about]
    if absent:
        raise ModelError(f"{folder / 'config.json'} has no {absent[0]}: {_FIX}")
    return about


def read_file(folder: Path, about: Mapping[str, Any], name: str) -> bytes:
    """A file that config.json (`about`) lists, as it was published; ModelError if it is missing or has changed."""
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} is missing: {_FIX}") from error
    if durable.digest_bytes(content) != about.get("files", {}).get(name):
        raise ModelError(f"{path} is damaged, its sha256 does not match config.json: {_FIX}")
    return content


def check_files(folder: Path, name: str) -> dict[str, Any]:
    """config.json of the model `name`, after checking that all files but the weights are as published."""
    about = read_config(folder)
    if about["name"] != name:
        raise ModelError(f"{folder} holds the model {about['name']}, not {name}: {_FIX}")
    for file in about.get("files", {}):
        read_file(folder, about, file)
    return about
