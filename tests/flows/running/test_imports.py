"""What a process of the line imports: each package costs seconds of CPU, in every one of them."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from flows.running.imports import leave, uncollected

ROOT = Path(__file__).parents[3]
HEAVY = {"torch", "pandas", "mlflow", "prefect", "sklearn", "scipy", "dvc"}


def imported(code: str, cwd: Path = ROOT) -> set[str]:
    """Those of HEAVY that a fresh process has imported after `code`."""
    code += f"\nimport sys; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_what_a_model_is_known_by_needs_no_torch() -> None:
    assert (
        imported("from flows import stages; from flows.versioning import current; stages.model_names(stages.PARAMS)")
        == set()
    )
    assert imported("from genmodel.training.identify import code_of; code_of('genmodel.models.dcgan')") == set()


def test_the_digits_need_scikit_learns_file_alone() -> None:
    scan = "from genmodel.data.sources.datasets.arrays import Digits; assert len(Digits().scan().entries) == 1797"
    assert imported(scan) == set()


def test_importing_stops_the_collector_and_starts_it_again() -> None:
    before = gc.get_freeze_count()
    try:
        with uncollected():
            assert not gc.isenabled()
            kept = [[] for _ in range(1000)]
        assert gc.isenabled() and gc.get_freeze_count() > before + len(kept)
        gc.disable()
        with uncollected():
            pass
        assert not gc.isenabled(), "as it was"
    finally:
        gc.enable()
        gc.unfreeze()


def test_a_failed_import_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), uncollected():
        import no_such_package  # noqa: F401
    assert gc.isenabled()
    gc.unfreeze()


def test_leaving_runs_what_was_to_run_at_the_end() -> None:
    code = "import atexit; from flows.running.imports import leave\n"
    code += "atexit.register(print, 'cleaned'); print('done'); leave(3)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "done\ncleaned\n")
    with pytest.raises(SystemExit):
        leave(0)
    gc.unfreeze()
