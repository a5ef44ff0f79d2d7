"""No GPU is at hand where these tests run: torch.cuda and NVML are stood in for by objects that behave like them."""

import contextlib
import sys
import time
import types

import pytest
import torch

from genmodel.showing import gauges
from genmodel.showing.gauges import Gauges, PhaseClock

CUDA = torch.device("cuda", 0)
UUID = "3f8f4d7c-1111-2222-3333-444455556666"


class Nvml(types.ModuleType):
    """pynvml with one GPU, as far as it is used; `fails` names functions that raise as on a machine without them."""

    class NVMLError(Exception):
        pass

    def __init__(self, millijoules: int = 0, fails: str = "") -> None:
        super().__init__("pynvml")
        self.millijoules, self.fails, self.ready = millijoules, fails, False

    def _can(self, name: str) -> None:
        if name == self.fails:
            raise self.NVMLError(name)

    def nvmlInit(self) -> None:  # noqa: N802
        self._can("init")
        self.ready = True

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if not self.ready or uuid != f"GPU-{UUID}":
            raise self.NVMLError("not initialised, or no such GPU")
        self._can("handle")
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        assert handle == "handle"
        self._can("energy")
        return self.millijoules


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**29)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid=UUID))
    return monkeypatch


def test_a_cpu_has_nothing_to_tell() -> None:
    assert Gauges(torch.device("cpu")).read() == {}
    assert Gauges(torch.device("cpu"), energy_kwh=2.5).energy_kwh == 2.5, "kept for the next checkpoint"


def test_energy_counts_from_the_start_and_over_resumes(gpu: pytest.MonkeyPatch) -> None:
    nvml = Nvml(millijoules=7_200_000_000)
    gpu.setitem(sys.modules, "pynvml", nvml)
    first = Gauges(CUDA)
    assert first.read() == {"gpu/memory_gib": 1.5, "gpu/energy_kwh": 0.0}
    nvml.millijoules += 1_800_000_000
    assert first.read()["gpu/energy_kwh"] == pytest.approx(0.5)
    nvml.millijoules = 40  # another machine, or the driver loaded anew
    resumed = Gauges(CUDA, energy_kwh=first.energy_kwh)
    nvml.millijoules += 900_000_000
    assert resumed.read()["gpu/energy_kwh"] == pytest.approx(0.75) == pytest.approx(resumed.energy_kwh)


@pytest.mark.parametrize("fails", ["init", "handle", "energy"])
def test_an_nvml_that_cannot_tell_leaves_the_memory(fails: str, gpu: pytest.MonkeyPatch) -> None:
    gpu.setitem(sys.modules, "pynvml", Nvml(fails=fails))
    held = Gauges(CUDA, energy_kwh=0.25)
    assert held.read() == {"gpu/memory_gib": 1.5}
    assert held.energy_kwh == 0.25


def test_a_gpu_that_falls_silent_in_the_middle(gpu: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    gpu.setitem(sys.modules, "pynvml", nvml)
    held = Gauges(CUDA)
    nvml.millijoules = 3_600_000_000
    assert held.read()["gpu/energy_kwh"] == 1.0
    nvml.fails = "energy"
    assert held.read() == {"gpu/memory_gib": 1.5}
    assert held.energy_kwh == 1.0


@pytest.mark.parametrize("module", [None, types.ModuleType("pynvml")], ids=["missing", "too old"])
def test_no_pynvml_leaves_the_memory(module: types.ModuleType | None, gpu: pytest.MonkeyPatch) -> None:
    gpu.setitem(sys.modules, "pynvml", module)
    assert Gauges(CUDA).read() == {"gpu/memory_gib": 1.5}


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    found = Hands()
    monkeypatch.setattr(gauges, "time", found)
    return found


def test_shares_of_the_time(hands: Hands) -> None:
    clock = PhaseClock()
    for _ in range(2):
        with clock.phase("data"):
            hands.now += 1
        with clock.phase("step"):
            hands.now += 3
    hands.now += 2
    assert clock.read_and_reset() == {"time/other": 0.2, "time/data": 0.2, "time/step": 0.6}
    with clock.phase("data"):
        hands.now += 5
    assert clock.read_and_reset() == {"time/other": 0.0, "time/data": 1.0, "time/step": 0.0}


def test_a_phase_inside_another_and_one_that_is_under_way(hands: Hands) -> None:
    clock = PhaseClock()
    with clock.phase("record"):
        hands.now += 1
        with clock.phase("samples"):
            hands.now += 2
        hands.now += 1
        assert clock.read_and_reset() == {"time/other": 0.0, "time/record": 0.5, "time/samples": 0.5}
        hands.now += 1
    hands.now += 3
    assert clock.read_and_reset() == {"time/other": 0.75, "time/record": 0.25, "time/samples": 0.0}


def test_a_phase_that_fails_ends_too(hands: Hands) -> None:
    clock = PhaseClock()
    with contextlib.suppress(KeyError), clock.phase("step"):
        hands.now += 1
        raise KeyError
    hands.now += 1
    assert clock.read_and_reset() == {"time/other": 0.5, "time/step": 0.5}


def test_it_costs_little() -> None:
    clock = PhaseClock()
    start = time.perf_counter()
    for _ in range(1_000):
        with clock.phase("step"):
            pass
    assert time.perf_counter() - start < 0.5, "a few microseconds each"
    assert sum(clock.read_and_reset().values()) == pytest.approx(1)
