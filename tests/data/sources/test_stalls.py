"""A source that stops to answer: one line that names the path, exit code 2, and the end of all processes.

A pipe that nobody writes to stands for a share that is gone: to open it waits for ever. It takes the place of an image
or of an archive once that has been looked at.
"""

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from PIL import Image

from genmodel.data.sources.stalls import patience
from genmodel.errors import ConfigError

# exchanged: a tar before its scan, an image after it; with channels given no process but a worker reads an image
PREPARE = """
import os, sys
from genmodel import cli
from genmodel.data.making import make
source, stalled, how = sys.argv[1:]
known = make.scan
def exchange():
    os.remove(stalled)
    os.mkfifo(stalled)
def scan(*arguments):
    if how == "scan":
        exchange()
    found = known(*arguments)
    exchange()
    return found
make.scan = scan
words = ["prepare", source, "--out", "data", "--sizes", "8", "--workers", "2"]
sys.exit(cli.main(words + ["--channels", "3"] * (how == "worker")))
"""


@pytest.mark.slow
@pytest.mark.fault("source on a share that stalls")
@pytest.mark.parametrize("how", ["scan", "worker", "main"])
def test_a_source_that_stops_to_answer(how: str, tmp_path: Path) -> None:
    photos = tmp_path / "photos/ape"
    photos.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (9, 9), (60 * number, 0, 0)).save(photos / f"{number}.png")
    source, stalled = photos.parent, photos / "2.png"
    if how == "scan":
        source = stalled = tmp_path / "photos.tar"
        with tarfile.open(source, "w") as archive:
            archive.add(photos, "ape")
    environment = {**os.environ, "GENMODEL_STALL": "1"}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(source), str(stalled), how],
        cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        said = process.communicate(timeout=120)[1].splitlines()  # its end: no worker holds the pipe of its errors
    assert process.returncode == 2, said
    assert said[-1:] == [
        f"error: {stalled} has not answered for 1 s: see whether its disk or share is there, and run the same command "
        "again (GENMODEL_STALL allows more seconds)"
    ], said
    assert time.monotonic() - began > 1 and not (tmp_path / "data").exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.slow
def test_a_slow_source_is_not_a_dead_one(tmp_path: Path) -> None:
    """Many reads that together last longer than one may."""
    script = (
        "import time\nfrom genmodel.data.sources.stalls import each_read, reading\n"
        "with reading('share'):\n    for _ in each_read('share', range(12)):\n        time.sleep(0.2)\nprint('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "GENMODEL_STALL": "1"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("text", ["0", "soon", "inf", "-3"])
def test_a_wrong_patience_is_told(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENMODEL_STALL", text)
    with pytest.raises(ConfigError, match=f"GENMODEL_STALL={text} must be a number of seconds above 0"):
        patience()
