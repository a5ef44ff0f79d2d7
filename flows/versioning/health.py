"""What DVC needs of this machine: links between its cache and the working folder, and remotes that answer."""

from pathlib import Path

from flows.versioning.repo import opened
from genmodel.errors import VersioningError


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
