"""Where this process runs: the device asked for, the CPU's threads, memory that is kept for the next step."""

import ctypes
import platform
import re
import sys

from genmodel.errors import ConfigError
from genmodel.output.counting import counted

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def use_cpu(threads: int) -> None:
    """Use `threads` threads (0: torch's own choice) and reuse memory, in the whole process.

    A step frees what it allocates, and glibc returns large blocks to the system at once, which then has to clear a new
    page for every 4 KiB of the next step: 27% of Inception's time, 0 to 8% of a training's. So blocks never get their
    own mmap and the heap is not trimmed. Without glibc nothing changes.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):  # not in musl
            library.mallopt(_M_MMAP_MAX, 0)
            library.mallopt(_M_TRIM_THRESHOLD, -1)


def lacks_bf16(device: str) -> bool:
    """Whether bf16 is slower than fp32 here, by a factor of ten and more: an x86 CPU without AVX-512."""
    import torch

    return device == "cpu" and torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT") and _on_x86()


def _on_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


def choose_device(asked: str = "auto") -> str:
    """The device asked for; "auto" is a GPU if torch sees one."""
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", asked):
        raise ConfigError(f"--device {asked}: write cpu, cuda, cuda:1, or auto")
    if asked != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"--device {asked}: torch sees no GPU here; use --device cpu")
    if asked != "cpu" and int(asked.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {asked}: torch sees {counted(torch.cuda.device_count(), 'GPU')} here, numbered from 0"
        )
    return asked
