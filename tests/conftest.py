"""What many tests need: a small block of bright and dark squares in two classes."""

import gc
import importlib
import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.models.contract import Family, build_model
from genmodel.models.families import FAMILIES, load_family
from genmodel.params import run_config
from genmodel.showing import display
from tests.faults import pytest_collection_modifyitems, pytest_terminal_summary  # noqa: F401  # hooks

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


def pytest_configure() -> None:
    """A quarter of the time until the first test would go into the collector's visits to what is imported."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Many threads only get in each other's way on images this small."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def unsynced() -> Iterator[None]:
    """A killed process, unlike a power cut, leaves what it wrote: the disk need not be waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which also refuses a handle that is closed
        yield


def draw_images(folder: Path, per_class: int = 30, size: int = 12) -> Path:
    """Class folders `circle` and `square` with noisy PNGs, the same each time."""
    noise = np.random.default_rng(5)
    for name in ("circle", "square"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            image = noise.integers(0, 60, (size, size, 3))
            rows, columns = np.ogrid[:size, :size]
            inside = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 3) ** 2
            if name == "square":
                inside = (abs(rows - size / 2) < size / 3) & (abs(columns - size / 2) < size / 3)
            image[inside] += 150
            Image.fromarray(image.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="session")
def block(tmp_path_factory: pytest.TempPathFactory) -> Block:
    """60 images at 8 px in two classes."""
    folder = tmp_path_factory.mktemp("block")
    return prepare(str(draw_images(folder / "raw")), folder / "data", [8], workers=1)


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training draws its first and its last samples alone: drawing takes as long as toy steps."""
    monkeypatch.setattr(display, "sample_moments", lambda images, per_step: {0, images})


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The families of tests/toys, as if each had its line in FAMILIES."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for name, place in importlib.import_module("toys").TOYS.items():
        monkeypatch.setitem(FAMILIES, name, place)


@pytest.fixture
def built() -> Callable[..., Family]:
    """built(family, image_size, classes, **network) -> a small model to sample from.

    Its weights are those of a training begun: as they are drawn at first, all images of some families are grey.
    """

    def build(family: str, image_size: int = 16, classes: int = 5, **network: int) -> Family:
        known = {name: value for name, value in network.items() if hasattr(load_family(family).Config, name)}
        config = run_config({"family": family, "image_size": image_size, "network": known}, "test")
        model = build_model(config, classes)
        with torch.no_grad():
            rng = torch.Generator().manual_seed(1)
            for weight in model.parameters():
                weight.add_(0.1 * torch.randn(weight.shape, generator=rng))
        return model.eval().requires_grad_(False)

    return build


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """shared_data(name) -> a file of the real images beside the project; skips the test where they are absent."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"needs {name} of ../shared/data")
        return SHARED / name

    return find


@pytest.fixture
def raw(block: Block, tmp_path: Path) -> Path:
    """The block's 60 PNGs in their two class folders, ours to spoil."""
    return Path(shutil.copytree(block.path.parent / "raw", tmp_path / "raw"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """mistake(words) -> the one line on stderr of a `genmodel` command that must fail as a user's mistake."""

    def run(*words: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and said.endswith("\n"), said
        return said.removeprefix("error: ").strip()

    return run


def _in_child(task: Callable[[], object], kill_after: float | None = None) -> int:
    """Run in a forked process group of its own, killed after some seconds; its exit code, negative for a signal."""
    started = multiprocessing.get_context("fork").Event()

    def child() -> None:
        os.setsid()
        sys.stderr = sys.__stderr__  # shown with a test that fails, but not what a test reads of its own
        started.set()
        code = 0
        try:
            task()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except Exception:  # noqa: BLE001  # as multiprocessing does
            traceback.print_exc()
            code = 1
        # At once: what other tests' libraries do at exit awaits threads that a fork has not.
        sys.stderr.flush()
        os._exit(code)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert process.pid is not None and started.wait(60)
    process.join(60 if kill_after is None else kill_after)
    if kill_after is not None and process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def _killed_at(write: int, whole_group: bool, task: Callable[[], object], contents: bool = False) -> int:
    """The exit code of `task` when its process is killed before its n-th write to disk, by whichever process made.

    `whole_group`: its workers are killed with it. `contents`: counted are also the opening of a file for writing and
    each write into it, of which the half is done.
    """
    return _count_writes(task, write, whole_group, contents)[0]


def _count_writes(
    task: Callable[[], object], kill_at: int = 0, whole_group: bool = True, contents: bool = False
) -> tuple[int, int]:
    """The exit code of `task`, and how often it and its workers wrote to disk."""
    count = multiprocessing.Value("i", 0)

    def child() -> None:
        main = os.getpid()

        def due(before: Callable[[], object] = lambda: None) -> None:
            with count.get_lock():
                count.value += 1
                now = count.value == kill_at
            if now:
                before()
                os.killpg(main, signal.SIGKILL) if whole_group else os.kill(main, signal.SIGKILL)

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                due()
                return function(*args, **options)

            return call

        writes = [
            (os, "fsync"),
            (shutil, "rmtree"),
            *((Path, name) for name in ("replace", "rename", "touch", "unlink", "mkdir")),
        ]
        for holder, name in writes:
            setattr(holder, name, counted(getattr(holder, name)))
        if contents:
            Path.open = _opened_by(Path.open, due)  # type: ignore[method-assign]
        task()

    return _in_child(child), count.get_obj().value  # a killed process may hold the lock


def _opened_by(real: Callable[..., Any], due: Callable[..., None]) -> Callable[..., Any]:
    """Path.open that calls `due` before a file is opened for writing, and `due(half of the write)` before a write."""

    class Counted(io.BufferedWriter):
        def write(self, content: Any) -> int:
            def half() -> None:
                super(Counted, self).write(memoryview(content)[: len(content) // 2])
                self.flush()

            due(half)
            return super().write(content)

    def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if mode.strip("bt") not in ("w", "a", "x"):
            return real(path, mode, *args, **options)
        due()
        handle = Counted(io.FileIO(path, mode.strip("bt")))
        return handle if "b" in mode else io.TextIOWrapper(handle, "utf-8", write_through=True)

    return opened


@pytest.fixture(scope="session")
def in_child() -> Callable[..., int]:
    return _in_child


@pytest.fixture(scope="session")
def killed_at() -> Callable[..., int]:
    return _killed_at


@pytest.fixture(scope="session")
def count_writes() -> Callable[..., tuple[int, int]]:
    return _count_writes


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A small disk of its own where the command stands; disk(size) makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    monkeypatch.chdir(place)
    yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True) and None
    monkeypatch.undo()  # nobody may stand in it
    subprocess.run(["umount", "--lazy", str(place)], check=True)
