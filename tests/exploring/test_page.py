"""`genmodel explore`: the page's functions, its server, and the page itself in a browser without a window."""

import http.client
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.exploring import page
from genmodel.exploring.commands import training_images
from genmodel.exploring.page import Views
from genmodel.exploring.pictures import shown

pytestmark = pytest.mark.usefixtures("toys")
SHORT = ("image_size=8", "images=64", "batch_size=32", "log_every=32")
PICTURE = re.compile(r'src="(data:image/png;base64,[^"]+)"')


@pytest.fixture
def trained(block: Block, place: Path) -> Callable[[str], Path]:
    def train(family: str) -> Path:
        main(["train", family, "--data", str(block.path), *(word for key in SHORT for word in ("--set", key))])
        return place / "models" / family

    return train


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Views]:
    """What the commands of a test would have served."""
    views: list[Views] = []
    monkeypatch.setattr(page, "serve", lambda given, port: views.append(given))
    return views


def explore(*words: object) -> None:
    assert main(["explore", *map(str, words)]) == 0


def test_the_page_shows_the_image_and_the_training_images_nearest_to_it(
    trained: Callable[[str], Path], block: Block, opened: list[Views]
) -> None:
    explore(trained("dcgan"), "--data", block.path)
    (views,) = opened
    subject = views.subject
    image = subject.draw(subject.codes(5, None))[0]
    training, note = training_images(subject, block.path)
    first, *places = views.fresh(5)
    assert first == shown(image, "Seed 5", training.nearest(image, 6), note) == views.moved(5, None, *places)
    assert (
        len(PICTURE.findall(first)) == 7
        and f"Nearest by pixels, of {len(block.rows('train'))} training images." in first
    )
    assert "circle · " in first or "square · " in first

    places[0] = -places[0]
    changed = views.moved(5, None, *places)
    assert "Seed 5, 1 of its codes changed" in changed and PICTURE.findall(changed)[0] != PICTURE.findall(first)[0]


def test_a_walk_begins_and_ends_with_the_images_of_its_seeds(
    trained: Callable[[str], Path], opened: list[Views]
) -> None:
    explore(trained("conditional"))
    (views,) = opened
    ends = [PICTURE.findall(views.fresh(seed, 1)[0])[0] for seed in (2, 9)]
    for place, end in ((0, ends[0]), (100, ends[1])):
        found = PICTURE.findall(views.between(2, 9, 1, place))
        assert len(found) == 1 + 11 and found[0] == end and [found[1], found[-1]] == ends
    assert 'alt="frame 5" class=here' in views.between(2, 9, 1, 50)


def test_without_a_block_the_page_says_so(
    trained: Callable[[str], Path], block: Block, place: Path, opened: list[Views], mistake: Callable[..., str]
) -> None:
    folder = trained("dcgan")
    explore(folder)
    assert (
        opened[0].training is None
        and "No training images are shown: there is no block at data" in opened[0].fresh(0)[0]
    )
    assert mistake("explore", folder, "--data", "nowhere").startswith("there is no block at nowhere: make it with")
    assert "is missing" in mistake("explore", place / "nothing")
    shutil.copytree(block.path, place / "data")
    explore(folder)
    assert opened[1].training is not None and "another version" not in opened[1].note


def test_other_data_than_those_of_the_training_are_called_so(
    trained: Callable[[str], Path], block: Block, opened: list[Views]
) -> None:
    explore(trained("dcgan"), "--data", block.path)
    views = opened[0]
    views.subject.block = "another"
    assert training_images(views.subject, block.path)[1].endswith("trained on another version of these data.")


def test_names_are_shown_as_they_are_written() -> None:
    image = torch.zeros(8, 8, 1, dtype=torch.uint8)
    said = shown(image, "<b>&", [], "none at a<b")
    assert "<figcaption>&lt;b&gt;&amp;</figcaption>" in said and 'alt="&lt;b&gt;&amp;"' in said and "a&lt;b" in said


def test_without_gradio_a_line_says_what_to_install(
    trained: Callable[[str], Path], mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained("dcgan")
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert mistake("explore", folder) == 'the page needs gradio: pip install -e ".[explore]" where genmodel was cloned'


@pytest.fixture
def port(trained: Callable[[str], Path], block: Block) -> Iterator[int]:
    """A real server of a conditional model: of a process of its own, ended as a person ends it."""
    folder = trained("vae")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    words = [sys.executable, "-m", "genmodel.cli", "explore", folder, "--data", block.path, "--port", number]
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert f"http://127.0.0.1:{number} " in process.stdout.readline(), process.communicate()[1]
    yield number
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=120)[1]


def ask(port: int, path: str, **headers: str) -> tuple[int, str, Any]:
    deadline = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers
        except ConnectionError:
            assert time.monotonic() < deadline
        finally:
            connection.close()


@pytest.mark.slow
@pytest.mark.timeout(1500)  # a server with Gradio and a browser start, on a machine that may be busy
def test_the_page_opens_in_a_browser_with_its_pictures(port: int, tmp_path: Path, mistake: Callable[..., str]) -> None:
    status, body, headers = ask(port, "/")
    assert status == 200 and headers["Content-Security-Policy"].startswith("default-src 'self' data: blob:")
    assert "fonts.googleapis" not in body + ask(port, "/theme.css")[1]
    assert ask(port, "/", Host="evil.example")[0] == 400
    assert f"cannot listen at 127.0.0.1:{port}" in mistake("explore", Path("models/vae"), "--port", port)

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs the browser chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    command = [chromium, *options, "--virtual-time-budget=15000", f"http://127.0.0.1:{port}/"]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=200).stdout
    assert "Nearest training images" in drawn and len(PICTURE.findall(drawn)) >= 7
    assert drawn.count('type="range"') >= 10 and "Nearest by pixels, of 58 training images." in drawn
