"""Data that a stage of DVC reads in another process: `prepare` and `--update` refuse before they move anything."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml

from flows.versioning import dvc as versioning
from flows.versioning.origin import Origin, Step
from genmodel.data.sources.meaning.layout import Layout
from genmodel.sizes import Size
from tests.flows.preparing import prepare, tree
from tests.flows.toy_project import environment

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]


@pytest.mark.parametrize("update", [False, True])
def test_data_that_a_stage_reads_are_not_replaced(empty_project, sources: list[str], update: bool) -> None:
    root = empty_project.root
    origin = Origin(source=sources[0], sizes=(Size.of(8),))
    assert prepare(root, origin).is_completed()
    step = Step(source=sources[1], layout=Layout(allow_new_classes=True))
    other = replace(origin, updates=(step,)) if update else replace(origin, source=sources[1])
    before = tree(root / "data") | {"data.dvc": (root / "data.dvc").read_bytes()}
    stage = {"cmd": "touch reads && sleep 600", "deps": ["data"]}
    empty_project.write("dvc.yaml", yaml.safe_dump({"stages": {"train": stage}}))
    repro = [sys.executable, "-m", "dvc", "repro", "--quiet", "train"]
    with subprocess.Popen(repro, cwd=root, env=environment(), start_new_session=True) as reader:
        try:
            while not (root / "reads").exists():
                assert reader.poll() is None
                time.sleep(0.05)
            state = prepare(root, other, update=update)
        finally:
            os.killpg(reader.pid, signal.SIGKILL)
    assert state.message == f"another DVC process is at work in {root}: wait for it, then run again"
    assert tree(root / "data") | {"data.dvc": (root / "data.dvc").read_bytes()} == before
    assert not (root / "data.update.json").exists()
    assert prepare(root, other, update=update).is_completed(), "the reader is gone"
    assert Origin.of_data(root) == other and versioning.matches(root)
