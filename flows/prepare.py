"""The flow `prepare`: raw images -> data/ (the block) -> data.dvc, and on to the remote where one is set.

data.dvc also keeps where the data came from, so that a fresh clone can make the same data again (`ensure`).
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import launch, versioning
from flows.launch import one_line
from flows.settings import Settings
from genmodel.cli import user_errors
from genmodel.errors import VersioningError

_DEFAULT_SOURCE, _DEFAULT_SIZES = "digits", (16,)  # embedded: scikit-learn's 1,797 scans
_ALLOWED_REJECTS = 0.01


@dataclass(frozen=True, kw_only=True)
class Origin:
    """All that decides the block's bytes."""

    source: str  # "digits", or a path: absolute or relative to the project
    sizes: tuple[int, ...]  # side lengths in pixels
    allow_rejects: float = _ALLOWED_REJECTS  # share of unreadable images that is no error

    @classmethod
    def of_data(cls, root: Path) -> "Origin":
        """What data.dvc tells, or the embedded default where there is none."""
        told = versioning.origin(root) if versioning.is_versioned(root) else {}
        return cls.from_dict({"source": _DEFAULT_SOURCE, "sizes": _DEFAULT_SIZES} | told)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Origin":
        try:
            return cls(
                source=str(told["source"]),
                sizes=tuple(int(size) for size in told["sizes"]),
                allow_rejects=float(told.get("allow_rejects", _ALLOWED_REJECTS)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise VersioningError(f"data.dvc: meta must hold source and sizes, not {dict(told)}") from error

    def as_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = {"source": self.source, "sizes": list(self.sizes)}
        return told if self.allow_rejects == _ALLOWED_REJECTS else told | {"allow_rejects": self.allow_rejects}

    def location(self, root: Path) -> str:
        """What genmodel's preparation is to read."""
        return self.source if self.source == _DEFAULT_SOURCE else str(root / self.source)

    def is_there(self, root: Path) -> bool:
        return self.source == _DEFAULT_SOURCE or (root / self.source).exists()


def ensure(root: Path, remote: str | None = None, workers: int = 0) -> str:
    """Make sure that data/ is what data.dvc says, and return its digest.

    Data that is absent comes out of DVC's cache, else from the remote, else it is made again from its source.
    VersioningError if none of these is possible, or if data/ is something else.
    """
    digest = versioning.digest(root)
    if not (root / versioning.DATA).exists() and not versioning.restore(root, remote):
        origin = Origin.of_data(root)
        if not origin.is_there(root):
            raise VersioningError(
                f"data/ is absent, in no cache and no remote, and its source {origin.source} is not here: run "
                f"`python -m flows.prepare --source SOURCE --sizes {_sizes_text(origin.sizes)}`"
            )
        _make(root, origin, workers)
        if not versioning.matches(root):
            raise VersioningError(
                f"data/ made from {origin.source} is not what data.dvc says: another version of Pillow or libjpeg may "
                "decode otherwise (data/block.json names those used here); to accept it run `python -m flows.prepare`"
            )
        return versioning.add(root, origin.as_dict())
    if not versioning.matches(root):
        raise VersioningError(
            "the data folder does not match data.dvc: run `dvc checkout --force data.dvc` to go back to the versioned "
            "data, or `python -m flows.prepare --source SOURCE` to make and version another"
        )
    return digest


def _make(root: Path, origin: Origin, workers: int, dask: bool = False) -> str:
    """Write data/ and say in a line what it holds."""
    from genmodel.data.pool import make_shards
    from genmodel.data.prepare import prepare as prepare_block

    if dask:
        from flows.cluster import make_shards

    block = prepare_block(
        origin.location(root),
        root / versioning.DATA,
        list(origin.sizes),
        workers=workers,
        max_reject_share=origin.allow_rejects,
        make=make_shards,
    )
    sizes = ", ".join(str(size) for size in block.sizes)
    return f"data: {len(block):,} images in {len(block.classes):,} classes at {sizes} px, from {origin.source}"


@task(name="prepare", cache_policy=NO_CACHE)
@one_line
def make_block(root: Path, origin: Origin, workers: int, dask: bool) -> str:
    made = _make(root, origin, workers, dask)
    get_run_logger().info(made)
    return made


@task(name="version", cache_policy=NO_CACHE)
@one_line
def version_data(root: Path, origin: Origin) -> str:
    digest = versioning.add(root, origin.as_dict())
    get_run_logger().info("data.dvc: %s", digest)
    return digest


@task(name="push", cache_policy=NO_CACHE)
@one_line
def push_data(root: Path, remote: str | None) -> None:
    pushed = versioning.push(root, remote)
    get_run_logger().info(f"pushed to {pushed}" if pushed else "no remote is set: the data stays here")


@flow(name="prepare")
@one_line
def prepare(root: Path, origin: Origin, workers: int = 0, dask: bool = False) -> None:
    """Raw images become data/, a version of it, and a copy of that on the remote.

    `dask`: the flow's task runner is a Dask cluster, and each shard a task on it.
    """
    settings = Settings.read(os.environ, root)
    make_block(settings.root, origin, workers, dask, return_state=True).result()
    version_data(settings.root, origin, return_state=True).result()
    push_data(settings.root, settings.dvc_remote, return_state=True).result()


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        root = Path.cwd()
        settings = Settings.read(os.environ, root)
        parameters = {"root": root, "origin": _asked(root, options), "workers": options.workers}
        if options.dask:
            _run_on_cluster(options.dask, settings, parameters)
        else:
            launch.run(prepare, settings, **parameters)
        print(f"data.dvc {versioning.digest(root)}: commit it, and run `python -m flows.retrain`")
    return 0


def _run_on_cluster(dask: str, settings: Settings, parameters: dict[str, Any]) -> None:
    launch.apply(settings)
    from flows import cluster

    cluster.check(dask)
    with launch.server(settings):  # one for the workers, too
        on_cluster = prepare.with_options(task_runner=cluster.runner(dask, parameters["workers"]))
        launch.run(on_cluster, settings, **parameters, dask=True)


def _asked(root: Path, options: argparse.Namespace) -> Origin:
    """What the options ask for; what they leave open is as data.dvc has it."""
    told = Origin.of_data(root)
    source = told.source
    if options.source is not None:
        path = Path(options.source)
        source = os.path.relpath(path, root) if path.exists() and not path.is_absolute() else options.source
    return Origin(
        source=source,
        sizes=tuple(options.sizes or told.sizes),
        allow_rejects=told.allow_rejects if options.allow_rejects is None else options.allow_rejects,
    )


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"write sizes as 64 or 64,256, not {text!r}") from None


def _sizes_text(sizes: tuple[int, ...]) -> str:
    return ",".join(str(size) for size in sizes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.prepare",
        description="Turn raw images into data/, version it in data.dvc, and push it where a remote is set.",
        epilog="example:\n  python -m flows.prepare --source ILSVRC2012_img_train.tar --sizes 64,256",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name: str, kind: Callable[[str], Any], what: str, otherwise: str) -> None:
        parser.add_argument(name, type=kind, help=f"{what} (default: as data.dvc has it, or {otherwise})")

    add("--source", str, "a tar of tars, tar.gz or zip of class folders, a folder, or: digits", _DEFAULT_SOURCE)
    add("--sizes", _sizes, "side lengths in pixels, as 64,256", _sizes_text(_DEFAULT_SIZES))
    add("--allow-rejects", float, "share of unreadable images that is no error", str(_ALLOWED_REJECTS))
    parser.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="make the shards on the Dask cluster whose scheduler is at ADDRESS, as tcp://HOST:8786; all its machines "
        "must see the source and this folder under the same paths (local: a cluster of --workers processes here)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
