"""The report on new data before anything is trained on them, and the limits in params.yaml that stop a run.

data-reports/DIGEST.html, .json: on the block whose block.json has a sha256 that begins with DIGEST
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_markdown_artifact

from flows.versioning import dvc as versioning
from flows.versioning.origin import ALLOWED_REJECTS, Origin
from flows.versioning.repo import DATA
from genmodel.data.block import Block
from genmodel.data_report import words
from genmodel.data_report.markdown import markdown
from genmodel.errors import BlockError, DataLimitError, GenmodelError, VersioningError
from genmodel.files import durable
from genmodel.output.progress import say
from genmodel.params import read_evaluation, read_limits
from genmodel.settings.config import DataConfig, EvaluationConfig

if TYPE_CHECKING:
    from genmodel.data_report.features import Eye
    from genmodel.data_report.side import Side

FOLDER, REFERENCE, PARAMS = Path("data-reports"), Path("reference"), Path("params.yaml")
_ACCEPT = "to accept the data change that setting in params.yaml and run the same command again"


@dataclass(frozen=True)
class Before:
    """What new data are compared with."""

    generations: int  # of data/ that stay as they are
    replaced: "Side | None" = None  # images that are made anew from the same source


def before(root: Path, origin: Origin, update: bool) -> Before:
    """To be called before data are made. Those of another source are not compared with data that are made anew."""
    if update:
        return Before(len(origin.steps) - 1)
    if not (root / DATA / "block.json").exists() or not versioning.is_versioned(root):
        return Before(0)
    if Origin.of_data(root).source != origin.source:
        return Before(0)
    from genmodel.data_report.side import sides

    try:
        block = Block.open(root / DATA)
        return Before(0, sides(block, 0, _eye(root, block).size)[1])
    except BlockError as error:
        say(f"the new data are not compared with those before: {error}")
        return Before(0)


def judge(root: Path, origin: Origin, there: Before, remote: str | None) -> None:
    """Show the report on what was made, in the flow that runs; beyond a limit, put data/ back.

    DataLimitError names the limit, the report and the fix.
    """
    told = _made(root, there, origin)
    if exceeded := _shown(root, told, origin):
        raise DataLimitError(f"{_refusal(told, exceeded)}; {_put_back(root, remote)}; {_ACCEPT}")


def check(root: Path) -> None:
    """DataLimitError if the newest generation of data/ is beyond a limit: git may have brought it from elsewhere.

    A report that was made here is not made again; without limits nothing is looked at.
    """
    if _limits(root) is None:
        return
    kept, origin = root / _page(durable.digest_file(root / DATA / "block.json")), Origin.of_data(root)
    if kept.with_suffix(".json").exists():
        told = durable.read_sealed(kept.with_suffix(".json"), GenmodelError, "delete it, and run again")
    else:
        told = _made(root, Before(len(Block.open(root / DATA).facts["generations"]) - 1), origin)
    if exceeded := _shown(root, told, origin):
        raise DataLimitError(f"{_refusal(told, exceeded)}; nothing was trained; {_ACCEPT}")


def _made(root: Path, there: Before, origin: Origin) -> dict[str, Any]:
    """Write the report on data/ as it is now."""
    from genmodel.data_report.page import write_page
    from genmodel.data_report.report import compare
    from genmodel.data_report.side import sides

    block = Block.open(root / DATA)
    eye = _eye(root, block)
    stayed, new = sides(block, there.generations, eye.size)
    old = there.replaced or stayed
    told = compare(block, old, new, eye, remade=there.replaced is not None)
    page = root / _page(block.digest)
    write_page(page, told, old.sample if old else None, new.sample, _exceeded(root, told, origin))
    durable.write_sealed(page.with_suffix(".json"), told)
    return told


def _shown(root: Path, told: Mapping[str, Any], origin: Origin) -> list[str]:
    """Show a report as an artifact of the run, and return the limits that it exceeds."""
    exceeded = _exceeded(root, told, origin)
    text = markdown(told, exceeded, str(_page(told["block"])))
    create_markdown_artifact(text, key="data-report", description="What the new data are against those before.")
    return exceeded


def _exceeded(root: Path, told: Mapping[str, Any], origin: Origin) -> list[str]:
    """The limits that are exceeded; as many rejects as the preparation was told to allow are not too many."""
    limits, allowed = _limits(root), origin.steps[-1].allow_rejects
    return words.exceeded(told, limits, 0.0 if allowed == ALLOWED_REJECTS else allowed) if limits else []


def _refusal(told: Mapping[str, Any], exceeded: list[str]) -> str:
    return f"the new data are beyond a limit: {'; '.join(exceeded)}; {_page(told['block'])} has all of it"


def _put_back(root: Path, remote: str | None) -> str:
    """Replace data/ with what data.dvc has, if that can be had; until it is there nothing of data/ is deleted."""
    if not versioning.is_versioned(root):
        return "data/ is not versioned"
    data, aside = root / DATA, root / f"{DATA}.refused"
    durable.remove_folder(aside)
    data.rename(aside)
    why = "what data.dvc has is in no cache and no remote"
    try:
        restored = versioning.restore(root, remote)
    except VersioningError as error:
        restored, why = False, str(error)
    if restored:
        durable.remove_folder(aside)
        return "data/ is again as data.dvc has it"
    durable.replace_folder(aside, data)
    return f"data/ is as it was made, because {why}"


def _page(digest: str) -> Path:
    return FOLDER / f"{digest[:12]}.html"


def _limits(root: Path) -> DataConfig | None:
    return read_limits(root / PARAMS) if (root / PARAMS).exists() else None


def _eye(root: Path, block: Block) -> "Eye":
    from genmodel.data_report.features import eye

    path = root / PARAMS
    return eye(block, root / REFERENCE, read_evaluation(path) if path.exists() else EvaluationConfig())
