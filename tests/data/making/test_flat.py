"""A preparation of many images costs each as much as one of few, and holds no more than its list of members."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]

PREPARE = """
import json, os, sys
from pathlib import Path
from genmodel.data.making import make
make.SHARD_BYTES = 2048 * 8 * 8 * 3
make.prepare(sys.argv[1], Path(sys.argv[2]), [8], 2)
taken = os.times()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
seconds = taken.user + taken.system + taken.children_user + taken.children_system
print(json.dumps({"seconds": seconds, "kib": int(status["VmHWM"].split()[0])}))
"""


def prepared(count: int, folder: Path) -> dict[str, float]:
    """Seconds of CPU and the peak of the memory of preparing as many images of 8 px, shuffled, in IDX files."""
    folder.mkdir()
    levels = np.random.default_rng(0).integers(0, 256, (count, 64), np.uint8)
    head = (8).to_bytes(4, "big")
    images, labels = folder / "x-images-idx3-ubyte", folder / "x-labels-idx1-ubyte"
    images.write_bytes(b"\0\0\x08\x03" + count.to_bytes(4, "big") + head * 2 + levels.tobytes())
    labels.write_bytes(b"\0\0\x08\x01" + count.to_bytes(4, "big") + levels[:, 0].tobytes())
    command = [sys.executable, "-c", PREPARE, str(images), str(folder / "data")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory's peak from /proc")
def test_cost_and_memory_are_flat(tmp_path: Path) -> None:
    few, many = prepared(10_000, tmp_path / "few"), prepared(50_000, tmp_path / "many")
    assert many["seconds"] < 1.4 * 5 * few["seconds"]
    assert (many["kib"] - few["kib"]) * 1024 < 950 * 40_000, "bytes for each of 40,000 more members"
