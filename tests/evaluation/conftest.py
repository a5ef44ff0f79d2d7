"""A real, tiny block and finished models of tiny networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.files import tensors
from genmodel.files.model_folder import write_config
from genmodel.models.contract import build_model
from genmodel.params import run_config

CLASSES = ["ash", "birch", "cedar"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_block(folder: Path, classes: list[str], seed: int) -> Block:
    """50 images of 16 px in each class, made of one rough pattern a class and of noise."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / "raw" / name).mkdir(parents=True)
        pattern = rng.integers(0, 256, (4, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
        for number in range(50):
            image = (pattern + rng.normal(0, 20, pattern.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / "raw" / name / f"{number:02d}.png")
    return prepare(str(folder / "raw"), folder / "data", [16], workers=1, val_fraction=0.2)


@pytest.fixture(scope="session")
def block(tmp_path_factory: pytest.TempPathFactory) -> Block:
    return make_block(tmp_path_factory.mktemp("block"), CLASSES, seed=0)


@pytest.fixture(scope="session")
def single_class_block(tmp_path_factory: pytest.TempPathFactory) -> Block:
    return make_block(tmp_path_factory.mktemp("block"), ["ash"], seed=1)


def save_model(folder: Path, family: str) -> Path:
    """A finished model's folder as training leaves it, with the first weights of a tiny network."""
    values = {"family": family, "image_size": 16, "network": {"latent_dim": 8, "base_channels": 8}}
    config = run_config(values, "test")
    digest = tensors.save(folder / "weights.safetensors", build_model(config, 3).state_dict())
    about = {
        "name": f"small-{family}",
        "fingerprint": "f" * 64,
        "block": "b" * 64,
        "code": "c" * 64,
        "config": config.as_dict(),
        "weights": digest,
        "classes": CLASSES,
        "class_counts": [40, 40, 40],
    }
    write_config(folder, about)
    return folder


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("vae"), "vae")


@pytest.fixture(scope="session")
def gan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("gan"), "dcgan")
