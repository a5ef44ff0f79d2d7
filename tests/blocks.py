"""Small blocks of any shape, written as they are: bright bars on a dark ground, upright or level by their class."""

from pathlib import Path

import numpy as np

from genmodel.data import parquet
from genmodel.data.block import FORMAT, SPLITS, Block, ledger_name, rejects_name, shard_header, shard_name, write_index
from genmodel.files import durable
from genmodel.sizes import Size

CLASSES = ["level", "upright"]


def pictures(size: Size, channels: int, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """uint8 [N, H, W, C]: a bar at a random place; where there is a fourth channel it is transparent around the bar."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (len(labels), *size, channels)).astype(np.uint8)
    if channels == 4:
        images[..., 3] = 40
    for image, label in zip(images, labels, strict=True):
        side = size.height if label == 0 else size.width
        start = rng.integers(0, side - side // 4)
        bar = image[start : start + side // 4] if label == 0 else image[:, start : start + side // 4]
        bar[...] = rng.integers(180, 255, channels)
        if channels == 4:
            bar[..., 3] = 255
    return images


def write_block(
    folder: Path,
    size: int | str,
    channels: int,
    per_class: int = 24,
    unlabelled: int = 0,
    seed: int = 0,
) -> Block:
    """A block of two classes and of `unlabelled` images of none, a fourth of each held out, in one shard."""
    sized = Size.of(size)
    labels = np.repeat([-1, 0, 1], [unlabelled, per_class, per_class]).astype(np.int32)
    count, image = len(labels), np.arange(len(labels), dtype=np.int32)
    images = pictures(sized, channels, labels, seed)
    names = [CLASSES[label] if label >= 0 else "" for label in labels]
    texts = {"name": [f"{number:04d}.png" for number in range(count)], "class": names, "mode": ["RGB"] * count}
    # of whatever channels it is made, the ledger is the same
    texts |= {"sha256": [durable.digest_json([seed, number]) for number in range(count)], "format": ["PNG"] * count}
    numbers = {"label": labels, "split": np.where(image % 4 == 3, SPLITS["val"], SPLITS["train"]).astype(np.int32)}
    numbers |= {"width": np.full_like(image, sized.width), "height": np.full_like(image, sized.height)}
    places = {"repairs": [""] * count, "shard": np.zeros_like(image), "row": image}
    shard = shard_name(sized, 0)
    (folder / shard).parent.mkdir(parents=True)
    (folder / shard).write_bytes(shard_header(count, sized, channels) + images.tobytes())
    parquet.write(folder / ledger_name(0), {**texts, **numbers, **places})
    parquet.write(folder / rejects_name(0), {name: [] for name in ("name", "class", "sha256", "reason")})
    files = {
        name: {"sha256": durable.digest_file(folder / name), "rows": rows, "bytes": (folder / name).stat().st_size}
        for name, rows in ((shard, count), (ledger_name(0), count), (rejects_name(0), 0))
    }
    counts = {"images": count, "rejected": 0}
    facts = {"format": FORMAT, "sizes": [sized.plain()], "channels": channels, "classes": CLASSES, "resize": "adm-1"}
    generation = {"source": "drawn", "versions": {}, "ignored": 0} | counts
    write_index(folder, facts | counts | {"val_fraction": 0.25, "generations": [generation], "files": files})
    return Block.open(folder)
