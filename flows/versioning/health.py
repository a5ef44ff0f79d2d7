"""What DVC needs: links between its cache and the working folder, remotes that answer, and objects that are what their
names say, which DVC believes of files that are read-only."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.versioning.repo import opened
from genmodel.errors import VersioningError
from genmodel.output.progress import say

if TYPE_CHECKING:
    from dvc.repo import Repo


def has_dvc(root: Path) -> bool:
    return (root / ".dvc").is_dir()


def link_type(root: Path) -> str:
    """How DVC would bring files from its cache: reflink, hardlink, symlink or copy."""
    from dvc_objects.fs.generic import test_links

    with opened(root) as repo:
        cache = repo.cache.local
        Path(cache.path).mkdir(parents=True, exist_ok=True)
        usable: list[str] = test_links(cache.cache_types, cache.fs, cache.path, repo.fs, str(root))
        return usable[0] if usable else "copy"


def remotes(root: Path) -> dict[str, str]:
    """Every remote by name, with why it does not answer; empty if it does."""
    with opened(root) as repo:
        names = list(repo.config["remote"])
    return {name: _trouble(root, name) for name in names}


def _trouble(root: Path, remote: str) -> str:
    try:
        with opened(root) as repo:
            place = repo.cloud.get_remote_odb(remote)
            there = place.fs.exists(place.path)
            return "" if there or place.fs.protocol != "local" else f"there is no folder {place.path}"
    except VersioningError as error:
        return str(error).removeprefix("DVC: ")


def check_list(repo: "Repo", oid: str, remote: str) -> None:
    """VersioningError if the remote's list of the files is damaged: DVC verifies the files in it, but not the list."""
    if _is_damaged(repo.cloud.get_remote_odb(remote), oid):
        raise damaged_there(repo, remote, "the list of files", [oid])


def damaged_there(repo: "Repo", remote: str, what: str, oids: Sequence[str]) -> VersioningError:
    """`oids`: what must go there before a push sends it again; DVC believes what the list names to be there."""
    objects = repo.cloud.get_remote_odb(remote)
    paths = " and ".join(objects.fs.unstrip_protocol(objects.oid_to_path(oid)) for oid in oids)
    return VersioningError(
        f"the remote {remote} has damaged data, {what}: nothing of it is left here; delete {paths} there, and run "
        "`dvc push` where the data are whole"
    )


def drop_damaged(repo: "Repo", target: str, oid: str) -> None:
    """Remove from the cache what is damaged of the folder `oid` that `target` names, and say so: every byte is read."""
    cache = repo.cache.local
    if _is_damaged(cache, oid):
        _drop(cache, oid, "the list of files")
    if cache.exists(oid):
        for each in repo.used_objs([target]).get(None, ()):
            if _is_damaged(cache, each.value):
                _drop(cache, each.value, each.obj_name)


def _is_damaged(objects: Any, oid: str) -> bool:
    """Whether the object is there, and another one than its name says."""
    from dvc_data.hashfile.hash import hash_file

    with contextlib.suppress(FileNotFoundError):
        _, found = hash_file(objects.oid_to_path(oid), objects.fs, "md5")
        return bool(found.value != oid.removesuffix(".dir"))
    return False


def _drop(cache: Any, oid: str, what: str) -> None:
    path = cache.oid_to_path(oid)
    cache.fs.remove(path)
    say(f"warning: DVC's cache had damaged data, {what}: {path} is removed from it")
