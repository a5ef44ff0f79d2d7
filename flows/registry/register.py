"""The stage `register`: the best model becomes a registered version, and the gate says whether it is the new champion.

DVC always runs it: it reads and writes a registry that no dependency names. If there is nothing to decide, it answers
from the ledger and the registry, without torch.
"""

import csv
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.registry import dataset
from flows.registry.lineage import FILES, KEPT
from flows.registry.registry import CHAMPION, PENDING, Registry, Version
from flows.running.imports import uncollected
from flows.settings import Settings, experiment
from flows.telling import board
from flows.tracking import Tracker
from flows.tracking.drawings import latest_samples
from flows.tracking.trainings import DataVersion, git_trouble
from flows.versioning import dvc as versioning
from flows.versioning.current import current_model, read_report
from genmodel.errors import EvaluationError, IncomparableError, ModelError
from genmodel.files import durable
from genmodel.output.printable import printable
from genmodel.params import Params, read_gate, read_params
from genmodel.sizes import shape_text

if TYPE_CHECKING:
    from flows.registry.champion import Promotions
    from flows.registry.description import Card
    from genmodel.evaluation.gate import Champion, Decision
    from genmodel.evaluation.report import Judged, Report
    from genmodel.models.contract import Family

DATA, MODELS, RUNS, REFERENCE, REPORTS = Path("data"), Path("models"), Path("runs"), Path("reference"), Path("reports")
FEATURES = RUNS / "features"
PARAMS = Path("params.yaml")
RANKING, DECISION, STATE = Path("ranking.csv"), Path("decision.json"), Path("champion.json")
_NEW_LINE = (
    "To start a new line of champions: python -m flows.registry retire --reason TEXT, and run again; or give it a name "
    "of its own, GENMODEL_REGISTERED_NAME=NAME."
)


def register(settings: Settings) -> None:
    """See above. In an experiment of DVC it decides nothing, and succeeds."""
    if name := experiment():
        print(f"{name} is a DVC experiment: its models are compared, and neither registered nor promoted")
        return
    from flows.registry.champion import Promotions
    from flows.registry.history import over_time
    from flows.registry.promotions import Ledger

    gate = read_gate(PARAMS)
    reports = _reports()
    best = reports[0]
    registry = Registry(Tracker(settings))
    promotions = Promotions(registry, Ledger(settings.root))
    request = {"report": best.as_dict(), "rule": asdict(gate), "ranking": durable.digest_file(RANKING)}
    before = registry.version(CHAMPION)
    decision = promotions.standing(request, best.weights)
    decided = decision is None or not registry.has_runs([report.fingerprint for report in reports])
    if decided:
        decision = _decide(settings, registry, promotions, request)
    assert decision is not None
    _write(decision)
    champion = registry.version(CHAMPION)
    over_time.write(promotions.history(), settings.root)
    text = _state(decision, champion, before, decided) + _waits(registry, best.weights)
    durable.write_json(STATE, {"text": text, "ranking": request["ranking"], "champion": board.told_of(champion)})
    board.refresh(settings.root)
    if decided:  # the page of before the decision is with the runs
        page = settings.root / "leaderboard.html"
        for report in reports:
            registry.tracker.attach(registry.tracker.run(report.fingerprint).info.run_id, [page], "leaderboard")
    print(printable(text))


def _decide(
    settings: Settings,
    registry: Registry,
    promotions: "Promotions",
    request: Mapping[str, Any],
) -> "Decision":
    """Check everything, register the best model, and carry out the gate's decision."""
    with uncollected():
        from genmodel.evaluation.gate import Decision, decide
        from genmodel.evaluation.telling.leaderboard import read_ranking
        from genmodel.sampling.load import load_model

    params = read_params(PARAMS)
    reports = [read_report(name, current_model(name, params).fingerprint) for name in params.models]
    names = [str(name) for name in read_ranking(RANKING, reports)["model"]]
    reports = [next(report for report in reports if report.name == name) for name in names]
    best = reports[0]
    folder = MODELS / best.name
    model, about = load_model(folder)
    tracker, data = registry.tracker, DataVersion.read(DATA, versioning.digest(settings.root))
    for name in names:
        run_id = tracker.restore(MODELS / name, data, RUNS)
        tracker.attach(run_id, sorted(Path().glob("leaderboard.*")), "leaderboard")
    if trouble := git_trouble(settings.root):
        print(printable(f"warning: no commit is kept with the version: {trouble}"), file=sys.stderr)
    kept = [settings.root / name for name in FILES if (settings.root / name).exists()]
    card = _card(settings, model, about, best, data, kept)
    version = registry.register(folder, model, card, kept)

    def judge(version: Version | None) -> Decision:
        champion, obstacle = _champion(registry, version, best, params)
        return decide(best, champion, params.gate, obstacle, rivals=reports[1:])

    decision = promotions.settle(version, request, judge)
    _tell_outcomes(registry, reports, decision)
    return decision


def _champion(
    registry: Registry, version: Version | None, candidate: "Report", params: Params
) -> tuple["Champion | None", str]:
    """The champion, judged under today's conditions, and, if it cannot be judged, why: a sentence, else empty."""
    from genmodel.evaluation.gate import Champion

    if version is None:
        return None, ""
    champion = Champion(
        name=version.tags.get("genmodel.name", "?"), weights=version.tags.get("genmodel.weights", ""), judged=None
    )
    if champion.weights == candidate.weights:
        return replace(champion, judged=candidate), ""
    if why := dataset.unlike(version.tags.get(dataset.TAG), dataset.tag(DATA)):
        return champion, _obstacle(version, f"{why}.")
    try:
        return replace(champion, judged=_judged(registry, version, params)), ""
    except (ModelError, _UnlikeError) as error:
        return champion, _obstacle(version, f"{error}.")


class _UnlikeError(IncomparableError):
    """The champion's images are of another size, or have other channels, than today's models'."""


def _judged(registry: Registry, champion: Version, params: Params) -> "Judged":
    """The champion judged again, by images that its own package draws: its old figures may have been made under other
    conditions, and the code of its family may have changed, or be gone."""
    from genmodel.data.block import Block
    from genmodel.devices import choose_device
    from genmodel.evaluation.judge import judge_images
    from genmodel.evaluation.reference import Reference

    block, real, size = Block.open(DATA), Reference.open(REFERENCE), params.evaluation.image_size
    with registry.exported(champion, choose_device()) as source:
        if (source.image_size, source.channels) != (size, block.channels):
            makes, today = shape_text(source.image_size, source.channels), shape_text(size, block.channels)
            raise _UnlikeError(f"it makes images of {makes}, and today's models of {today}")
        return judge_images(source, block, real, params.evaluation, FEATURES).judged()


def _obstacle(champion: Version, why: str) -> str:
    return f"The champion, version {champion.number}, cannot be judged and stays: {why} {_NEW_LINE}"


def _tell_outcomes(registry: Registry, reports: list["Report"], decision: "Decision") -> None:
    """Tell in each run of the leaderboard, best first, what became of its model; the champion was promoted."""
    from flows.telling import of_run

    champion, tracker = registry.version(CHAMPION), registry.tracker
    verdict = "rejected" if decision.outcome == "reject" else decision.outcome
    for place, report in enumerate(reports):
        is_champion = champion is not None and champion.tags.get("genmodel.weights") == report.weights
        outcome = "promoted" if is_champion else verdict if place == 0 else "outranked"
        why = " ".join(decision.reasons) if place == 0 else ""
        run = tracker.run(report.fingerprint)
        told = of_run.in_ranking(reports, place, latest_samples(run.info.run_id))
        tracker.tag(run.info.run_id, told | of_run.with_outcome(run.data.tags | told, outcome, why))
    registry.describe()  # also of a champion that somebody made by hand


def _card(
    settings: Settings,
    model: "Family",
    about: dict[str, Any],
    report: "Report",
    data: DataVersion,
    kept: list[Path],
) -> "Card":
    """What the registry shows of the best model; `about` is its config.json."""
    from flows.registry.description import Card
    from flows.telling import outcome
    from flows.versioning.origin import Origin

    name = about["name"]
    lock = settings.root / "dvc.lock"
    locked = versioning.outs(lock.read_text()).get(f"{MODELS}/{name}") if lock.exists() else None
    grids = sorted((MODELS / name / "samples").glob("*.png"))
    tags = {dataset.TAG: dataset.tag(DATA), KEPT: " ".join(path.name for path in kept)}
    return Card(
        about=about,
        report=report,
        data={"source": data.source, "images": data.images, "classes": data.classes, "digest": data.digest},
        cost={
            **outcome.costs(settings.root).get(name, {}),
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "bytes of weights": (MODELS / name / "weights.safetensors").stat().st_size,
        },
        licence=Origin.of_data(settings.root).licences,
        grid=grids[-1] if grids else None,
        tags=tags | ({"genmodel.model": locked} if locked else {}),
    )


def _write(decision: "Decision") -> None:
    """decision.json and .md, whose bytes depend on the decision alone."""
    from genmodel.evaluation.gate import as_markdown

    durable.write_text(DECISION.with_suffix(".md"), as_markdown(decision))
    durable.write_json(DECISION, decision.as_dict())


def _state(decision: "Decision", champion: Version | None, before: Version | None, decided: bool) -> str:
    """Who is champion now, whether this run changed that, and what was decided in it."""
    said = f"{decision.outcome}: {' '.join(decision.reasons)}"
    if champion is None:
        return f"nobody; {said}"
    weights, figure = champion.tags.get("genmodel.weights"), decision.figure
    briefs = [brief for brief in (decision.candidate, decision.champion) if brief and brief.weights == weights]
    value = briefs[0].value if briefs else champion.tags.get(f"eval.{figure}")
    who = f"version {champion.number}, {champion.tags.get('genmodel.name', '?')}, {figure} {value}"
    if before is None or before.number != champion.number:
        return f"{who}, is the new champion ({said})"
    if decided or decision.outcome != "promote":
        return f"unchanged: {who}, is still champion ({said})"
    return f"unchanged: {who}, is still champion"


def _waits(registry: Registry, weights: str) -> str:
    """That another model than this run's still waits for a person's word."""
    pending = registry.version(PENDING)
    if pending is None or pending.tags.get("genmodel.weights") == weights:
        return ""
    number = pending.number
    return f"; version {number} still waits: python -m flows.registry approve {number} --reason TEXT, or refuse"


def _reports() -> list["Report"]:
    """The reports of the models in the ranking, best first."""
    if not RANKING.exists():
        raise EvaluationError(f"{RANKING} is missing: run `dvc repro compare` first")
    with RANKING.open(newline="", errors="replace") as file:
        names = [row.get("model") or "" for row in csv.DictReader(file)]
    if not names or not all(name and (MODELS / name).exists() for name in names):
        raise EvaluationError(f"{RANKING} is damaged, or a model of it is gone: run `dvc repro -f -s compare` first")
    return [read_report(name) for name in names]
