import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest

from genmodel.errors import EvaluationError, StorageError
from genmodel.files import durable


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


@pytest.mark.slow
def test_every_flipped_bit_of_a_sealed_file_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    told = {"name": "vae", "figures": {"fd": 1.5e-05, "none": None}, "ends": [1, 2.25], "ok": True, "text": "\u00e9"}
    durable.write_sealed(path, told)
    assert durable.read_sealed(path, EvaluationError, "make it again") == told
    content = path.read_bytes()
    noticed = 0
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert durable.read_sealed(path, EvaluationError, "make it again") == told
        except EvaluationError as error:
            said = str(error)
            noticed += said.startswith(f"{path} ") and said.endswith(": make it again")
    assert noticed > 0.8 * 8 * len(content), "the rest is space between the values"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b"null", b'{"a": NaN, "checksum": "x"}', b"\xff" * 9, b"[" * 10**6]
)
def test_a_cut_or_foreign_sealed_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"told.json is damaged: make it again$"):
        durable.read_sealed(path, EvaluationError, "make it again")


def test_a_sealed_file_that_is_missing_or_of_an_older_version_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    with pytest.raises(EvaluationError, match=r"told.json is missing: make it again$"):
        durable.read_sealed(path, EvaluationError, "make it again")
    durable.write_json(path, {"a": 1})
    with pytest.raises(EvaluationError, match=r"told.json has no checksum, it is damaged or from an older version"):
        durable.read_sealed(path, EvaluationError, "make it again")
    path.unlink()
    path.mkdir()
    with pytest.raises(EvaluationError, match=r"told.json cannot be read"):
        durable.read_sealed(path, EvaluationError, "make it again")


def test_equal_contents_are_sealed_as_equal_bytes(tmp_path: Path) -> None:
    durable.write_sealed(tmp_path / "one", {"a": 1, "b": [2]})
    durable.write_sealed(tmp_path / "two", {"b": (2,), "a": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert json.loads((tmp_path / "one").read_text())["checksum"] == durable.digest_json({"a": 1, "b": [2]})


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o644), (0o022, 0o644), (0o077, 0o600)])
def test_others_may_never_write_what_is_written(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        durable.write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode
