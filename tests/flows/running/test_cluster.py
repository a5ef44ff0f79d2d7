"""Shards made by other processes, on a Dask cluster: the same bytes, and every trouble of a cluster in one line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.prepare import Origin
from genmodel.data.making import make as preparation
from genmodel.data.making import pool
from genmodel.data.making.shards import Job
from genmodel.errors import ConfigError
from genmodel.sizes import Size

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]

ROOT = Path(__file__).parents[3]
DIGITS = Origin(source="digits", sizes=(Size.of(8), Size.of(16)))
SHARD_BYTES = 256 * 16 * 16  # 1,797 digits in 8 shards
SHARDS = 8

Tree = dict[str, bytes]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "SHARD_BYTES", SHARD_BYTES)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster with two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:  # type: ignore[no-untyped-call]
        yield cluster.scheduler_address


@pytest.fixture
def expected(tmp_path: Path) -> Tree:
    """What one process of one machine makes."""
    return tree(preparation.prepare("digits", tmp_path / "one/data", [8, 16], workers=1).path)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scratch folder (HOST-PID-...) of every shard that a worker has made."""
    from flows.running import cluster

    folders: list[str] = []
    real = cluster.install

    def install(place: Path, shard: int, part: dict[str, Any]) -> None:
        folders.append(part["scratch"])
        real(place, shard, part)

    monkeypatch.setattr(cluster, "install", install)
    return folders


def tree(folder: Path) -> Tree:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prepare_on(address: str, root: Path, origin: Origin = DIGITS) -> Any:
    """The end state of the flow on a cluster."""
    from flows.prepare import prepare
    from flows.running import cluster

    on_cluster = prepare.with_options(task_runner=cluster.runner(address, 2))
    return on_cluster(root, origin, workers=2, dask=True, return_state=True)


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What workers are told."""
    from flows.running import cluster

    made: list[Any] = []
    real = cluster._Order.__init__

    def init(self: Any, *words: Any) -> None:
        real(self, *words)
        made.append(self)

    monkeypatch.setattr(cluster._Order, "__init__", init)
    return made


def test_two_processes_give_the_bytes_of_one(
    empty_project: Any, expected: Tree, installed: list[str], orders: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_REPAYS", 1797)
    state = prepare_on("local", empty_project.root)
    assert state.is_completed(), state
    assert tree(empty_project.root / "data") == expected
    assert len(installed) == SHARDS
    assert [order.loops for order in orders] == [True] * SHARDS, "so many images are resampled by compiled loops"
    pids = {int(folder.split("-")[-2]) for folder in installed}
    assert len(pids) == 2 and os.getpid() not in pids
    assert not (empty_project.root / "data.partial").exists()


def command(address: str, before: str = "") -> list[str]:
    """`python -m flows.prepare --dask ADDRESS` with small shards."""
    code = f"""
import os, sys
from flows.running import cluster
from flows import prepare
from genmodel.data.making import make as preparation
preparation.SHARD_BYTES = {SHARD_BYTES}
{before}
sys.exit(prepare.main(["--source", "digits", "--sizes", "8,16", "--dask", "{address}"]))
"""
    return [sys.executable, "-c", code]


def run(words: list[str], root: Path) -> "subprocess.CompletedProcess[str]":
    from prefect.settings import PREFECT_API_URL

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": PREFECT_API_URL.value()}
    return subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, timeout=200)


KILL = """
real, calls = cluster.install, []
def install(*args):
    calls.append(args)
    if len(calls) == 4:
        os.kill(os.getpid(), 9)
    real(*args)
cluster.install = install
"""


def test_a_killed_run_goes_on_where_it_was(
    address: str, empty_project: Any, expected: Tree, installed: list[str]
) -> None:
    root = empty_project.root
    assert run(command(address, KILL), root).returncode == -signal.SIGKILL
    assert len(list((root / "data.partial/parts").glob("*.json"))) == 3
    assert not (root / "data").exists()
    state = prepare_on(address, root)
    assert state.is_completed(), state
    assert tree(root / "data") == expected
    assert len(installed) == SHARDS - 3


def test_the_command_line_takes_the_address_of_a_cluster(address: str, empty_project: Any, expected: Tree) -> None:
    done = run(command(address), empty_project.root)
    assert done.returncode == 0, done.stderr
    assert tree(empty_project.root / "data") == expected
    assert (empty_project.root / "data.dvc").exists()


def test_an_address_where_nobody_answers_is_one_line_in_seconds(empty_project: Any) -> None:
    began = time.monotonic()
    done = run(command("tcp://127.0.0.1:1"), empty_project.root)
    assert time.monotonic() - began < 60
    assert done.returncode == 2
    assert done.stderr.startswith("error: --dask tcp://127.0.0.1:1: no Dask scheduler answers there (")
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("nonsense", "--dask nonsense: write tcp://HOST:8786, "),
        ("http://127.0.0.1:8786", "--dask http://127.0.0.1:8786: write tcp://"),
        ("tcp://elsewhere:8786", "--dask tcp://elsewhere:8786: set PREFECT_API_URL to a Prefect server that all "),
    ],
)
def test_addresses_that_cannot_be(wrong: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.running import cluster

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(ConfigError) as caught:
        cluster.check(wrong)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_a_cluster_without_workers_is_told() -> None:
    from distributed import LocalCluster

    from flows.running import cluster

    no_workers = pytest.raises(ConfigError, match=r"has no workers: run `dask worker tcp://")
    with LocalCluster(n_workers=0, dashboard_address=None) as empty, no_workers:  # type: ignore[no-untyped-call]
        cluster.check(empty.scheduler_address)


def lose_an_image(root: Path, job: Job, _patch: pytest.MonkeyPatch) -> Job:
    (root / "raw/square/003.png").unlink()
    return job


def have_another_decoder(_root: Path, job: Job, patch: pytest.MonkeyPatch) -> Job:
    from flows.running.cluster import _Order

    real = _Order.__init__

    def init(self: Any, *told: Any) -> None:
        real(self, *told)
        self.decoders = {"pillow": "0.1"}

    patch.setattr(_Order, "__init__", init)
    return job


def look_elsewhere(root: Path, job: Job, _patch: pytest.MonkeyPatch) -> Job:
    return replace(job, place=root / "nowhere")


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        (lose_an_image, "raw changed while it was read: square/003.png is gone (on "),
        (have_another_decoder, "would make different pixels: it has "),
        (look_elsewhere, "nowhere/parts: the source and the project must lie "),
    ],
)
def test_trouble_in_a_worker_is_one_line_and_the_mended_run_goes_on(
    trouble: Callable[[Path, Job, pytest.MonkeyPatch], Job],
    line: str,
    address: str,
    empty_project: Any,
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from flows.running import cluster

    root, origin = empty_project.root, Origin(source="raw", sizes=(Size.of(8),))
    raw.rename(root / "raw")
    lost = (root / "raw/square/003.png").read_bytes()
    with monkeypatch.context() as patch:
        real = cluster.make_shards
        patch.setattr(cluster, "make_shards", lambda job, *rest: real(trouble(root, job, patch), *rest))
        state = prepare_on(address, root, origin)
    assert state.is_failed()
    assert line in state.message and "\n" not in state.message
    assert "Traceback" not in caplog.text
    assert not (root / "data").exists()
    (root / "raw/square/003.png").write_bytes(lost)
    assert prepare_on(address, root, origin).is_completed()
    one = preparation.prepare(str(root / "raw"), tmp_path / "one/data", [8], workers=1).path
    assert tree(root / "data") == tree(one)
