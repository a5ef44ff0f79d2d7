"""Push and pull through real remotes, a folder and an S3 endpoint; an object that was damaged there is refused."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from flows.prepare import ensure
from flows.versioning import dvc as versioning
from genmodel.errors import VersioningError
from tests.flows.preparing import tree

ORIGIN = {"source": "digits", "sizes": [16]}
CONFIG = Path(__file__).parents[2] / ".dvc" / "config"


class Remote(NamedTuple):
    options: dict[str, str]
    objects: Callable[[], dict[str, bytes]]
    put: Callable[[str, bytes], None]
    delete: Callable[[str], None]


def configure(root: Path, **options: str) -> None:
    """This project's DVC settings and a default remote with these options."""
    settings = CONFIG.read_text().replace("[core]", "[core]\n    remote = store", 1)
    remote = "".join(f"    {key} = {value}\n" for key, value in options.items())
    (root / ".dvc" / "config").write_text(f"{settings}\n['remote \"store\"']\n{remote}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this one's DVC settings, and data of three files, one of them above 1 MiB."""
    root = tmp_path / "project"
    (root / "data" / "16").mkdir(parents=True)
    (root / "data" / "block.json").write_text("{}")
    for shard, size in enumerate((1000, 3 << 20)):
        (root / "data" / "16" / f"shard-{shard:05d}.npy").write_bytes(os.urandom(size))
    (root / ".dvc").mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return root


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an S3 server of our own on a free port."""
    pytest.importorskip("moto.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None and time.monotonic() < deadline, "the S3 server did not start"
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A place to push to: its options for DVC, what it holds, and how to put something else there."""
    if request.param == "folder":
        store = tmp_path / "store"

        def put(name: str, content: bytes) -> None:
            (store / name).chmod(0o644)
            (store / name).write_bytes(content)

        return Remote({"url": str(store)}, lambda: tree(store), put, lambda name: (store / name).unlink())
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    address = request.getfixturevalue("endpoint")
    s3 = boto3.resource("s3", endpoint_url=address, region_name="us-east-1")
    bucket = s3.create_bucket(Bucket=f"bucket{len(list(s3.buckets.all()))}")
    return Remote(
        {"url": f"s3://{bucket.name}", "endpointurl": address, "region": "us-east-1"},
        lambda: {held.key: held.get()["Body"].read() for held in bucket.objects.all()},
        lambda name, content: bucket.put_object(Key=name, Body=content) and None,
        lambda name: bucket.Object(name).delete() and None,
    )


def forget(root: Path) -> None:
    """As a fresh clone: neither data nor cache."""
    for place in (root / "data", root / ".dvc" / "cache", root / ".dvc" / "tmp"):
        shutil.rmtree(place, ignore_errors=True)


def test_the_cache_links_instead_of_copying(project: Path) -> None:
    """With this project's own settings; a reflink looks like a file of its own."""
    shutil.copy(CONFIG, project / ".dvc" / "config")
    assert 'type = "reflink,hardlink,symlink"' in CONFIG.read_text()
    versioning.add(project, ORIGIN)
    linked = [path.is_symlink() or path.stat().st_nlink > 1 for path in (project / "data" / "16").iterdir()]
    cached = next(path for path in (project / ".dvc" / "cache").rglob("*") if path.stat().st_size == 3 << 20)
    assert all(linked) or reflinks(cached, project / "reflink")


def test_data_goes_there_and_comes_back(project: Path, remote: Remote) -> None:
    configure(project, **remote.options)
    before = tree(project / "data")
    versioning.add(project, ORIGIN)
    assert versioning.push(project) == "store"
    assert {*before.values()} < {*remote.objects().values()}  # and the list of the folder's files
    forget(project)
    assert versioning.restore(project)
    assert tree(project / "data") == before


def reflinks(path: Path, copy: Path) -> bool:
    """Whether the file system shares the blocks of copies."""
    return subprocess.run(["cp", "--reflink=always", str(path), str(copy)], capture_output=True).returncode == 0


def pull_by_hand(root: Path) -> bool:
    """Whether a plain `dvc pull` succeeds."""
    done = subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet"], cwd=root, capture_output=True)
    return done.returncode == 0


def flip(remote: Remote, which: Callable[[tuple[str, bytes]], object]) -> str:
    """Flip a bit of the object that `which` ranks highest; returns its name."""
    name, held = max(remote.objects().items(), key=which)
    remote.put(name, held[:-1] + bytes([held[-1] ^ 1]))
    return name


@pytest.mark.fault("damaged object in a DVC remote")
@pytest.mark.parametrize("verify", [{}, {"verify": "false"}], ids=["unset", "false"])
def test_a_flipped_bit_there_is_refused_however_the_remote_is_set(
    project: Path, remote: Remote, verify: dict[str, str]
) -> None:
    configure(project, **remote.options, **verify)
    before = tree(project / "data")
    versioning.add(project, ORIGIN)
    versioning.push(project)
    name = flip(remote, lambda item: len(item[1]))
    forget(project)
    line = r"^the remote store has damaged data, data/16/shard-00001.npy: .* delete \S+ and \S+\.dir there, [^\n]+$"
    for call in (versioning.restore, ensure):
        with pytest.raises(VersioningError, match=line) as caught:
            call(project)
        assert name in str(caught.value)
        assert not (project / "data").exists()
        kept = tree(project / ".dvc" / "cache").values()
        assert set(kept) < {*before.values(), *remote.objects().values()} and max(map(len, kept)) < 1 << 20

    assert pull_by_hand(project)  # DVC's default takes what comes
    assert tree(project / "data") != before

    for damaged in (name, *(listed for listed in remote.objects() if listed.endswith(".dir"))):  # as the line says
        remote.delete(damaged)
    forget(project)
    for path, content in before.items():
        (project / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (project / "data" / path).write_bytes(content)
    versioning.add(project, ORIGIN)
    versioning.push(project)
    forget(project)
    assert versioning.restore(project) and tree(project / "data") == before


@pytest.mark.fault("damaged object in a DVC remote")
@pytest.mark.parametrize("change", [(b"block.json", b"clock.json"), (b"[{", b"?{"), (b'"md5": "', b'"md5": "0')])
def test_a_damaged_list_of_the_files_is_refused(project: Path, remote: Remote, change: tuple[bytes, bytes]) -> None:
    """Which DVC takes as it comes, `verify` or not, as long as it is JSON."""
    configure(project, **remote.options)
    versioning.add(project, ORIGIN)
    versioning.push(project)
    name, held = next(item for item in remote.objects().items() if item[0].endswith(".dir"))
    remote.put(name, held.replace(*change, 1))
    forget(project)
    with pytest.raises(VersioningError, match=rf"^the remote store has damaged data, the list of files: [^\n]*{name}"):
        versioning.restore(project)
    assert not (project / "data").exists() and not (project / ".dvc" / "cache" / name).exists()


@pytest.mark.fault("DVC remote without the data")
def test_what_is_not_there_is_no_damage(project: Path, remote: Remote) -> None:
    configure(project, **remote.options)
    versioning.add(project, ORIGIN)
    forget(project)
    assert not versioning.restore(project)


@pytest.mark.parametrize("place", ["config", "config.local"])
def test_verify_is_set_for_a_pull_by_hand(project: Path, remote: Remote, place: str) -> None:
    configure(project, **remote.options)
    if place == "config.local":
        (project / ".dvc" / "config").rename(project / ".dvc" / "config.local")
    versioning.add(project, ORIGIN)
    line = versioning.secure(project)
    assert line.startswith(f"remote store: verify = true is now in .dvc/{place}, ") and "\n" not in line
    assert versioning.secure(project) == ""
    assert (project / ".dvc" / "config").exists() == (place == "config")
    assert versioning.push(project) == "store"
    flip(remote, lambda item: len(item[1]))
    forget(project)
    assert not pull_by_hand(project)


def test_what_is_not_the_project_s_to_set(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote of the user's global settings, one whose `verify` was chosen, one that is nowhere, and none."""
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    assert versioning.secure(project) == versioning.secure(project, "nowhere") == ""
    configure(project, url=str(tmp_path / "store"))
    (tmp_path / "global").mkdir()
    (project / ".dvc" / "config").rename(tmp_path / "global" / "config")
    before = (tmp_path / "global" / "config").read_bytes()
    assert "run `dvc remote modify --global store verify true`, or" in versioning.secure(project)
    assert (tmp_path / "global" / "config").read_bytes() == before
    configure(project, url=str(tmp_path / "store"), verify="false")
    assert versioning.secure(project) == ""
