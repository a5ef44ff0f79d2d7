"""GPUs as NVML sees them: which ones this process may use, and the energy that one has drawn."""

import os
from collections.abc import Callable

_MILLIJOULES = 3.6e9  # in a kilowatt hour


def devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; empty where there is none.

    Without torch, which takes seconds to import.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for each in chosen.split(",") if (name := each.strip()) and name != "-1"]
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError:  # no driver, no permission
        return []


def counter() -> Callable[[], float | None]:
    """Reads the energy in kWh that the first of `devices` has drawn since its driver was loaded, all users together.

    None where it is not known: no GPU, part of one, or one older than Volta.
    """
    found = devices()
    try:
        import pynvml
    except ImportError:
        return lambda: None
    if not found:
        return lambda: None

    def read() -> float | None:
        try:
            pynvml.nvmlInit()
            by_number = found[0].isdecimal()
            handle = (
                pynvml.nvmlDeviceGetHandleByIndex(int(found[0]))
                if by_number
                else pynvml.nvmlDeviceGetHandleByUUID(found[0])
            )
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / _MILLIJOULES
        except pynvml.NVMLError:
            return None

    return read
