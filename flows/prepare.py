"""The flow `prepare`: raw images -> data/ (the block) -> data.dvc, and on to the remote where one is set.

data.dvc also keeps where the data came from, so that a fresh clone can make the same data again (`ensure`).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import data_report
from flows.arrivals import sources
from flows.running import launch
from flows.running.launch import one_line
from flows.settings import Settings
from flows.versioning import dvc as versioning
from flows.versioning import follow
from flows.versioning.origin import ALLOWED_REJECTS, DEFAULT_SIZES, DIGITS, VAL_FRACTION, Origin, Step
from flows.versioning.repo import DATA, data_held
from genmodel.data.block import Block
from genmodel.data.contact import beside
from genmodel.data.making.account import account, overview
from genmodel.data.making.make import Maker
from genmodel.data.making.options import add_layout, add_recipe, layout_of, recipe_of, sizes
from genmodel.data.making.pool import make_shards
from genmodel.data.making.recipe import Recipe
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.telling import class_lines, in_a_line
from genmodel.errors import ConfigError, SourceError, VersioningError, user_errors
from genmodel.files import durable
from genmodel.output.printable import printable
from genmodel.sizes import Size

_NOTE = "data.update.json"  # of an update that is not versioned yet


def ensure(root: Path, remote: str | None = None, workers: int = 0) -> str:
    """Make sure that data/ is what data.dvc says, and return its digest.

    Data that is absent comes out of DVC's cache, else from the remote, else it is made again from its sources. So does
    data.dvc's version where data/ is another one that the cache has: git brought data.dvc. VersioningError if none of
    these is possible, or if data/ is something else, which is never replaced.
    """
    digest = versioning.digest(root)
    if not (root / DATA).exists() and not versioning.restore(root, remote):
        origin = Origin.of_data(root)
        try:
            origin.check(root)
            origin.make(root, workers)
        except SourceError as error:
            raise VersioningError(
                f"data/ is absent, in no cache and no remote, and cannot be made again: {error}; or run "
                f"`python -m flows.prepare --source SOURCE --sizes {_sizes_text(origin.sizes)}`"
            ) from error
        if not versioning.matches(root):
            raise VersioningError(
                f"data/ made from {origin.title} is not what data.dvc says: another version of Pillow or libjpeg may "
                "decode otherwise (data/block.json names those used here); to accept it run `python -m flows.prepare`"
            )
        return versioning.add(root, origin.as_dict())
    if not versioning.matches(root) and not follow.data_dvc(root, remote):
        raise VersioningError(
            "the data folder does not match data.dvc: run `dvc checkout --force data.dvc` to go back to the versioned "
            "data, or `python -m flows.prepare --source SOURCE` to make and version another"
        )
    return digest


@task(name="prepare", task_run_name="prepare", cache_policy=NO_CACHE)
@one_line
def make_block(root: Path, origin: Origin, workers: int, dask: bool) -> None:
    """Write data/ and say in a line what it holds."""
    block = origin.make(root, workers, _maker(dask))
    get_run_logger().info(f"data: {in_a_line(block)}, from {origin.title}")
    for line in [*class_lines(block), *account(block), f"contact sheet: {beside(block).relative_to(root)}"]:
        get_run_logger().info(line)


@task(name="update", task_run_name="update", cache_policy=NO_CACHE)
@one_line
def update_block(root: Path, origin: Origin, workers: int, dask: bool, remote: str | None) -> bool:
    """Add the last of the origin's updates to data/ and say what a push will send; False if it holds nothing new.

    A note remembers which data were to be updated: an update whose versioning was cut short is not a foreign change.
    """
    note, asked = root / _NOTE, {"data.dvc": versioning.digest(root), "origin": origin.as_dict()}
    resumed = _noted(note) == asked
    if not resumed:
        ensure(root, remote, workers)
        durable.write_json(note, asked)
    made = origin.updates[-1].add(root, workers, root / DATA, _maker(dask))
    beside(made.block)
    for line in made.lines():
        get_run_logger().info(line)
    added_before = resumed and len(made.block.facts["generations"]) == len(origin.steps)
    if not made.new_files and not added_before:
        get_run_logger().info("nothing is new: data.dvc stays as it is")
        note.unlink()
        return False
    return True


def _noted(note: Path) -> Any:
    """What a note says; None without a readable one: then data/ must be what data.dvc says before anything is added."""
    try:
        return json.loads(note.read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def _maker(dask: bool) -> Maker:
    """What makes shards: processes of this machine, or the cluster that the flow runs on."""
    if not dask:
        return make_shards
    from flows.running import cluster

    return cluster.make_shards


@task(name="version", task_run_name="version", cache_policy=NO_CACHE)
@one_line
def version_data(root: Path, origin: Origin) -> str:
    digest = versioning.add(root, origin.as_dict())
    (root / _NOTE).unlink(missing_ok=True)
    get_run_logger().info("data.dvc: %s", digest)
    return digest


@task(name="push", task_run_name="push", cache_policy=NO_CACHE)
@one_line
def push_data(root: Path, remote: str | None) -> None:
    if secured := versioning.secure(root, remote):
        get_run_logger().info(secured)
    pushed = versioning.push(root, remote)
    get_run_logger().info(f"pushed to {pushed}" if pushed else "no remote is set: the data stays here")


@flow(name="prepare", flow_run_name="prepare: {origin.title}")
@one_line
def prepare(root: Path, origin: Origin, workers: int = 0, update: bool = False, dask: bool = False) -> None:
    """Raw images become data/, a version of it, and a copy of that on the remote.

    `update`: data/ stays as data.dvc has it, and only the last of the origin's updates is added. `dask`: the flow's
    task runner is a Dask cluster, and each shard a task on it.
    """
    settings = Settings.read(os.environ, root)
    changed, grown = True, versioning.digest(root) if update else ""
    read = sources.states(root, origin.steps[-1:] if update else origin.steps)  # as they were before they were read
    with data_held(settings.root):  # before anything moves into data/: a stage may be reading it
        before = data_report.before(settings.root, origin, update)
        if update:
            tell = settings.root, origin, workers, dask, settings.dvc_remote
            changed = update_block(*tell, return_state=True).result()
        else:
            make_block(settings.root, origin, workers, dask, return_state=True).result()
        if changed:
            data_report.judge(settings.root, origin, before, settings.dvc_remote)
            version_data(settings.root, origin, return_state=True).result()
        sources.keep(settings.root, read, grown)
    push_data(settings.root, settings.dvc_remote, return_state=True).result()  # what an earlier try may have left


def main(argv: list[str] | None = None) -> int:
    with user_errors():
        options = _parser().parse_args(argv)
        root = Path.cwd()
        settings = Settings.read(os.environ, root)
        origin = _updated(root, options) if options.update else _asked(root, options)
        if options.list:
            _list(root, origin, options.update)
            return 0
        before = versioning.digest(root) if options.update else ""
        parameters = {"root": root, "origin": origin, "workers": options.workers, "update": options.update}
        if options.dask:
            _run_on_cluster(options.dask, settings, parameters)
        else:
            launch.run(prepare, settings, **parameters)
        digest = versioning.digest(root)
        if not options.update or digest != before:
            print(f"data.dvc {digest}: commit it, and run `python -m flows.retrain`")
            for source in (step.source for step in origin.steps if Path(step.source).is_absolute()):
                print(
                    f"data.dvc names {printable(source)}: a clone elsewhere needs the same path to make the data again"
                )
    return 0


def _list(root: Path, origin: Origin, update: bool) -> None:
    """Show what the last of the origin's steps would do."""
    step = origin.steps[-1]
    block = Block.open(root / DATA) if update else None
    lines = overview(step.location(root), step.layout.under(root), step.devkit_path(root), block)
    print("\n".join(map(printable, lines)))


def _run_on_cluster(dask: str, settings: Settings, parameters: dict[str, Any]) -> None:
    launch.apply(settings)
    from flows.running import cluster

    cluster.check(dask)
    with launch.server(settings):  # one for the workers, too
        on_cluster = prepare.with_options(task_runner=cluster.runner(dask, parameters["workers"]))
        launch.run(on_cluster, settings, **parameters, dask=True)


def _asked(root: Path, options: argparse.Namespace) -> Origin:
    """What the options ask for; what they leave open is as data.dvc has it, but for another source's own."""
    told = Origin.of_data(root)
    if options.source is not None:
        told = replace(told, source=_place(root, options.source), devkit=None, licence=None, updates=())
        told = replace(told, layout=Layout(), recipe=Recipe())
    return replace(
        told,
        sizes=tuple(options.sizes or told.sizes),
        val_fraction=told.val_fraction if options.val_fraction is None else options.val_fraction,
        allow_rejects=told.allow_rejects if options.allow_rejects is None else options.allow_rejects,
        devkit=told.devkit if options.devkit is None else _place(root, options.devkit),
        licence=told.licence if options.licence is None else options.licence,
        layout=layout_of(options) or told.layout,
        recipe=recipe_of(options) or told.recipe,
    )


def _updated(root: Path, options: argparse.Namespace) -> Origin:
    """What data.dvc has and, as the last of its updates, what the options ask for."""
    if options.source is None:
        raise ConfigError("--update needs --source: what to add to the data")
    if options.sizes or options.val_fraction is not None:
        raise ConfigError("--update keeps the data's sizes and val fraction: leave out --sizes and --val-fraction")
    if recipe_of(options):
        raise ConfigError("--update keeps the data's recipe: leave out the options under 'how an image becomes pixels'")
    told = Origin.from_dict(versioning.origin(root))
    step = Step(
        source=_place(root, options.source),
        allow_rejects=told.allow_rejects if options.allow_rejects is None else options.allow_rejects,
        devkit=None if options.devkit is None else _place(root, options.devkit),
        licence=options.licence,
        layout=layout_of(options) or Layout(),
    )
    return replace(told, updates=(*told.updates, step))


def _place(root: Path, text: str) -> str:
    """A path as data.dvc keeps it: relative to the project, unless it is elsewhere and was given as absolute."""
    path = Path(text)
    if path.is_absolute() and path.is_relative_to(root):
        return os.path.relpath(path, root)
    if path.is_absolute() or not path.exists() or (text == DIGITS and not path.is_dir()):
        return text
    place = os.path.relpath(path, root)
    return f"./{place}" if place == DIGITS else place  # a folder of that name, not the embedded digits


def _sizes_text(sizes: tuple[Size, ...]) -> str:
    return ",".join(str(size) for size in sizes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.prepare",
        description="Turn raw images into data/, version it in data.dvc, and push it where a remote is set.",
        epilog="examples:\n  python -m flows.prepare --source ILSVRC2012_img_train.tar --sizes 64,256\n"
        "  python -m flows.prepare --update --source photos/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name: str, kind: Callable[[str], Any], what: str, otherwise: str) -> None:
        parser.add_argument(name, type=kind, help=f"{what} (default: as data.dvc has it, or {otherwise})")

    add("--source", str, "a folder, an archive, Parquet, arrays (`genmodel prepare --help` has all), or digits", DIGITS)
    add("--sizes", sizes, "in pixels, such as 64,128x64 (width x height)", _sizes_text(DEFAULT_SIZES))
    add("--val-fraction", float, "share of the images held out for validation", str(VAL_FRACTION))
    add("--allow-rejects", float, "largest share of unusable images that is not an error", str(ALLOWED_REJECTS))
    add("--devkit", str, "ILSVRC2012_devkit_t12.tar.gz, for ImageNet's val tar", "it lies beside that")
    add("--licence", str, "the images' licence, for the models' cards", "not stated")
    add_layout(parser)
    add_recipe(parser)
    parser.add_argument(
        "--update", action="store_true", help="add what is new in the source to the data, as shards of their own"
    )
    parser.add_argument("--list", action="store_true", help="show what would be done without doing it")
    parser.add_argument("--workers", type=int, default=0, help="worker processes; 0: one more than there are cores")
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="make the shards on the Dask cluster whose scheduler is at ADDRESS, as tcp://HOST:8786; all its machines "
        "must see the source and this folder under the same paths (local: a cluster of --workers processes here)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
