"""The champion behind `mlflow models serve`: a real server, asked as curl asks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from genmodel.models.base import GenerativeModel, build_model

from flows.card import Card
from flows.packaging import package
from flows.record import Training
from flows.registry import CHAMPION, Registry
from flows.settings import Settings
from flows.tracking import Tracker, load
from genmodel import tensors
from genmodel.config import run_config
from genmodel.export import prior_of
from genmodel.folder import write_config
from genmodel.models.families import FAMILIES
from genmodel.sampling import Sampler, sample
from tests.reports import made_report


def built(family: str) -> GenerativeModel:
    """Small, with weights of some size: as they are drawn at first all images are grey."""
    network = {"latent_dim": 4, "base_channels": 4}
    model = build_model(run_config({"family": family, "image_size": 8, "network": network}, "test"))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    return model.eval().requires_grad_(False)


@pytest.fixture
def champion(settings: Settings, training: Training, tmp_path: Path) -> GenerativeModel:
    """Registered, and by its alias the champion."""
    model, folder, tracker = built("vae"), tmp_path / "model", Tracker(settings)
    weights = tensors.save(folder / "weights.safetensors", model.state_dict())
    about = {"name": "small-vae", "fingerprint": training.fingerprint, "config": training.config, "weights": weights}
    write_config(folder, about)
    report = {"conditions": {}, "figures": {"fd_classifier": 1.0}}
    tracker.begin(training, 1000)
    card = Card(about=about, report=made_report("small-vae", {"fd_classifier": 1.0}), data={}, cost={})
    registry = Registry(tracker)
    version = registry.register(folder, report, Sampler(model), model.latent_dim, prior_of(model), card)
    registry.set_alias(CHAMPION, version.number)
    return model


@pytest.fixture
def server(champion: GenerativeModel, settings: Settings, tmp_path: Path) -> Iterator[str]:
    """Its address, on this machine alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["mlflow", "models", "serve", "-m", "models:/genmodel@champion", "--env-manager", "local"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not _is_up(address):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)


def _is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(address: str, body: Any) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    asked = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_a_server_answers_with_images_from_codes_and_from_a_seed(champion: GenerativeModel, server: str) -> None:
    expected = sample(champion, 16, seed=3).numpy()
    assert len(np.unique(expected)) > 50
    for body in (
        {"inputs": {"n": 16, "seed": 3}},
        {"dataframe_records": [{"n": 16, "seed": 3}]},
        {"dataframe_split": {"columns": ["n", "seed"], "data": [[16, 3]]}},
        {"instances": [{"n": 16, "seed": 3}]},
    ):
        status, told = ask(server, body)
        assert status == 200 and np.array_equal(np.array(told["predictions"]), expected), body
    codes = champion.draw_codes(16, torch.Generator().manual_seed(3))
    status, told = ask(server, {"inputs": codes.tolist()})
    assert status == 200 and np.array_equal(np.array(told["predictions"]), expected)

    for body, why in (
        ({"inputs": {"n": 0, "seed": 3}}, "a request is for 1 to 4096 images, not 0"),
        ({"inputs": {"n": 10**9}}, "a request is for 1 to 4096 images"),
        ({"inputs": [[1, 2, 3]]}, "codes are numbers [N, 4], not of shape [1, 3]"),
        ({"n": 16, "seed": 3}, "exactly one of the input fields"),
    ):
        status, told = ask(server, body)
        assert status == 400 and why in told["message"], told


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_seed_draws_what_genmodel_draws(family: str, settings: Settings, tmp_path: Path) -> None:
    model = built(family)
    package(tmp_path / "package", Sampler(model), model.latent_dim, prior_of(model), [])
    loaded = load(tmp_path / "package", settings)
    expected = sample(model, 300, seed=5).numpy()  # more than a batch
    assert np.array_equal(loaded.predict({"n": 300, "seed": 5}), expected)
    assert np.array_equal(loaded.predict({"n": 7}), sample(model, 7, seed=0).numpy())
    rows = loaded.predict(pd.DataFrame({"n": [2, 3], "seed": [5, 6]}))
    assert np.array_equal(rows, np.concatenate([sample(model, n, seed).numpy() for n, seed in ((2, 5), (3, 6))]))
    codes = model.draw_codes(3, torch.Generator().manual_seed(1)).numpy()
    assert np.array_equal(loaded.predict(pd.DataFrame(codes)), loaded.predict(codes.astype(np.float64)))
    for wrong, why in (
        ({"n": 2, "sed": 1}, 'write {"n": 16, "seed": 3}, not n, sed'),
        ({"seed": 1}, "not seed"),
        ({"n": 1.5}, "n must be a whole number"),
        ({"n": True}, "n must be a whole number"),
        ({"n": 1, "seed": -1}, "seed must be a whole number"),
        ({"n": [4096, 1], "seed": [0, 0]}, "1 to 4096 images, not 4097"),
        ({"n": [1, 2], "seed": 0}, "every n needs a seed"),
        (np.full((2, 4), np.nan), "codes must be finite"),
        ("images, please", "codes are numbers"),
    ):
        with pytest.raises(Exception, match=r".") as caught:
            loaded.predict(wrong)
        assert why in str(caught.value)
