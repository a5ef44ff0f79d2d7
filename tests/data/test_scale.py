"""A block of ImageNet's size opens at once: sparse shards stand in for its 252 GB, the ledger is a real one."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from genmodel.data import parquet
from genmodel.data.block import FORMAT, HEADER, Block, ledger_name, rejects_name, shard_header, shard_name, write_index
from genmodel.data.making.make import shard_rows
from genmodel.data.making.recipe import Recipe
from genmodel.data.reading.loader import Loader
from genmodel.files import durable
from genmodel.sizes import Size

IMAGES, CLASSES, SIZE = 1_281_167, 1000, 256
ROOT = Path(__file__).parents[2]

OPEN = """
import json, sys, time
start = time.perf_counter()
from pathlib import Path
from genmodel.data.block import Block
block = Block.open(Path(sys.argv[1]))
rows, shards = block.rows("train"), block.shards(256)
seconds = time.perf_counter() - start
last = block.gather(256, rows[-1:])
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) / 1024  # getrusage would tell that of the process which forked this one
print(json.dumps({"seconds": seconds, "mib": peak, "images": len(block), "train": len(rows), "shards": len(shards)}))
"""


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale") / "data"
    (folder / str(SIZE)).mkdir(parents=True)
    size = Size.of(SIZE)
    per_shard = shard_rows([size], Recipe(channels=3))
    image = np.arange(IMAGES, dtype=np.int32)
    labels = np.sort(image % CLASSES)
    classes = [f"n{8 * i:08d}" for i in range(CLASSES)]
    names = [f"{classes[label]}/{classes[label]}_{i}.JPEG" for i, label in enumerate(labels.tolist())]
    numbers = {"label": labels, "split": (image % 10 == 0).astype(np.int32)}
    numbers |= {"width": np.full(IMAGES, 500, np.int32), "height": np.full(IMAGES, 375, np.int32)}
    texts = {"name": names, "class": [classes[label] for label in labels.tolist()]}
    texts |= {"sha256": [f"{i:064x}" for i in range(IMAGES)], "mode": ["RGB"] * IMAGES}
    texts |= {"format": ["JPEG"] * IMAGES, "repairs": [""] * IMAGES}
    places = {"shard": image // per_shard, "row": image % per_shard}
    parquet.write(folder / ledger_name(0), {**texts, **numbers, **places})
    parquet.write(folder / rejects_name(0), {name: [] for name in ("name", "class", "sha256", "reason")})
    files = {}
    for name in (ledger_name(0), rejects_name(0)):
        files[name] = {"sha256": durable.digest_file(folder / name), "bytes": (folder / name).stat().st_size}
    for shard in range(math.ceil(IMAGES / per_shard)):
        rows = min(per_shard, IMAGES - shard * per_shard)
        with (folder / shard_name(size, shard)).open("wb") as handle:
            handle.write(shard_header(rows, size, 3))
            handle.truncate(HEADER + rows * SIZE * SIZE * 3)
        files[shard_name(size, shard)] = {"sha256": "0" * 64, "rows": rows, "bytes": HEADER + rows * SIZE * SIZE * 3}
    facts = {"format": FORMAT, "resize": "adm-1", "versions": {}, "classes": classes, "files": files, "sizes": [SIZE]}
    counts = {"images": IMAGES, "rejected": 0}
    generation = {"source": "simulated", "versions": {}, "ignored": 0} | counts
    write_index(folder, facts | counts | {"val_fraction": 0.1, "generations": [generation]})
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory's peak from /proc")
def test_imagenet_opens_in_two_seconds_and_500_mib(imagenet: Path) -> None:
    runs = []
    for _ in range(2):  # the second from a warm cache, as the promise is
        done = subprocess.run(
            [sys.executable, "-c", OPEN, str(imagenet)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout))
    assert [runs[1][key] for key in ("images", "train", "shards")] == [IMAGES, IMAGES - (IMAGES + 9) // 10, 2503]
    assert min(run["seconds"] for run in runs) < 2, runs
    assert max(run["mib"] for run in runs) < 500, runs


@pytest.mark.slow
def test_its_loader_is_made_without_reading_its_pixels(imagenet: Path) -> None:
    start = time.process_time()
    loader = Loader(Block.open(imagenet), SIZE, "train", 0)
    assert loader.place == "map"
    assert time.process_time() - start < 2
