"""DVC: the graph of stages, what has changed in it, and the versions of the data.

Only this file and flows/versioning/repo.py import dvc.

Questions are answered inside this process, one after another (DVC's locks know processes, not threads); a stage runs
in one of its own, `dvc repro` (repro.py reads its output). Every error of DVC is a VersioningError.
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from flows.versioning.health import check_list, damaged_there, drop_damaged
from flows.versioning.repo import DATA, DATA_FILE, one_line, opened
from genmodel.errors import VersioningError
from genmodel.params import read_yaml

if TYPE_CHECKING:
    from dvc.repo import Repo

_PREPARE = "`python -m flows.prepare --source SOURCE`"
# `python -m dvc` at two thirds of its CPU: the garbage collector does not visit its imports again and again
_DVC = """import gc, sys
gc.set_threshold(100_000, 20, 20)
from dvc.cli import main
sys.argv[0] = "dvc"  # shown to other DVC processes that wait for this one
status = main()
gc.freeze()
sys.exit(status)"""
_DAMAGED = "{} is damaged: take it back with `git checkout HEAD data.dvc`"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of dvc.yaml, `foreach` already unrolled."""

    name: str  # as in `dvc repro NAME`: train@vae
    needs: tuple[str, ...]  # the stages whose outs it reads
    command: str
    description: str
    deadline: float | None  # seconds it may take: meta.deadline_minutes
    tags: tuple[str, ...]  # meta.tags: the resources that it occupies while it runs, such as "gpu"
    always: bool = False  # `always_changed`: it runs even if nothing has changed


def is_stage_changed(root: Path, name: str) -> bool:
    """Whether there is a stage of this name and `dvc repro` would run it; others are not looked at."""
    with opened(root) as repo, repo.lock:
        return any(stage.status() for stage in repo.index.graph if not stage.is_data_source and stage.name == name)


def graph(root: Path) -> list[Stage]:
    """The stages of dvc.yaml, each after all that it needs."""
    with opened(root) as repo:
        return _stages(repo)


def changed(root: Path) -> set[str]:
    """The names of the stages that `dvc repro` would check again: those that have changed, and all that depend on them.

    Stages that always run are not among them, unless something of theirs has changed. The code counts as of the last
    closures.refresh.
    """
    with opened(root) as repo:
        status = {name: found for name, found in repo.status().items() if found != ["always changed"]}
        found = {stage.name for stage in repo.index.graph if stage.addressing in status and not stage.is_data_source}
        for stage in _stages(repo):
            if not found.isdisjoint(stage.needs):
                found.add(stage.name)
        return found


def idle(root: Path) -> list[Stage] | None:
    """The stages that always run, if data/ is as data.dvc says and no other must run; else None."""
    with opened(root) as repo:
        if not is_versioned(root) or any(reasons != ["always changed"] for reasons in repo.status().values()):
            return None
        return [stage for stage in _stages(repo) if stage.always]


def _stages(repo: "Repo") -> list[Stage]:
    """In an order in which each can run; of models, those come first that do so in params.yaml."""
    import networkx

    edges = repo.index.graph  # from a stage to what it needs
    models = list(dict.fromkeys(stage.addressing.partition("@")[2] for stage in repo.index.stages))

    def place(stage: Any) -> tuple[int, str]:
        return models.index(stage.addressing.partition("@")[2]), stage.addressing

    order = networkx.lexicographical_topological_sort(edges.reverse(), key=place)
    return [  # by `name`: an `addressing` is relative to the working folder of this process
        Stage(
            name=stage.name,
            needs=tuple(sorted(need.name for need in edges.successors(stage) if not need.is_data_source)),
            command=str(stage.cmd),
            description=stage.desc or "",
            deadline=_deadline(stage.name, stage.meta),
            tags=tuple(str(tag) for tag in (stage.meta or {}).get("tags", ())),
            always=bool(stage.always_changed),
        )
        for stage in order
        if not stage.is_data_source
    ]


def declared(root: Path, stage: str) -> dict[str, Any]:
    """What dvc.yaml says of a stage, as DVC resolves it: cmd, deps, params, outs. Empty without such a stage."""
    from dvc.exceptions import DvcException
    from dvc.fs import LocalFileSystem
    from dvc.parsing import DataResolver, EntryNotFound

    repo: Any = SimpleNamespace(fs=LocalFileSystem(), config={})  # all it needs of a Repo, which takes a second
    try:
        return dict(DataResolver(repo, str(root), read_yaml(root / "dvc.yaml")).resolve_one(stage)[stage])
    except EntryNotFound:
        return {}
    except DvcException as error:
        raise VersioningError(f"dvc.yaml: {one_line(error)}") from error


def _deadline(name: str, meta: Any) -> float | None:
    minutes = (meta or {}).get("deadline_minutes")
    if minutes is None:
        return None
    if type(minutes) not in (int, float) or minutes <= 0:
        raise VersioningError(f"dvc.yaml: {name}: meta.deadline_minutes must be a number above 0, not {minutes!r}")
    return float(minutes) * 60


def repro_command(stage: str, force: bool = False) -> list[str]:
    """The command that brings one stage up to date, when all that it needs is.

    Without --wait-for-lock a dvc that cannot re-take its lock after a stage loses that finished stage.
    """
    options = ["--single-item", *(["--force"] if force else [])]
    return [sys.executable, "-c", _DVC, "--wait-for-lock", "repro", *options, stage]


def with_this_python(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which this Python is the `python` of dvc.yaml."""
    return {**environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', os.defpath)}"}


def digest(root: Path) -> str:
    """The version of the data that data.dvc names: DVC's md5 of the folder, 32 hexadecimal digits and ".dir"."""
    try:
        return str(_data_file(root)["outs"][0]["md5"])
    except (KeyError, IndexError, TypeError) as error:
        raise VersioningError(f"{root / DATA_FILE} names no digest: version the data again with {_PREPARE}") from error


def origin(root: Path) -> dict[str, Any]:
    """What data.dvc says about where the data came from, as `add` was told; empty where it says nothing."""
    meta = _data_file(root).get("meta")
    return dict(meta) if isinstance(meta, Mapping) else {}


def is_versioned(root: Path) -> bool:
    return (root / DATA_FILE).exists()


def _data_file(root: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load((root / DATA_FILE).read_text())
    except FileNotFoundError as error:
        raise VersioningError(f"{root / DATA_FILE} is missing: version some data first with {_PREPARE}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise VersioningError(_DAMAGED.format(root / DATA_FILE)) from error
    if not isinstance(content, dict):
        raise VersioningError(_DAMAGED.format(root / DATA_FILE))
    return content


def outs(lock: str) -> dict[str, str]:
    """What a dvc.lock (its text) names: path -> DVC's digest, of every stage's outs."""
    import yaml

    stages = (yaml.safe_load(lock) or {}).get("stages", {})
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", ()) if "md5" in out}


def restore_commands(root: Path, stage: str, data: str, model: str | None) -> list[str]:
    """What to type in another checkout of the project for the data and the model that `stage` trained.

    They come from this project's cache or, what it lacks, from the remote of today, which an old checkout may not know;
    a `model` that no dvc.lock names is None, and is trained again; so is one that neither cache nor remote can give.
    """
    with opened(root) as repo:
        cache = repo.cache.local
        if model and not cache.exists(model) and remote_of(repo, None) is None:
            model = None
        cached = all(cache.exists(digest) for digest in (data, model) if digest)
        share = f"dvc config --local cache.dir '{cache.path.removesuffix('/files/md5')}'"
    remote = [] if cached else [f"cp '{root}'/.dvc/config* .dvc/"]
    get = f"dvc {'checkout' if cached else 'pull'} {DATA_FILE}"
    return [*remote, share, *([get, f"dvc repro {stage}"] if model is None else [f"{get} {stage}"])]


def add(root: Path, origin: Mapping[str, Any]) -> str:
    """Version data/ as it is now: into DVC's cache and data.dvc, which keeps `origin` too. Returns the digest."""
    from dvc_objects.fs.generic import test_links

    with opened(root) as repo:
        cache = repo.cache.local  # `dvc add` takes a copy for a reflink: here it must know that there are none
        usable = test_links(cache.cache_types, cache.fs, cache.path, repo.fs, str(root / DATA))
        cache.cache_types = usable or cache.cache_types
        (tracked,) = repo.add(str(root / DATA))
        tracked.meta = dict(origin)
        tracked.dump()
    return digest(root)


def matches(root: Path) -> bool:
    """Whether data/ is what data.dvc says, in DVC's cache or not."""
    with opened(root) as repo:
        (tracked,) = repo.find_outs_by_path(str(root / DATA))
        return not tracked.workspace_status()


def restore(root: Path, remote: str | None = None) -> bool:
    """Bring data/ back from DVC's cache or, where one is set, from a remote; False where neither has all of it.

    What is damaged in the cache is removed from it. VersioningError if the remote's copy is damaged; nothing damaged
    stays here.
    """
    from dvc.exceptions import CheckoutError

    target = str(root / DATA_FILE)
    with opened(root) as repo:
        drop_damaged(repo, target, digest(root))
        with contextlib.suppress(CheckoutError):  # not all in the cache
            repo.checkout([target])
            return True
        name = remote_of(repo, remote)
        if name is None:
            return False
        check_list(repo, digest(root), name)
        with contextlib.suppress(CheckoutError):  # not all in the remote either, or not sound there
            repo.pull([target], remote=name)
            return True
        objects = repo.used_objs([target], remote=name, force=True, push=True).get(None, ())
        refused = repo.cloud.status(objects, remote=name).deleted  # there, and after the pull still not here
        if refused:
            first, more = min(refused, key=lambda each: each.obj_name), len(refused) - 1
            what = first.obj_name + (f" and {more:,} more" if more else "")
            raise damaged_there(repo, name, what, [first.value, digest(root)])
    return False


def push(root: Path, remote: str | None = None) -> str | None:
    """Copy the data to the remote; returns the remote's name, None where none is set."""
    with opened(root) as repo:
        name = remote_of(repo, remote)
        if name is not None:
            repo.push([str(root / DATA_FILE)], remote=name)
        return name


def secure(root: Path, remote: str | None = None) -> str:
    """Let a `dvc pull` by hand verify what it gets from the remote, too: `verify` is set in the file that has its url.

    Returns a line that says so, or what the user should do; empty if `verify` is set to anything, or without a remote.
    """
    with opened(root) as repo:
        name = remote_of(repo, remote)
        found = {level: repo.config.read(level)["remote"].get((name or "").lower(), {}) for level in repo.config.files}
        level = next((level for level, options in reversed(found.items()) if "url" in options), None)
        if name is None or level is None or any("verify" in options for options in found.values()):
            return ""
        if level not in ("repo", "local"):  # of this user or machine, not the project's
            command = f"dvc remote modify --{level} {name} verify true"
            return f"remote {name}: run `{command}`, or a `dvc pull` by hand takes a damaged object for the real one"
        with repo.config.edit(level) as config:
            config["remote"][name.lower()]["verify"] = "true"
        path = Path(repo.config.files[level]).relative_to(repo.root_dir)
        return f"remote {name}: verify = true is now in {path}, so that a `dvc pull` by hand refuses damaged objects"


def remote_of(repo: "Repo", asked: str | None) -> str | None:
    return asked or repo.config["core"].get("remote")
