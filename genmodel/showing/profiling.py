"""Where a step's time goes: ten steps of a training under torch's profiler."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from genmodel.files import durable
from genmodel.output import progress

_SKIPPED = 10  # steps before it starts: kernels are chosen, memory is allocated
_SEEN = 10
_ROWS = 25  # of the table


@contextlib.contextmanager
def profiled(folder: Path, device: torch.device, wanted: bool) -> Iterator[Callable[[], object]]:
    """Profile steps 11 to 20 of the with block, if `wanted`; yields a function to call after each step.

    Writes `folder`/profile.json, a trace for chrome://tracing or Perfetto, and profile.txt, a table of the operations
    that took the most time themselves, which is also shown.
    """
    if not wanted:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])

    def leave(seen: profile) -> None:
        trace = folder / "profile.json"
        with durable.storage_errors(trace):
            seen.export_chrome_trace(str(trace))
        order = f"self_{'cuda' if device.type == 'cuda' else 'cpu'}_time_total"
        table = seen.key_averages().table(sort_by=order, row_limit=_ROWS, max_name_column_width=48)
        durable.write_text(folder / "profile.txt", table)
        for line in (*table.splitlines(), f"profile of {_SEEN} steps: {trace} (Perfetto opens it), profile.txt"):
            progress.say(line)

    plan = schedule(wait=_SKIPPED - 2, warmup=2, active=_SEEN, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=leave) as profiler:
        yield profiler.step
