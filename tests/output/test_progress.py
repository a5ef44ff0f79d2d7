import os
import subprocess
import sys

import pytest

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
