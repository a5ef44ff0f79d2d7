"""`python -m flows.serve_model`: a real server on a toy champion, asked as a browser asks."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.registry.description import Card
from flows.registry.registry import CHAMPION, Registry
from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking.trainings import Training
from genmodel.files import tensors
from genmodel.files.model_folder import write_config
from genmodel.models.contract import Family
from genmodel.sampling.draw import sample
from tests.reports import made_report

CLASSES = {"circle": 30, "square": 10, "0": 20}


class Line:
    """Versions 1 and 2 of a conditional toy, registered for real; the first is champion."""

    def __init__(self, settings: Settings, training: Training, models: list[Family], folder: Path) -> None:
        tracker = Tracker(settings)
        tracker.begin(training, 1000)
        self.registry, self.models, self.settings = Registry(tracker), models, settings
        for seed, model in enumerate(models):
            weights = tensors.save(folder / f"{seed}" / "weights.safetensors", model.state_dict())
            about = {"name": "small", "fingerprint": training.fingerprint, "config": training.config}
            about |= {"weights": weights, "classes": list(CLASSES), "class_counts": list(CLASSES.values())}
            write_config(folder / f"{seed}", about)
            report = made_report("small", {"fd_classifier": 1.0}, weights=weights)
            self.registry.register(folder / f"{seed}", model, Card(about=about, report=report, data={}, cost={}))
        self.registry.set_alias(CHAMPION, "1")

    def drawn(self, number: int, n: int, seed: int) -> np.ndarray:
        images: np.ndarray = sample(self.models[number - 1], n, seed, list(CLASSES.values())).numpy()
        return images


@pytest.fixture
def line(toys: None, built: Callable[..., Family], settings: Settings, training: Training, tmp_path: Path) -> Line:
    models = [built("conditional", 8, classes=3, latent_dim=4, base_channels=4) for _ in range(2)]
    for weight in models[1].parameters():
        weight.mul_(-1.5)
    return Line(settings, training, models, tmp_path / "models")


@pytest.fixture
def port(line: Line) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    command = [sys.executable, "-m", "flows.serve_model", "--port", str(number), "--every", "0.2"]
    process = subprocess.Popen(
        command, cwd=line.settings.root, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "the champion draws at" in process.stdout.readline(), process.communicate()[1]
    wait(lambda: ask(number, "/health")[0] != 0)
    yield number
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=30)[1]


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    """Status, body and headers; status 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    except OSError:
        return 0, b"", {}
    finally:
        connection.close()


def health(port: int) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(ask(port, "/health")[1])
    return told


def wait(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_what_is_served_follows_the_champion_and_no_request_is_dropped(line: Line, port: int) -> None:
    told = health(port)
    assert (told["status"], told["version"], told["classes"]) == ("ok", "1", list(CLASSES))
    assert told["digest"] == line.registry.find("1").tags["genmodel.package"]

    status, body, headers = ask(port, "/sample.json?n=3&seed=5")
    assert status == 200 and np.array_equal(json.loads(body)["images"], line.drawn(1, 3, 5))
    status, body, headers = ask(port, "/sample.png?n=4&seed=5&class=circle")
    assert (status, headers["content-type"], headers["X-Model-Version"]) == (200, "image/png", "1")
    assert Image.open(io.BytesIO(body)).size[0] > 100, "small images are enlarged"
    status, body, headers = ask(port, "/")
    assert status == 200 and b"<h1>The champion draws" in body and b"NONCE" not in body
    assert "default-src 'none'" in headers["content-security-policy"]

    for path, why in {
        "/sample.png?n=65": b"n: Input should be less than or equal to 64",
        "/sample.png?n=x": b"n: Input should be a valid integer",
        "/sample.json?seed=-1": b"seed: Input should be greater than or equal to 0",
        "/sample.png?class=cirle": b"class: it has no class 'cirle'; did you mean 'circle'?",
        "/sample.png?N=3": b"N: Extra inputs are not permitted",
        "/etc/passwd": b"there are /, /sample.png, /sample.json and /health",
    }.items():
        status, body, _ = ask(port, path)
        assert status in (400, 404) and body.startswith(why) and body.count(b"\n") == 1, (path, body)
    assert ask(port, "/sample.png", "POST")[0] == ask(port, "/", "DELETE")[0] == 405
    assert ask(port, "/health", Host="evil.example")[0] == 403
    assert ask(port, "/sample.png", Sec_Fetch_Site="cross-site")[0] == 403

    answers, stop = [], threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(ask(port, "/sample.json?n=2&seed=1"))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        for number in ("2", "1", "2"):
            line.registry.set_alias(CHAMPION, number)
            wait(lambda now=number: health(port)["version"] == now)  # type: ignore[misc]
    finally:
        stop.set()
        asking.join()
    assert {status for status, *_ in answers} == {200} and len(answers) > 3
    for _, body, _ in answers:
        found = json.loads(body)
        assert np.array_equal(found["images"], line.drawn(int(found["version"]), 2, 1)), "never half of each"

    tampered = sorted(Path(line.settings.root).glob("mlartifacts/**/served.py"))
    for path in tampered:
        path.write_text("raise SystemExit('the code of a package that was not registered')")
    line.registry.set_alias(CHAMPION, "1")
    wait(lambda: health(port)["status"] == "not up to date")
    told = health(port)
    assert told["version"] == "2" and "is damaged: its package is not the one that was registered" in told["trouble"]
    assert ask(port, "/sample.png")[0] == 200
    line.registry.drop_alias(CHAMPION)
    wait(lambda: ask(port, "/health")[0] == 503)
    status, body, _ = ask(port, "/sample.png")
    assert status == 404 and body.startswith(b"no version is champion")
