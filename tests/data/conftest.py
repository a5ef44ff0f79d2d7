"""Small sources of real image files, packed in every way that genmodel reads."""

import io
import os
import random
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from genmodel.data.block import Block
from genmodel.data.making import shards
from genmodel.data.making.make import prepare
from genmodel.data.sources.members import Member

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

Files = dict[str, bytes]
Pack = Callable[[str, Files], str]


def _encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    handle = io.BytesIO()
    image.save(handle, form, **options)
    return handle.getvalue()


def _picture(seed: int, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A smooth picture with some noise, so that JPEG and resizing have something to do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(2, 9) + y / rng.uniform(2, 9) + rng.uniform(0, 6)) for _ in range(3)]
    levels = np.stack(waves, -1) * 90 + 128 + rng.normal(0, 12, (height, width, 3))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert(mode)


def _tar_bytes(files: Iterable[tuple[str, bytes]], mode: str = "w") -> bytes:
    handle = io.BytesIO()
    with tarfile.open(fileobj=handle, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return handle.getvalue()


def _pack(kind: str, files: dict[str, bytes], path: Path) -> str:
    """Write `files` (CLASS/name -> bytes) as a source of the kind; returns its location."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = list(files.items())
    if kind == "shuffled tar.gz":
        random.Random(1).shuffle(items)
    if kind == "folder":
        for name, content in items:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for i, (name, content) in enumerate(items):
                archive.writestr(name, content, zipfile.ZIP_DEFLATED if i % 2 else zipfile.ZIP_STORED)
    elif kind == "tar of tars":
        classes: dict[str, list[tuple[str, bytes]]] = {}
        for name, content in items:
            top, _, rest = name.partition("/")
            classes.setdefault(top, []).append((rest, content))
        path.write_bytes(_tar_bytes((f"{top}.tar", _tar_bytes(inner)) for top, inner in classes.items()))
    elif kind == "tar with a top folder":
        path.write_bytes(_tar_bytes((f"./train/{name}", content) for name, content in items))
    else:
        path.write_bytes(_tar_bytes(items, "w:gz" if kind.endswith("tar.gz") else "w"))
    return str(path)


def _parquet_of(path: Path, files: dict[str, bytes], order: Iterable[str], group: int) -> str:
    """Write files (CLA.../name -> bytes) as a Parquet file of rows in an order, in row groups of so many."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"image": {"bytes": files[name], "path": name.replace("/", "_")}, "label": name[:3]} for name in order]
    table = pa.Table.from_pylist(rows, pa.schema([("image", kind), ("label", pa.string())]))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return str(path)


_KINDS = ["folder", "tar", "tar.gz", "shuffled tar.gz", "tar with a top folder", "tar of tars", "zip"]


@pytest.fixture(scope="session")
def images() -> dict[str, bytes]:
    """42 images of three classes, JPEG and PNG, of many sizes."""
    files = {}
    for i in range(42):
        name, form = f"{['ape', 'bee', 'cat'][i % 3]}/{i:03d}", ["JPEG", "PNG"][i % 5 == 0]
        files[f"{name}.{form.lower()}"] = _encode(_picture(i, 17 + 3 * i % 50, 20 + 7 * i % 41), form)
    return files


@pytest.fixture
def packed(tmp_path: Path) -> Pack:
    """pack(kind, files) -> location, in folders of their own but always under the same name."""
    made = iter(range(1000))
    return lambda kind, files: _pack(kind, files, tmp_path / f"made{next(made)}" / "source")


def _tree(folder: Path) -> dict[str, bytes]:
    """All files under a folder by name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _shared(name: str) -> str:
    """A shared file of real images; skips the test where it is absent."""
    if not (SHARED / name).exists():
        pytest.skip(f"../shared/data/{name} is not here")
    return str(SHARED / name)


BAD = {"bee/bad.jpg": b"no image", "cat/cut.png": b"\x89PNG\r\n\x1a\n", "ape/zero.gif": b""}


@pytest.fixture
def files(images: dict[str, bytes]) -> dict[str, bytes]:
    """The 42 images and three files that are none."""
    return images | BAD


def _make(source: str, out: Path, **options: Any) -> Block:
    """prepare() at 8 and 16 px with two workers, half of the images allowed to be bad."""
    defaults: dict[str, Any] = {"sizes": [16, 8], "workers": 2, "max_reject_share": 0.5}
    return prepare(source, out, **defaults | options)


def _as_fixture(helper: Callable[..., Any]) -> Any:
    return pytest.fixture(scope="session", name=helper.__name__.removeprefix("_"))(lambda: helper)


encode, picture, tar_bytes = _as_fixture(_encode), _as_fixture(_picture), _as_fixture(_tar_bytes)
parquet_of = _as_fixture(_parquet_of)
tree, shared, make = _as_fixture(_tree), _as_fixture(_shared), _as_fixture(_make)


@pytest.fixture(params=_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every way of packing class folders."""
    return str(request.param)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 8 images at 16 px, slices of 3, so that small sources have all that large ones have."""
    monkeypatch.setattr("genmodel.data.making.make.SHARD_BYTES", 8 * 16 * 16 * 3)
    monkeypatch.setattr("genmodel.data.making.pool.SLICE", 3)


@pytest.fixture
def long_slices(monkeypatch: pytest.MonkeyPatch, small_shards: None) -> None:
    """Shards of 8 images in slices as long as they may be."""
    monkeypatch.setattr("genmodel.data.making.pool.SLICE", shards.SLICE)


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Counter[str]]:
    """What every process has converted since the last call: how often each member."""
    log, real = tmp_path / "log", shards._convert
    log.touch()

    def convert(job: Any, member: Member) -> Any:
        handle = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.write(handle, f"{member.name}\n".encode())
        os.close(handle)
        return real(job, member)

    def since() -> Counter[str]:
        names = Counter(log.read_text().split())
        os.truncate(log, 0)
        return names

    monkeypatch.setattr(shards, "_convert", convert)
    return since


@pytest.fixture
def resumed(
    make: Callable[..., Block], tree: Callable[[Path], Files], converted: Callable[[], Counter[str]]
) -> Callable[..., int]:
    """resumed(source, out, expected, workers) takes up a killed run; how many images it converted a second time."""

    def resume(source: str, out: Path, expected: Files, workers: int = 1) -> int:
        before, finished = converted(), out.exists()  # killed behind the last rename: made anew, as at any time
        assert tree(make(source, out, workers=workers).path) == expected
        assert not out.with_name(out.name + ".partial").exists()
        return 0 if finished else (before & converted()).total()

    return resume
