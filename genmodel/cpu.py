"""How this process works on its CPU: the number of its threads, and memory that it keeps for its next step."""

import ctypes
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def use_cpu(threads: int) -> None:
    """Work with `threads` threads (0: torch's own choice), in memory that is used again.

    A step frees what it allocates, and glibc hands large blocks back to the system at once, which has to clear a new
    page for every 4 KiB of the next step: 27% of Inception's time, 0 to 8% of a training's. So blocks are never maps of
    their own and the heap is not trimmed. Elsewhere than with glibc nothing changes. For the whole process.
    """
    if threads:
        torch.set_num_threads(threads)
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):  # not in musl
            library.mallopt(_M_MMAP_MAX, 0)
            library.mallopt(_M_TRIM_THRESHOLD, -1)
