import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flows.tracking.trainings import (
    DataVersion,
    Mark,
    Row,
    Training,
    batches,
    flatten,
    git_commit,
    git_trouble,
    read_finished,
    read_history,
    read_rows,
)
from genmodel.errors import BlockError, ModelError, TrackingError
from genmodel.files import durable
from genmodel.files.model_folder import write_config
from genmodel.output.printable import is_printable


def line(images_seen: int) -> bytes:
    entry = {
        "step": images_seen // 64,
        "images_seen": images_seen,
        "time_ms": 1000 + images_seen,
        "metrics": {"a": 0.5},
    }
    return json.dumps(entry).encode() + b"\n"


@hypothesis_settings(deadline=None)  # it writes files, and a loaded machine takes its time
@given(cuts=st.lists(st.integers(0, 800), max_size=8))
def test_each_row_is_read_once_wherever_the_writer_was_interrupted(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("record") / "metrics.jsonl"
    content = b"".join(line(64 * number) for number in range(8))
    rows, mark = read_rows(path, Mark())
    assert rows == []
    for end in [*sorted(cuts), len(content)]:
        path.write_bytes(content[:end])
        new, mark = read_rows(path, mark)
        rows += new
    assert [row.images_seen for row in rows] == [64 * number for number in range(8)]
    assert rows[2] == Row(128, 1128, {"a": 0.5, "images_seen": 128, "step": 2})


def test_a_rewritten_file_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line(64) + line(128))
    _, mark = read_rows(path, Mark())
    path.write_bytes(line(32) + line(96) + line(160))
    rows, _ = read_rows(path, mark)
    assert [row.images_seen for row in rows] == [32, 96, 160]


@pytest.mark.parametrize("damaged", [b"\x00\x00\n", b'{"step": 1}\n', b"[1]\n"])
def test_a_damaged_line_is_named(damaged: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line(64) + damaged)
    with pytest.raises(TrackingError, match=r"metrics.jsonl is damaged"):
        read_rows(path, Mark())


@given(sizes=st.lists(st.integers(1, 10), max_size=30), limit=st.integers(10, 25))
def test_batches_keep_the_limit_the_order_and_whole_rows(sizes: list[int], limit: int) -> None:
    rows = [Row(number, 0, {str(key): 0.0 for key in range(size)}) for number, size in enumerate(sizes)]
    groups = list(batches(rows, limit))
    assert [row for group in groups for row in group] == rows
    assert all(0 < sum(len(row.metrics) for row in group) <= limit for group in groups)


def test_history_has_the_time_it_is_given_and_leaves_out_what_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("images_seen,step,loss/a,loss/b\n64,1,0.5,\n128,2,0.25,nan\n")
    first, second = read_history(path, 77)
    assert first == Row(64, 77, {"images_seen": 64, "step": 1, "loss/a": 0.5})
    assert (second.images_seen, second.metrics["loss/a"], str(second.metrics["loss/b"])) == (128, 0.25, "nan")


def test_settings_are_flattened() -> None:
    nested = {"family": "vae", "network": {"widths": [1, 2], "deep": {"x": 0.5}}, "flip": False, "none": None}
    flat = {"family": "vae", "network.widths": "[1, 2]", "network.deep.x": "0.5", "flip": "false", "none": "null"}
    assert flatten(nested) == flat


def test_git_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "dvc.lock").write_text("1")
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "dvc.lock").write_text("2")
    assert git_commit(tmp_path) == (head, False)
    (tmp_path / "code.py").write_text("2")
    assert git_commit(tmp_path) == (head, True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_that_git_refuses_is_told_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert git_trouble(tmp_path) == f"{tmp_path} is not in a git repository: run `git init` and commit"
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    assert git_trouble(tmp_path) == f"{tmp_path} has no commit yet: git commit"
    author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *author, "commit", "-q", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True)
    assert git_trouble(tmp_path) == ""
    for path in (tmp_path, tmp_path / ".git"):
        os.chown(path, 65534, 65534)
    cure = f"git config --global --add safe.directory {tmp_path}"
    assert git_trouble(tmp_path) == f"git refuses {tmp_path}, which belongs to another user: {cure}"
    data = DataVersion(digest="0" * 32 + ".dir", source="digits", images=1, classes=1, sizes=(8,))
    training = Training(name="small", family="vae", fingerprint="ab" * 32, config={}, data=data)
    assert cure in training.tags(tmp_path)["genmodel.git"], "and the run says so"
    (tmp_path / "home").mkdir()
    subprocess.run(cure.split(), check=True)
    assert git_trouble(tmp_path) == ""


def test_data_and_training_are_read_from_disk(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"block.json is missing"):
        DataVersion.read(tmp_path, "0.dir")
    facts = {"generations": [{"source": "digits"}], "images": 7, "classes": ["a", "b"], "sizes": [16]}
    durable.write_sealed(tmp_path / "block.json", facts)
    data = DataVersion.read(tmp_path, "0.dir")
    assert data == DataVersion(digest="0.dir", source="digits", images=7, classes=2, sizes=(16,))
    with pytest.raises(ModelError, match=r"config.json is missing"):
        Training.of_model(tmp_path, data)
    about = {"name": "dcgan-small", "fingerprint": "ff", "config": {"family": "dcgan"}, "weights": "w" * 64}
    write_config(tmp_path, about)
    training = Training.of_model(tmp_path, data)
    assert (training.name, training.family, training.fingerprint) == ("dcgan-small", "dcgan", "ff")
    assert Training.from_dict(json.loads(json.dumps(asdict(training)))) == training


def test_a_finished_model_s_rows_are_those_of_its_record_with_their_own_times(
    training: Training, tmp_path: Path
) -> None:
    (tmp_path / "history.csv").write_text("images_seen,step,loss/a\n64,1,0.5\n128,2,0.25\n")
    assert [row.time_ms for row in read_finished(tmp_path, tmp_path / "runs", training, 77)] == [77, 77]
    record = tmp_path / "runs" / training.fingerprint[:16]
    record.mkdir(parents=True)
    (record / "metrics.jsonl").write_bytes(line(64))  # an earlier try of this machine, cut short
    first, second = read_finished(tmp_path, tmp_path / "runs", training, 77)
    assert [first] == read_rows(record / "metrics.jsonl", Mark())[0]
    assert second == Row(128, 77, {"images_seen": 128, "step": 2, "loss/a": 0.25})


def test_text_from_outside_is_escaped_before_mlflow_gets_it(tmp_path: Path) -> None:
    nasty = "a\x1b[2J\nerror: \u202eb"
    data = DataVersion(digest="0" * 32 + ".dir", source=nasty, images=1, classes=1, sizes=(8,))
    training = Training(name=nasty, family="vae", fingerprint="ab" * 32, config={nasty: {"b": nasty}}, data=data)
    told = [data.described()["name"], *training.tags(tmp_path).values(), *training.parameters]
    for text in [*told, *training.parameters.values()]:
        assert is_printable(text), text
