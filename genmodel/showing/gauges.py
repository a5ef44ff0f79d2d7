"""What a training costs, for the record: the GPU's memory and energy, and where the time goes."""

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

_OTHER = "other"  # the time outside all phases
_MILLIJOULES = 3.6e9  # in a kilowatt hour


class Gauges:
    """The memory and energy of the GPU that a training runs on; nothing on a CPU.

    Energy is what NVML counts for the whole GPU (Volta and newer), including other users. Without pynvml (the package
    nvidia-ml-py), or if NVML or the GPU does not report it, only memory is measured.
    """

    def __init__(self, device: torch.device, energy_kwh: float = 0.0) -> None:
        """`energy_kwh` is what the training had used before it was resumed."""
        self.device = device
        self.energy_kwh = energy_kwh  # as of the last read
        self._millijoules = _energy_counter(device)
        first = self._millijoules()
        self._zero = None if first is None else first - energy_kwh * _MILLIJOULES

    def read(self) -> dict[str, float]:
        """gpu/memory_gib, the most allocated so far, and gpu/energy_kwh since the start, over all resumes."""
        if self.device.type != "cuda":
            return {}
        found = {"gpu/memory_gib": torch.cuda.max_memory_allocated(self.device) / 2**30}
        now = self._millijoules()
        if now is not None and self._zero is not None:
            self.energy_kwh = (now - self._zero) / _MILLIJOULES
            found["gpu/energy_kwh"] = self.energy_kwh
        return found


def _energy_counter(device: torch.device) -> Callable[[], float | None]:
    """Reads the GPU's energy in mJ since its driver was loaded; None if it is not known."""
    if device.type != "cuda":
        return lambda: None
    try:
        from pynvml import NVMLError, nvmlDeviceGetHandleByUUID, nvmlDeviceGetTotalEnergyConsumption, nvmlInit
    except ImportError:  # not installed, or too old for Volta
        return lambda: None
    try:
        nvmlInit()
        # by UUID: NVML numbers the GPUs of the machine, torch those that CUDA_VISIBLE_DEVICES lets it see
        handle = nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except NVMLError:  # no driver, too old, no permission, part of a GPU
        return lambda: None

    def read() -> float | None:
        try:
            return float(nvmlDeviceGetTotalEnergyConsumption(handle))
        except NVMLError:
            return None

    return read


class PhaseClock:
    """Shares of the time by phase: `with clock.phase("data"): ...`; a phase inside another stops the outer one.

    It never waits for the GPU, which runs asynchronously: its time shows in the phase that waits for it.
    """

    def __init__(self) -> None:
        self._seconds = {_OTHER: 0.0}
        self._phase, self._since = _OTHER, time.perf_counter()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        outer = self._phase
        self._turn_to(name)
        try:
            yield
        finally:
            self._turn_to(outer)

    def _turn_to(self, name: str) -> None:
        now = time.perf_counter()
        self._seconds[self._phase] += now - self._since
        self._phase, self._since = name, now
        self._seconds.setdefault(name, 0.0)

    def read_and_reset(self) -> dict[str, float]:
        """time/PHASE -> its share in [0, 1] since the last call, with time/other for the rest; together they are 1."""
        self._turn_to(self._phase)  # a running phase counts up to here
        total = sum(self._seconds.values()) or 1.0
        shares = {f"time/{name}": seconds / total for name, seconds in self._seconds.items()}
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        return shares
