"""Memory that a step frees is there for the next one; the number of threads is the configured one."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from genmodel.devices import lacks_bf16

PROGRAM = """
import resource, sys, torch
from genmodel.devices import use_cpu

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    a = torch.zeros(1 << 22)  # 16 MiB
    return sum((a + number).sum() for number in range(4))

if sys.argv[1] == "kept":
    use_cpu(0)
for _ in range(10):
    step()
before = faults()
for _ in range(20):
    step()
print(faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this memory is kept with glibc alone")
def test_a_step_takes_no_new_pages_once_it_has_run() -> None:
    # twenty steps of several blocks, 4,096 pages each; the heap may still grow by a few of them
    assert new_pages("kept") < 10 * 4096
    assert new_pages("as it is") > 20 * 4096


def new_pages(how: str) -> int:
    # large blocks are maps of their own from the first on: glibc learns from frees, and how fast is a matter of luck
    environ = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, env=environ)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "used"), [(3, 3), (0, 2)])
def test_threads_are_those_that_are_asked_for(asked: int, used: int) -> None:
    program = "import sys, torch, genmodel.devices as c; torch.set_num_threads(2); c.use_cpu(int(sys.argv[1]))"
    program += "; print(torch.get_num_threads())"
    done = subprocess.run([sys.executable, "-c", program, str(asked)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == used


@pytest.mark.parametrize(
    ("capability", "machine", "device", "lacks"),
    [
        ("AVX2", "x86_64", "cpu", True),
        ("AVX512", "x86_64", "cpu", False),
        ("DEFAULT", "aarch64", "cpu", False),
        ("AVX2", "x86_64", "cuda", False),
    ],
)
def test_which_machine_lacks_bf16(
    capability: str, machine: str, device: str, lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert lacks_bf16(device) is lacks
