"""What decides bytes makes a training another one, and says so; what only shows lets it go on."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel.data.block import Block
from genmodel.errors import CheckpointError, StorageError
from genmodel.files import durable
from genmodel.showing.display import Display, train
from genmodel.training.identity import Identity
from genmodel.training.trainer import Training, run_folder


def stop_halfway(identity: Identity, block: Block, runs: Path) -> Training:
    training = Training(identity, block, run_folder(identity, runs), "cpu", fresh=False, watcher=Display())
    while training.images_seen < 160:
        training.step()
        training.record_and_save()
    training.checkpoints.wait()
    return training


@pytest.mark.slow
def test_a_training_goes_on_under_another_log_interval(
    block: Block, toy_identity: Callable[..., Identity], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, after = toy_identity("vae"), toy_identity("vae", log_every=40, checkpoint_every=32)
    assert before.fingerprint == after.fingerprint
    expected = train(before, block, tmp_path / "whole", tmp_path / "whole-runs")
    stop_halfway(before, block, tmp_path / "runs")
    capfd.readouterr()
    folder = train(after, block, tmp_path / "out", tmp_path / "runs")
    assert "resuming at 160 images" in capfd.readouterr().err
    weights = [(place / "weights.safetensors").read_bytes() for place in (tmp_path / "whole", tmp_path / "out")]
    assert weights[0] == weights[1]
    seen = [json.loads(line)["images_seen"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert seen == [56, 112, 200, 240, 280, 320], "the rows of either interval, in order"
    assert json.loads((tmp_path / "out/config.json").read_text())["config"]["training"]["log_every"] == 40
    assert expected.name == folder.name


@pytest.mark.slow
def test_a_new_training_names_the_unfinished_one_before_it_and_how_to_finish_that(
    block: Block, toy_identity: Callable[..., Identity], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = stop_halfway(toy_identity("vae"), block, tmp_path)
    capfd.readouterr()
    train(toy_identity("vae", batch_size=16), block, tmp_path / "out", tmp_path)
    assert (
        f"toy: a new training starts (training.batch_size: 8 -> 16); the one before is in {old.folder}, at 160 of 320 "
        "images: to finish it, restore what is before the arrows and run the same command again"
    ) in capfd.readouterr().err

    train(toy_identity("vae"), block, tmp_path / "out", tmp_path)
    assert "resuming at 160 images" in capfd.readouterr().err
    train(toy_identity("vae", seed=5), block, tmp_path / "out", tmp_path)
    assert "a new training starts" not in capfd.readouterr().err, "both are finished"


@pytest.mark.slow
@pytest.mark.parametrize("line", ["", "{", "[]", '{"images_seen": 40}', '{"images_seen": "x", "metrics": {}}'])
def test_a_damaged_record_names_its_cure(
    line: str, block: Block, toy_identity: Callable[..., Identity], tmp_path: Path
) -> None:
    identity = toy_identity("vae")
    folder = stop_halfway(identity, block, tmp_path).folder
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([line, *rows[1:], ""]))
    with pytest.raises(CheckpointError) as caught:
        train(identity, block, tmp_path / "out", tmp_path)
    said = f"{folder / 'metrics.jsonl'} is damaged: remove {folder} and run the same command again"
    assert str(caught.value).startswith(said)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_a_folder_that_is_there_and_cannot_be_written_is_told_at_once() -> None:
    """Before the training: mkdir of a folder that is there says nothing."""
    with tempfile.TemporaryDirectory() as place:
        closed = Path(place) / "closed"
        closed.mkdir()
        Path(place).chmod(0o755)
        durable.probe(closed)
        assert not list(closed.iterdir())
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                durable.probe(closed)
            except StorageError as error:
                os._exit(0 if f"not allowed to write {closed}" in str(error) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
