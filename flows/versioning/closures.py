"""The stage `code`: the code that determines each other stage's output, found by its imports (genmodel/code.py).

closures/STAGE.json, or closures/STAGE/FAMILY.json, holds the digest of every module that counts. The stages depend on
these files instead of on code: whatever changes in genmodel/, `dvc repro` runs this stage, in a second, and then only
those whose file has changed. Before it begins, a stage compares its file with the code that it has loaded.
"""

import importlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from flows.versioning import dvc as versioning
from flows.versioning import repro
from flows.versioning.repo import LockConflictError
from genmodel import code
from genmodel.errors import VersioningError
from genmodel.evaluation import table
from genmodel.files import durable
from genmodel.models.families import FAMILIES, module_of
from genmodel.training.identify import LOOP

FOLDER = Path("closures")
_STAGE = "code"
_ROOTS: Mapping[str, tuple[str, ...]] = {
    "reference": ("genmodel.evaluation.reference", "genmodel.evaluation.judge", *table.modules()),
    "compare": (
        "genmodel.evaluation.telling.leaderboard",
        "genmodel.evaluation.telling.page",
        "genmodel.evaluation.telling.plots",
    ),
}
_OF_FAMILY: Mapping[str, tuple[str, ...]] = {  # beside the family's own file
    "train": (LOOP,),
    "evaluate": ("genmodel.evaluation.judge", *table.modules()),
}


def write() -> None:
    """Write all of them into FOLDER."""
    aside = FOLDER.with_name(f".{FOLDER.name}.partial")
    durable.remove_folder(aside)
    for stage, roots in _ROOTS.items():
        durable.write_json(aside / f"{stage}.json", code.digests(*roots))
    for stage, roots in _OF_FAMILY.items():
        for family in FAMILIES:
            durable.write_json(aside / stage / f"{family}.json", code.digests(*roots, module_of(family)))
    durable.replace_folder(aside, FOLDER)


def refresh(root: Path) -> None:
    """Bring the stage `code` up to date, if the project has one: only then does DVC know which others have changed."""
    if not versioning.is_stage_changed(root, _STAGE):
        return
    command, environment = versioning.repro_command(_STAGE), versioning.with_this_python(os.environ)
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        output = (done.stdout + done.stderr).splitlines()
        kind = LockConflictError if repro.is_lock_conflict(output) else VersioningError
        raise kind(f"{_STAGE} failed: {repro.failure(output)}")


def check(stage: str, family: str | None) -> None:
    """VersioningError if the code that a stage runs is not what its file in FOLDER says, if there is one.

    All of it is imported here, so that later edits neither run nor are recorded.
    """
    path = FOLDER / (f"{stage}/{family}.json" if stage in _OF_FAMILY else f"{stage}.json")
    if stage not in {**_ROOTS, **_OF_FAMILY} or not path.exists():
        return
    roots = (*_OF_FAMILY[stage], module_of(family)) if family else _ROOTS[stage]
    for root in roots:
        importlib.import_module(root)
    known, now = _read(path), code.digests(*roots)
    changed = [module for module in sorted({*known, *now}) if known.get(module) != now.get(module)]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise VersioningError(f"{changed[0]}{more} changed after `dvc repro` had looked: run the same command again")


def _read(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise VersioningError(f"{path} is damaged: run `dvc repro -f -s code`") from error
