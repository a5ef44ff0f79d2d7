"""`python -m flows.doctor`: what stands in the way of a retraining on this machine, each with its fix.

It changes nothing, and exits with 1 if anything is wrong.
"""

import argparse
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zoneinfo import ZoneInfo

from packaging.requirements import Requirement

from flows.settings import Settings
from flows.versioning import health
from genmodel.errors import GenmodelError, user_errors
from genmodel.output.masking import masked
from genmodel.output.printable import printable

_AHEAD = 300  # seconds that a file's time may lie in the future
_SPARE = 2 * 2**30  # bytes that a run needs beside the data: models, reports, databases


@dataclass(frozen=True)
class Finding:
    what: str
    told: str
    fix: str = ""  # empty: all is well


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m flows.doctor", description=__doc__).parse_args(argv)
    with user_errors():
        settings = Settings.read(os.environ, Path.cwd())
        settings.apply()
        wrong = 0
        for finding in findings(settings):
            wrong += bool(finding.fix)
            mark, fix = ("fix", f": {finding.fix}") if finding.fix else ("OK", "")
            print(printable(f"{mark:4} {finding.what:10} {finding.told}{fix}"), flush=True)
    return int(wrong > 0)


def findings(settings: Settings) -> Iterator[Finding]:
    """Every check; one that meets an error of its own tells it and stops no other."""
    checks: dict[str, Callable[[Settings], Iterator[Finding]]] = {
        "packages": _packages,
        "device": _device,
        "disk": _disk,
        "memory": _memory,
        "data": _data,
        "MLflow": _mlflow,
        "Prefect": _prefect,
        "secrets": _secrets,
        "clock": _clock,
    }
    for what, check in checks.items():
        try:
            yield from check(settings)
        except GenmodelError as error:
            told, _, fix = masked(str(error)).partition(": ")
            yield Finding(what, told, fix or "see above")


def _packages(settings: Settings) -> Iterator[Finding]:
    """Those of requirements.lock, at its versions: others have broken each other."""
    lock = settings.root / "requirements.lock"
    if not lock.exists():
        yield Finding("packages", "there is no requirements.lock to compare with")
        return
    other, absent, count = [], [], 0
    for line in re.findall(r"^[\w.\-]+(?:\[.*\])?==[^\\\n]+", lock.read_text(), re.MULTILINE):
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate():  # for another system, or another Python
            continue
        count += 1
        try:
            if not wanted.specifier.contains(found := version(wanted.name), prereleases=True):
                other.append(f"{wanted.name} {found} instead of {str(wanted.specifier).removeprefix('==')}")
        except PackageNotFoundError:
            absent.append(wanted.name)
    told = "; ".join(filter(None, [", ".join(other), f"missing: {', '.join(absent)}" if absent else ""]))
    if told:
        yield Finding("packages", told, "`make setup` with a new .venv installs what requirements.lock says")
    else:
        yield Finding("packages", f"{count} as in requirements.lock")


def _device(_: Settings) -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count()))
        yield Finding("device", f"{names}; CUDA {torch.version.cuda}")
    elif Path("/proc/driver/nvidia/version").exists():
        yield Finding(
            "device",
            f"there is an NVIDIA driver, and torch {torch.__version__} cannot use it",
            f"compare `nvidia-smi` with CUDA {torch.version.cuda}, and look at CUDA_VISIBLE_DEVICES",
        )
    else:
        yield Finding("device", f"no GPU: trainings run on {os.cpu_count()} CPU cores")


def _disk(settings: Settings) -> Iterator[Finding]:
    need = _size_of_block(settings.root) + _SPARE
    free = shutil.disk_usage(settings.root).free
    told = f"{_gigabytes(free)} free, for a copy of the data and a run {_gigabytes(need)} are enough"
    yield Finding("disk", told, "free some, or move DVC's cache: `dvc cache dir`" if free < need else "")
    if health.has_dvc(settings.root):
        link = health.link_type(settings.root)
        told = f"DVC's cache and the working folder share files by {link}" if link != "copy" else "DVC's cache copies"
        yield Finding("disk", told + ("" if link != "copy" else " each file, so that data and models lie here twice"))


def _memory(settings: Settings) -> Iterator[Finding]:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = _size_of_block(settings.root)
    way = "are read from memory" if size < available / 2 else "are read from the disk as they are needed"
    yield Finding("memory", f"{_gigabytes(available)} free; the data, {_gigabytes(size)}, {way}")


def _data(settings: Settings) -> Iterator[Finding]:
    if not health.has_dvc(settings.root):
        yield Finding(
            "data", f"{settings.root.name} is not a DVC project", "go to the project's folder, or run `dvc init`"
        )
        return
    for name, error in health.remotes(settings.root).items():
        yield Finding("data", f"remote {name} {'answers' if not error else f'does not answer ({masked(error)})'}",
                      "`dvc remote list` shows its place; correct it or its credentials" if error else "")  # fmt: skip
    if not (settings.root / "data.dvc").exists():
        yield Finding("data", "no data yet", "`python -m flows.prepare --source SOURCE`")


def _mlflow(settings: Settings) -> Iterator[Finding]:
    from flows.tracking import Tracker

    place = masked(settings.tracking_uri) if settings.served else "mlflow.db"
    if not settings.served and not (settings.root / "mlflow.db").exists():
        yield Finding("MLflow", "no runs yet")
        return
    left = Tracker(settings).abandoned()
    told = f"{place} answers" + (f"; {len(left)} runs that say running have no process" if left else "")
    yield Finding("MLflow", told, "the next training closes them, or now: `python -m flows.retrain`" if left else "")
    if settings.served and settings.tracking_uri.startswith("http://") and not _is_local(settings.tracking_uri):
        yield Finding("MLflow", "passwords travel in the clear", "put the server behind https")


def _prefect(settings: Settings) -> Iterator[Finding]:
    zone = ZoneInfo(settings.timezone)
    from cronsim import CronSim

    first = next(CronSim(settings.cron, datetime.now(zone)))
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        yield Finding(
            "Prefect", f"each run has a server of its own; `make serve` would start {first:%a %H:%M} {zone.key}"
        )
        return
    from flows.running import launch, orphans, schedules

    launch.check(url)
    found = schedules.of_project(orphans.project(settings.root))
    yield Finding("Prefect", f"{masked(url)} answers; it has {len(found) or 'no'} deployments of this project")
    for name, fix in found.items():
        if fix:
            yield Finding("Prefect", f"{name} is paused", fix)


def _secrets(settings: Settings) -> Iterator[Finding]:
    home = Path(settings.environment["PREFECT_HOME"])
    open_ones = [path for path in (home, home / "auth") if path.exists() and _mode(path) & 0o077]
    for path in open_ones:
        yield Finding("secrets", f"others may read {path}", f"chmod {'700' if path.is_dir() else '600'} {path}")
    if not open_ones:
        yield Finding("secrets", "no file with a password can be read by others")


def _clock(settings: Settings) -> Iterator[Finding]:
    now = time.time()
    ahead = [p for p in ("dvc.lock", "data.dvc", "mlflow.db") if (settings.root / p).exists()
             and (settings.root / p).stat().st_mtime > now + _AHEAD]  # fmt: skip
    told = f"{datetime.now(ZoneInfo(settings.timezone)):%Y-%m-%d %H:%M} {settings.timezone}"
    if ahead:
        yield Finding("clock", f"{told}, and {', '.join(ahead)} is from the future", "set the clock, or `touch` it")
    else:
        yield Finding("clock", told)


def _size_of_block(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / "data").rglob("*") if path.is_file())


def _gigabytes(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _is_local(uri: str) -> bool:
    return bool(re.match(r"https?://([^/@]*@)?(localhost|127\.0\.0\.1|\[::1\])(:|/|$)", uri))


if __name__ == "__main__":
    sys.exit(main())
