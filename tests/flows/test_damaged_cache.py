"""A bit of DVC's cache that flips: DVC trusts read-only files, so that it reaches data/; nothing is learned from it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.prepare import ensure
from flows.versioning import dvc as versioning
from genmodel.data.block import Block
from genmodel.errors import VersioningError
from tests.flows.preparing import tree
from tests.flows.small_project import Stage

SHARD = "8/shard-00000.npy"
CONFIG = Path(__file__).parents[2] / ".dvc" / "config"


@pytest.fixture
def versioned(project: Path) -> Path:
    """The small project under DVC with this one's settings, and a remote."""
    (project / ".dvc").mkdir()
    settings = CONFIG.read_text().replace("[core]", "[core]\n    remote = store", 1)
    (project / ".dvc/config").write_text(f"{settings}\n['remote \"store\"']\n    url = {project / 'store'}\n")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    versioning.add(project, {"source": "gone", "sizes": [8]})
    return project


def flip(project: Path) -> Path:
    """Flip a bit of the cached shard, its times and mode kept, as a disk does; what links to it changes, too."""
    content = (project / "data" / SHARD).read_bytes()
    (path,) = (path for path in (project / ".dvc/cache").rglob("*") if path.is_file() and path.read_bytes() == content)
    stat = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as handle:
        handle.seek(1000)
        handle.write(bytes([content[1000] ^ 1]))
    path.chmod(stat.st_mode)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return path


@pytest.mark.fault("damaged object in DVC's cache")
def test_nothing_is_learned_from_what_the_cache_has_spoilt(versioned: Path, fails: Stage) -> None:
    flip(versioned)
    shutil.rmtree(versioned / "data")
    subprocess.run(["python", "-m", "dvc", "checkout", "--quiet", "data.dvc"], cwd=versioned, check=True)
    assert Block.open(versioned / "data").verify(), "DVC has noticed it: there is nothing to prove"
    for stage in (["reference"], ["train", "small"]):
        assert fails(*stage).startswith(f"data/{SHARD}")
    assert not (versioned / "models/small").exists() and not (versioned / "reference").exists()


@pytest.mark.fault("damaged object in DVC's cache")
@pytest.mark.parametrize("pushed", [True, False])
def test_it_is_removed_before_data_come_out_of_the_cache(
    versioned: Path, pushed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(versioned / "data")
    if pushed:
        versioning.push(versioned)
    path = flip(versioned)
    shutil.rmtree(versioned / "data")
    capfd.readouterr()
    if pushed:
        ensure(versioned)
        assert tree(versioned / "data") == before and path.exists()
    else:
        with pytest.raises(VersioningError, match=r"^data/ is absent, in no cache and no remote, and cannot be made"):
            ensure(versioned)
        assert not (versioned / "data").exists() and not path.exists()
    assert f"warning: DVC's cache had damaged data, data/{SHARD}: {path} is removed from it\n" in capfd.readouterr().err


@pytest.mark.fault("damaged object in DVC's cache")
def test_a_list_of_files_that_the_cache_has_spoilt(versioned: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = tree(versioned / "data")
    versioning.push(versioned)
    oid = versioning.digest(versioned)
    path = versioned / ".dvc/cache/files/md5" / oid[:2] / oid[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"block.json", b"clock.json"))
    shutil.rmtree(versioned / "data")
    ensure(versioned)
    assert tree(versioned / "data") == before
    assert f"had damaged data, the list of files: {path} is removed" in capfd.readouterr().err
