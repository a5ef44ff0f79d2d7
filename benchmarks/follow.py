"""Training of DCGAN-64 while it is followed into MLflow, beside the same training that nobody follows."""

import argparse
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from benchmarks.compare import Row, alternate
from flows.settings import Settings
from flows.tracking.follower import Follower
from flows.tracking.trainings import DataVersion, Training
from genmodel.data.block import Block
from genmodel.devices import choose_device
from genmodel.params import run_config
from genmodel.showing import display
from genmodel.training import trainer
from genmodel.training.identify import identify

BATCH = 64


def measure_follow(images: Path, block: Block, options: argparse.Namespace) -> list[Row]:
    """With MLflow as a database of its own, with a server that is not there, with one that is frozen.

    Rates are those of the training up to its last step, the follower's start included. What its end then waits for
    MLflow, which is bounded and does not grow with the training, is told in seconds.
    """
    rows = []
    places: dict[str, AbstractContextManager[str]] = {
        "a database": nullcontext(""),
        "an absent server": _absent(),
        "a frozen server": _frozen(),
    }
    for where, place in places.items():
        with place as uri:
            rows.append(_beside(where, uri, block, options.repeats))
    return rows


def _beside(where: str, uri: str, block: Block, repeats: int) -> Row:
    ends: list[float] = []

    def followed() -> float:
        rate, end = _train(block, uri)
        ends.append(end)
        return rate

    row = alternate("", followed, "not followed", lambda: _train(block, None)[0], repeats)
    what = f"train DCGAN-64, followed into {where} (at the end it waits up to {max(ends):.1f} s)"
    return Row(what, row.ours, row.beside, row.theirs)


def _train(block: Block, uri: str | None) -> tuple[float, float]:
    """Images/s of a whole training, and the seconds between its last step and the end of its follower."""
    device = choose_device()
    count = BATCH * (20_000 if device == "cuda" else 60)  # about a minute
    budget = {"images": count, "batch_size": BATCH, "log_every": count // 60}
    identity = identify("bench", run_config({"family": "dcgan", "image_size": 64, "training": budget}, "bench"), block)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)

        def train() -> float:
            start = time.perf_counter()
            display.train(identity, block, root / "model", root / "runs", device)
            return count / (time.perf_counter() - start)

        if uri is None:
            return train(), 0.0
        data = DataVersion(digest="0" * 32 + ".dir", source="bench", images=len(block), classes=1, sizes=(64,))
        training = Training(
            name="bench", family="dcgan", fingerprint=identity.fingerprint, config=identity.config.as_dict(), data=data
        )
        settings = Settings.read({"MLFLOW_TRACKING_URI": uri}, root)
        with Follower(settings, training, trainer.run_folder(identity, root / "runs"), root / "model"):
            rate = train()
            trained = time.perf_counter()
        return rate, time.perf_counter() - trained


@contextmanager
def _absent() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@contextmanager
def _frozen() -> Iterator[str]:
    """An address that takes connections and never answers, as a stopped process does."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"
