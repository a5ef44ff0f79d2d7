"""Another version of the data in the place of the one that lies here: git brought a data.dvc.

Nothing is lost: the version that gives way is in DVC's cache, and the other one is there before it does.
"""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.versioning.dvc import digest, matches, remote_of
from flows.versioning.health import check_list, drop_damaged
from flows.versioning.repo import DATA, DATA_FILE, data_held, opened
from genmodel.errors import VersioningError

if TYPE_CHECKING:
    from dvc.repo import Repo


def data_dvc(root: Path, remote: str | None = None) -> bool:
    """Put the data of data.dvc in the place of another version, which DVC's cache has; False if it does not have it.

    VersioningError if no cache and no remote has data.dvc's version: `dvc checkout` alone would remove the other one
    before it notices.
    """
    if not _is_kept(root):
        return False
    with data_held(root), opened(root) as repo:
        if not _is_here(repo, remote):
            raise VersioningError(
                "data/ is another version than data.dvc's, which is in no cache and no remote: run `dvc push` where it "
                "was made, or take this one back with `git checkout COMMIT data.dvc`"
            )
        repo.checkout([str(root / DATA_FILE)])
    return matches(root)


def _is_kept(root: Path) -> bool:
    """Whether DVC's cache has every file of data/, so that nothing is lost with it."""
    from dvc_data.hashfile.build import build

    with opened(root) as repo:
        (tracked,) = repo.find_outs_by_path(str(root / DATA))
        if not tracked.isdir():
            return False
        there = tracked.cache, tracked.fs_path, tracked.fs, "md5"
        here: Any = build(*there, ignore=tracked.dvcignore, dry_run=True)[2]
        return all(tracked.cache.exists(found.value) for _, _, found in here)


def _is_here(repo: "Repo", remote: str | None) -> bool:
    """Whether DVC's cache has all of data.dvc's version, fetched where a remote has what it lacks."""
    from dvc.exceptions import DvcException

    root = Path(repo.root_dir)
    name = remote_of(repo, remote)
    drop_damaged(repo, str(root / DATA_FILE), digest(root))
    if not _is_cached(repo, digest(root)) and name is not None:
        check_list(repo, digest(root), name)
        with contextlib.suppress(DvcException):  # not all in the remote
            repo.fetch([str(root / DATA_FILE)], remote=name)
    return _is_cached(repo, digest(root))


def _is_cached(repo: "Repo", oid: str) -> bool:
    """Whether DVC's cache has a folder's list of files, and all of these."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    cache = repo.cache.local
    if not cache.exists(oid):
        return False
    listed: Any = Tree.load(cache, HashInfo("md5", oid))
    return all(cache.exists(found.value) for _, _, found in listed)
