"""Which objects DVC needs, and the removal of the others from the cache, from a remote and from the run cache.

Needed is what the dvc.lock or a .dvc file of any commit names that a branch, a remote's branch, a tag, an experiment or
HEAD points to, or that of the working folder; and what the caller names.
"""

import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.versioning.repo import opened
from genmodel.errors import VersioningError
from genmodel.params import read_yaml

if TYPE_CHECKING:
    from dvc.repo import Repo as Repo

_REFS = "%(objecttype) %(objectname) %(*objecttype) %(*objectname)"


def locked_stages(root: Path) -> list[str]:
    """The names of the stages in dvc.lock, which have run at some time."""
    path = root / "dvc.lock"
    return list((read_yaml(path) if path.exists() else {}).get("stages", {}))


@contextlib.contextmanager
def held(root: Path) -> Iterator["Repo"]:
    """Hold the whole project against every other DVC process; LockConflictError at once where one is at work."""
    from dvc.rwlock import rwlock

    with opened(root) as repo:
        hardlink = repo.config["core"].get("hardlink_lock", False)
        with rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), [], [str(root.resolve())], hardlink):
            yield repo


def commits(root: Path) -> list[str]:
    """Those that a branch, a tag or any other ref of the project's git points to, and HEAD; none without git."""
    if not (root / ".git").exists():
        return []
    try:
        told = _git(root, "for-each-ref", f"--format={_REFS}").splitlines()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise VersioningError(f"git cannot list the branches of {root}: nothing was removed") from error
    found = {name for line in told for kind, name in zip(*[iter(line.split())] * 2, strict=False) if kind == "commit"}
    with contextlib.suppress(subprocess.CalledProcessError):  # no commit yet
        found.add(_git(root, "rev-parse", "--verify", "HEAD"))
    return sorted(found)


def needed(repo: "Repo", more: Iterable[str]) -> set[str]:
    """The digests of all objects that are needed, with those in the folders `more` (digests that end with .dir)."""
    logging.getLogger("dvc").setLevel(logging.ERROR)  # not a line for each stage that has not run on some branch
    used = repo.used_objs(revs=commits(Path(repo.root_dir)) or None, force=True)
    found = {each.value for objects in used.values() for each in objects if each.value}
    for digest in more:
        found |= {digest, *(entry["md5"] for entry in _listed(repo, digest))}
    return found


def trainings(repo: "Repo", digests: Iterable[str]) -> set[str]:
    """The fingerprints of the models among the folders that `digests` name, as far as the cache has them."""
    found = set()
    for digest in (each for each in digests if each.endswith(".dir")):
        for entry in _listed(repo, digest):
            if entry["relpath"] == "config.json":
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    found.add(str(json.loads(_object(repo, entry["md5"]).read_bytes())["fingerprint"]))
    return found


def is_own(repo: "Repo") -> bool:
    """Whether the cache lies in the project: another one may hold what other projects need."""
    return Path(repo.root_dir).resolve() in Path(repo.cache.local.path).resolve().parents


def unneeded(repo: "Repo", needed: set[str], remote: str | None = None) -> tuple[int, list[tuple[str, int]]]:
    """How many objects of the cache, or of a remote, stay, and the path and size of each of the others.

    Lists of folders come first: after a kill no list is left whose files are gone.
    """
    place = _place(repo, remote)
    kept, found = 0, []
    for digest in place.all():
        if digest in needed:
            kept += 1
        else:
            path = place.oid_to_path(digest)
            found.append((path, int(place.fs.size(path) or 0)))
    return kept, sorted(found, key=lambda each: (not each[0].endswith(".dir"), each[0]))


def remove(repo: "Repo", paths: Iterable[str], remote: str | None = None) -> None:
    """Remove objects that `unneeded` named."""
    place = _place(repo, remote)
    for path in paths:
        place.fs.remove(path)
    if remote:
        from dvc_data.hashfile.db import get_index

        get_index(place).clear()  # of what DVC believes to be there


def stale_runs(repo: "Repo", needed: set[str]) -> list[Path]:
    """The entries of DVC's run cache whose outputs are no longer needed: they could not be restored."""
    found = []
    for path in (Path(repo.cache.local.path).parents[1] / "runs").glob("*/*/*"):
        with contextlib.suppress(Exception):  # whatever is wrong in an entry, DVC skips it, too
            outs = read_yaml(path).get("outs", ())
            if any(out.get("md5") not in needed for out in outs):
                found.append(path)
    return found


def remote_name(repo: "Repo", asked: str | None) -> str:
    """The remote asked for, or DVC's default; VersioningError where there is none."""
    name = asked or repo.config["core"].get("remote")
    if not name or name.lower() not in repo.config["remote"]:
        raise VersioningError(f"DVC has no remote {name or 'by default'}: `dvc remote list` shows those that there are")
    return str(name)


def _place(repo: "Repo", remote: str | None) -> Any:
    return repo.cloud.get_remote_odb(remote, "gc", hash_name="md5") if remote else repo.cache.local


def _object(repo: "Repo", digest: str) -> Path:
    return Path(repo.cache.local.oid_to_path(digest))


def _listed(repo: "Repo", digest: str) -> list[dict[str, Any]]:
    """The entries of a folder; none where the cache does not have its list."""
    try:
        told = json.loads(_object(repo, digest).read_bytes())
    except (OSError, ValueError):
        return []
    return [each for each in told if isinstance(each, dict) and {"md5", "relpath"} <= each.keys()]


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
