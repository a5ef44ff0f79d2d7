import os
import subprocess
import sys

import pytest

from genmodel.output import progress

KILLED = """
import os, signal, sys
from genmodel.output import progress

first = progress.bar(10, 0, "first")
if (child := os.fork()) == 0:
    type(first).get_lock().acquire()  # as in the middle of a line
    os.kill(os.getpid(), signal.SIGKILL)
assert os.waitpid(child, 0)[1] == signal.SIGKILL
progress.bar(10, 0, "second").close()
print("went on")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_that_is_killed_takes_no_bar_s_lock_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=60)
    assert done.stdout == "went on\n", done.stderr


def test_in_a_log_the_first_line_with_time_left_comes_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: clock[0])
    bar = progress.bar(100, 0, "prepare")
    said = []
    for _ in range(30):
        clock[0] += 1
        bar.update(1)
        said.append(capsys.readouterr().err)
    times = [second for second, text in enumerate(said, 1) if text]
    bar.close()
    assert times and 5 <= times[0] <= 6 and len(times) == 3
    assert "of 100" in said[times[0] - 1] and " left" in said[times[0] - 1]
