"""Preparations in a project."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from flows.versioning.origin import Origin


def forget_data(root: Path) -> None:
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc/cache")


def clone_of(root: Path) -> Path:
    """What git has of the project once data.dvc is committed, beside it."""
    subprocess.run(["git", "add", "data.dvc", ".dvc"], cwd=root, check=True)
    author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *author, "commit", "--quiet", "--message", "data"], cwd=root, check=True)
    clone = root.with_name("clone")
    subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
    assert not (clone / "data").exists()
    return clone


def prepare(root: Path, origin: Origin, **options: Any) -> Any:
    from flows.prepare import prepare

    return prepare(root, origin, workers=1, return_state=True, **options)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
