"""A package behind MLflow's server: images from codes and from a seed, of any shape."""

import contextlib
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
import pytest

from flows.registry.description import Card
from flows.registry.packaging import package
from flows.registry.registry import CHAMPION, Registry
from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking.trainings import Training
from genmodel.files import tensors
from genmodel.files.model_folder import write_config
from genmodel.models.contract import Family, build_model
from genmodel.params import run_config
from genmodel.sampling.draw import sample, sample_classes
from genmodel.sampling.requests import codes
from genmodel.sizes import Size
from tests.flows.registry.shipping import CLASSES, SMALL, Build
from tests.reports import made_report


@pytest.fixture(params=["vae", "conditional"])
def champion(
    request: pytest.FixtureRequest, toys: None, built: Build, settings: Settings, training: Training, tmp_path: Path
) -> Family:
    """Registered, and by its alias the champion."""
    model, folder, tracker = built(request.param, 8, classes=3, **SMALL), tmp_path / "model", Tracker(settings)
    weights = tensors.save(folder / "weights.safetensors", model.state_dict())
    about = {"name": "small", "fingerprint": training.fingerprint, "config": training.config, "weights": weights}
    about |= {"classes": list(CLASSES), "class_counts": list(CLASSES.values())}
    write_config(folder, about)
    tracker.begin(training, 1000)
    registry = Registry(tracker)
    card = Card(about=about, report=made_report("small", {"fd_classifier": 1.0}), data={}, cost={})
    version = registry.register(folder, model, card)
    registry.set_alias(CHAMPION, version.number)
    return model


@pytest.fixture
def server(champion: Family, settings: Settings, tmp_path: Path) -> Iterator[str]:
    """Its address."""
    with serving("models:/genmodel@champion", tmp_path) as address:
        yield address


@contextlib.contextmanager
def serving(model: str, folder: Path) -> Iterator[str]:
    """The address of a server of `model`, on this machine alone, which runs in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
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
def test_a_server_answers_with_images_from_codes_and_from_a_seed(champion: Family, server: str) -> None:
    counts = list(CLASSES.values())
    expected = sample(champion, 70, 3, counts).numpy()  # more than a batch
    assert len(np.unique(expected)) > 50
    for n in (16, 70):
        for body in (
            {"inputs": {"n": n, "seed": 3}},
            {"dataframe_records": [{"n": n, "seed": 3}]},
            {"dataframe_split": {"columns": ["n", "seed"], "data": [[n, 3]]}},
            {"instances": [{"n": n, "seed": 3}]},
        ):
            status, told = ask(server, body)
            assert status == 200 and np.array_equal(np.array(told["predictions"]), expected[:n]), body
    asked = codes(champion.space, counts[: champion.classes], 16, 3)
    status, told = ask(server, {"inputs": asked.tolist()})
    assert status == 200 and np.array_equal(np.array(told["predictions"]), expected[:16])

    width = champion.space.width + bool(champion.classes)
    for body, why in (
        ({"inputs": {"n": 0, "seed": 3}}, "a request is for 1 to 4096 images, not 0"),
        ({"inputs": {"n": 10**9}}, "a request is for 1 to 4096 images"),
        ({"inputs": [[1, 2, 3]]}, f"codes are numbers [N, {width}], not of shape [1, 3]"),
        ({"n": 16, "seed": 3}, "exactly one of the input fields"),
        ({"inputs": {"n": 16, "class": "circel"}}, "did you mean 'circle'" if champion.classes else "not conditional"),
    ):
        status, told = ask(server, body)
        assert status == 400 and why in told["message"], told
    if champion.classes:
        square = sample_classes(champion, 16, 3, [1]).numpy()
        for body in (
            {"inputs": {"n": 16, "seed": 3, "class": "square"}},
            {"inputs": {"n": 16, "seed": 3, "class": 1}},
            {"instances": [{"n": 16, "seed": 3, "class": "1"}]},
            {"dataframe_records": [{"n": 16, "seed": 3, "class": "square"}]},
        ):
            status, told = ask(server, body)
            assert status == 200 and np.array_equal(np.array(told["predictions"]), square), body
        status, told = ask(server, {"dataframe_records": [{"n": 16, "seed": 3, "class": 1}, {"n": 2, "seed": 3}]})
        assert status == 200
        assert np.array_equal(np.array(told["predictions"]), np.concatenate([square, expected[:2]])), "the other of any"


@pytest.mark.slow
@pytest.mark.parametrize(("size", "channels"), [("28", 1), ("64x32", 3), ("32x64", 4)])
def test_a_server_answers_with_images_of_any_shape(
    size: str, channels: int, settings: Settings, tmp_path: Path
) -> None:
    config = run_config({"family": "vae", "image_size": size, "network": {"latent_dim": 4, "base_channels": 4}}, "test")
    model = build_model(config, 0, channels).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(3)
    expected = sample(model, 5, seed=3).numpy()
    assert expected.shape == (5, *Size.of(size), channels) and len(np.unique(expected)) > 20
    package(tmp_path / "package", model, "it", {}, settings, [])
    with serving(str(tmp_path / "package"), tmp_path) as address:
        status, told = ask(address, {"inputs": {"n": 5, "seed": 3}})
    assert status == 200 and np.array_equal(np.array(told["predictions"]), expected)
