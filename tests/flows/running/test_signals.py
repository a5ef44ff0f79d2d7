"""Signals in every stage: SIGTERM and SIGHUP end all, and the next run goes on; what SIGSTOP holds up loses nothing."""

import contextlib
import os
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.flows.running.processes import SLOW, Line, below, read, wait_for
from tests.kills import KILLS

SIGNALS = signal.SIGTERM, signal.SIGHUP
STAGES = ["train-dcgan", "evaluate-vae", "compare", "register"]
# whatever continues it before it may go on, it stops again
STOPPED = """
pathlib.Path('{0}.pid').write_text(str(os.getpid()))
while not pathlib.Path('{0}.go').exists():
    os.kill(os.getpid(), 19)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault("SIGTERM, SIGHUP, SIGSTOP in each stage"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for survivors in /proc"),
]


def ran(line: Line) -> Counter[str]:
    return Counter("-".join(words.split()) for words in (line.root / "ran.txt").read_text().splitlines())


def is_stopped(pid: int) -> bool:
    return read(pid, "stat").rpartition(")")[2].split()[:1] == ["T"]


@pytest.mark.timeout(1500)
def test_a_flow_that_is_told_to_end_ends_with_its_stage_and_the_next_goes_on(line: Line) -> None:
    """By one of the two signals in each stage, in turn; with GENMODEL_KILLS=2 by both."""
    (line.root / "trick-train-dcgan.py").unlink()
    both = range(min(KILLS, 2))
    ended = [(stage, SIGNALS[(place + turn) % 2]) for place, stage in enumerate(STAGES) for turn in both]
    for stage, number in ended:
        (line.root / f"trick-{stage}.py").write_text(SLOW.format(250))
        line.start()
        line.wait_for_training()
        line.process.send_signal(number)
        line.killed = time.monotonic()
        assert not line.survivors(flow_may_live=False), (stage, number)
        assert line.process.wait(10) != 0
        (line.root / f"trick-{stage}.py").unlink()
        (line.root / "training.pid").unlink()
    assert line.start().wait(120) == 0, line.told()
    assert "Traceback" not in line.told()
    begun = Counter(stage for stage, _ in ended)
    assert {stage: ran(line)[stage] for stage in STAGES} == {stage: begun[stage] + 1 for stage in STAGES}
    assert (line.root / "decision.json").exists()


@pytest.mark.timeout(1500)
def test_what_is_stopped_and_continued_goes_on(line: Line) -> None:
    """Each stage stops itself; then so do its guard, its dvc, the flow and the server, for longer than guards wait."""
    for stage in STAGES:
        (line.root / f"trick-{stage}.py").write_text(STOPPED.format(stage))
    line.start()
    for stage in STAGES:
        own = line.wait_for_training(f"{stage}.pid")
        wait_for(partial(is_stopped, own), 10)
        every = [line.process.pid, *below(line.process.pid)]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for each in every:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, number)
            time.sleep(2)
        assert line.process.poll() is None, stage
        wait_for(partial(is_stopped, own), 10)
        (line.root / f"{stage}.go").touch()
        os.kill(own, signal.SIGCONT)
    assert line.process.wait(120) == 0, line.told()
    assert ran(line) == dict.fromkeys([*STAGES, "train-vae", "evaluate-dcgan"], 1)
