import errno
import hashlib
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest

from genmodel import durable
from genmodel.errors import StorageError


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write_text(path, "old")

    def fail(handle: BinaryIO) -> None:
        handle.write(b"half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        durable.write_with(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("number", "message"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "not allowed")])
def test_a_full_or_closed_disk_is_one_line(tmp_path: Path, number: int, message: str) -> None:
    def fail(_: BinaryIO) -> None:
        raise OSError(number, "as the system says it")

    with pytest.raises(StorageError, match=rf"{message} .*file"):
        durable.write_with(tmp_path / "file", fail)


def test_a_really_full_disk_keeps_the_old_file() -> None:
    """/dev/full refuses every byte with ENOSPC."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(StorageError, match="no space left"),
        durable.storage_errors(Path("block")),
        Path("/dev/full").open("wb", buffering=0) as handle,
    ):
        handle.write(b"x")


def make(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "content").write_text(text)
    return folder


def test_replace_folder_takes_the_old_ones_place(tmp_path: Path) -> None:
    target = make(tmp_path / "target", "old")
    durable.replace_folder(make(tmp_path / "new", "new"), target)
    assert (target / "content").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_replace_folder_after_a_kill_between_its_two_renames(tmp_path: Path) -> None:
    make(tmp_path / ".target.old", "old")
    new = make(tmp_path / "new", "new")
    durable.replace_folder(new, tmp_path / "target")
    assert (tmp_path / "target" / "content").read_text() == "new"
    assert not (tmp_path / ".target.old").exists()


def test_digests(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytes(range(256)) * 10_000
    durable.write_bytes(path, content)
    assert durable.digest_file(path) == durable.digest_bytes(content) == hashlib.sha256(content).hexdigest()
    assert durable.digest_json({"a": 1, "b": 2}) == durable.digest_json({"b": 2, "a": 1})


def test_json_refuses_what_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        durable.write_json(tmp_path / "file", {"loss": float("nan")})
    assert not (tmp_path / "file").exists()


def test_a_folder_is_there_whole_or_not_at_all_when_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    durable.write_text(folder / "deep/file", "content")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            durable.remove_folder(folder)
    assert not folder.exists() and [path.name for path in tmp_path.iterdir()] == [".run.gone"]
    durable.write_text(folder / "file", "new")
    durable.remove_folder(folder)
    assert list(tmp_path.iterdir()) == []
    durable.remove_folder(folder)


def test_a_lock_has_one_holder_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "place/lock"
    with durable.sole(path, "busy"):
        with pytest.raises(StorageError, match=r"^busy$"), durable.sole(path, "busy"):
            pass
        assert path.exists(), "who was refused has not removed it"
    assert not path.exists()
    with durable.sole(path, "busy"):
        pass


def test_a_lock_that_its_holder_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = tmp_path / "lock", []
    real = Path.open

    def removed_after(self: Path, *arguments: str) -> object:
        opened.append(real(self, *arguments))
        if len(opened) == 1:
            self.unlink()
        return opened[-1]

    monkeypatch.setattr(Path, "open", removed_after)
    with durable.sole(path, "busy"):
        assert len(opened) == 2 and path.exists()
