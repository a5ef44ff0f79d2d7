"""The command of each stage in dvc.yaml: run genmodel, then report to the tracker.

python -m flows.stages code | reference | train MODEL | evaluate MODEL | compare | register
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.costs import budget, ledger
from flows.running.guard import follow_guard
from flows.running.imports import leave, uncollected
from flows.settings import Settings
from flows.tracking.trainings import DataVersion, Training
from flows.versioning import closures
from flows.versioning import dvc as versioning
from flows.versioning.current import current_fingerprint, current_model, identity_of, read_report
from flows.versioning.inputs import unchanged_inputs
from genmodel.data.verify import whole_block
from genmodel.devices import choose_device
from genmodel.errors import ConfigError, user_errors
from genmodel.files import durable
from genmodel.files.model_folder import check_files
from genmodel.fits import check_fits
from genmodel.params import check_name, model_family, model_names, read_params

if TYPE_CHECKING:
    from genmodel.evaluation.report import Conditions

DATA, MODELS, RUNS, REFERENCE = Path("data"), Path("models"), Path("runs"), Path("reference")
REPORTS, FIGURES = Path("reports"), Path("figures")
FEATURES = RUNS / "features"  # of samples, kept so that a new figure needs no new pass
RENEW = "GENMODEL_RENEW_EXTRACTOR"  # 1: the stage `reference` trains a new extractor
PARAMS, RANKING, DECISION, PLOTS = Path("params.yaml"), Path("ranking.csv"), Path("decision.json"), Path("plots")


def code(_: Settings) -> None:
    """The code that determines the output of each other stage, as digests in a file for each."""
    closures.write()


def reference(_: Settings) -> None:
    """Features and statistics of the real images, by the extractor that judges every model.

    An extractor that exists is kept, unless it is to be renewed (GENMODEL_RENEW_EXTRACTOR=1, --renew-extractor).
    """
    with uncollected():
        from genmodel.evaluation import bounds
        from genmodel.evaluation.judge import conditions_of, judge_bounds
        from genmodel.evaluation.reference import make_reference

    params, block = read_params(PARAMS), whole_block(DATA)
    check_fits(params, block)
    config, renew = params.evaluation, os.environ.get(RENEW) == "1"
    lock = Path("dvc.lock")
    if not REFERENCE.exists() and lock.exists() and str(REFERENCE) in versioning.outs(lock.read_text()):
        print(f"{REFERENCE} is missing, so an extractor is trained (`dvc pull {REFERENCE}` fetches that of dvc.lock)")
    made = make_reference(block, config.image_size, config, REFERENCE, choose_device(), renew)
    judged = judge_bounds(block, made, config, choose_device())
    bounds.write(REFERENCE / bounds.FILE, judged)
    extractor = conditions_of(made, config).extractor
    print(f"{REFERENCE}: {made.about['n']:,} real images, extractor {extractor.in_words}")
    if extractor.doubt:
        print(f"warning: {extractor.doubt}")


def train(settings: Settings, name: str) -> None:
    """One training: the loop writes its record, the follower sends it to MLflow."""
    with uncollected():
        from flows.tracking.follower import Follower
        from genmodel.data.block import Block
        from genmodel.showing import display
        from genmodel.training.trainer import run_folder

    params, block = read_params(PARAMS), Block.open(DATA)
    identity = identity_of(name, params)
    check_fits(params, block)
    training = Training(
        name=name,
        family=identity.config.family,
        fingerprint=identity.fingerprint,
        config=identity.config.as_dict(),
        data=_data_version(settings),
    )
    with Follower(settings, training, run_folder(identity, RUNS), MODELS / name):
        display.train(identity, block, MODELS / name, RUNS, choose_device())


def evaluate(settings: Settings, name: str) -> None:
    """Figures of one model: in a report, for `dvc metrics`, and in the run of its training."""
    with uncollected():
        from flows.tracking import Tracker
        from genmodel.data.block import Block
        from genmodel.evaluation.evaluate import evaluate
        from genmodel.evaluation.reference import Reference

    params = read_params(PARAMS)
    config = params.evaluation
    identity_of(name, params)
    real = Reference.open(REFERENCE)
    check_files(MODELS / name, name)
    current_model(name, params)
    picture = REPORTS / f"{name}-neighbours.png"
    report, timing = evaluate(
        MODELS / name,
        Block.open(DATA),
        real,
        config,
        choose_device(),
        cache=FEATURES,
        picture=picture,
    )
    told = report.as_dict()
    durable.write_sealed(REPORTS / f"{name}.json", told)
    figures = {key: value for key, value in told["figures"].items() if value is not None}
    durable.write_json(FIGURES / f"{name}.json", figures | _short(report.conditions))
    tracker = Tracker(settings)
    tracker.restore(MODELS / name, _data_version(settings), RUNS)
    tracker.log_evaluation(report, timing, [picture])
    print(f"{name}: {', '.join(f'{key} {value}' for key, value in figures.items())}")


def _short(conditions: "Conditions") -> dict[str, Any]:
    """The conditions in short: `dvc metrics diff` shows beside the figures where they differ."""
    return {
        "extractor": conditions.extractor.in_words,
        "data": conditions.block[:8],
        "n_samples": conditions.n_samples,
        "image_size": conditions.image_size.plain(),
    }


def compare(settings: Settings) -> None:
    """All reports in one table, best first: ranking.csv, and with costs and pictures leaderboard.csv, .md and .html;
    and plots/, what `dvc plots` shows."""
    with uncollected():
        from flows.telling import board, outcome
        from genmodel.evaluation.telling import leaderboard, plots

    names = model_names(PARAMS)
    for name in names:  # the page shows their pictures
        check_files(MODELS / name, name)
    reports = [read_report(name, current_fingerprint(name)) for name in names]
    frame = leaderboard.leaderboard(reports, one_ranking=True)
    leaderboard.write_csv(frame, RANKING)
    plots.write_plots(reports, MODELS, PLOTS)
    board.write(settings.root, reports, compared=True)
    print(leaderboard.markdown(frame[outcome.narrow(map(str, frame))]), end="")


def register(settings: Settings) -> None:
    """The best model becomes a registered version; the gate says whether it is the new champion."""
    from flows.registry import register

    register.register(settings)


def _data_version(settings: Settings) -> DataVersion:
    return DataVersion.read(DATA, versioning.digest(settings.root))


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    follow_guard()
    with user_errors():
        settings = Settings.read(os.environ, Path.cwd())
        settings.apply()
        if getattr(arguments, "renew_extractor", False):
            os.environ[RENEW] = "1"
        words = [_model_of(arguments)] if "model" in arguments else []
        stage = arguments.run.__name__
        closures.check(stage, model_family(PARAMS, *words) if words else None)
        name = "@".join([stage, *words])
        if arguments.run in (reference, train, evaluate):  # they use a GPU, if there is one
            budget.check(settings, [name], os.environ.get(ledger.RUN, ""))
        with ledger.recorded(settings.root, name), unchanged_inputs(name, settings.root):
            arguments.run(settings, *words)
    return 0


def _model_of(arguments: argparse.Namespace) -> str:
    """The model given, or that of the stage that DVC runs; a name never passes through a shell."""
    name: str | None = arguments.model or os.environ.get("DVC_STAGE", "").partition("@")[2] or None
    if name is None:
        raise ConfigError(
            f"{arguments.run.__name__} which model? python -m flows.stages {arguments.run.__name__} MODEL"
        )
    check_name(name, str(PARAMS))
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.stages", description="The commands that dvc.yaml runs.")
    commands = parser.add_subparsers(required=True, metavar="STAGE")
    for stage in (code, reference, train, evaluate, compare, register):
        command = commands.add_parser(stage.__name__, help=stage.__doc__, description=stage.__doc__)
        command.set_defaults(run=stage)
        if stage in (train, evaluate):
            command.add_argument("model", nargs="?", help="its name in params.yaml (default: DVC_STAGE's)")
        if stage is reference:
            command.add_argument("--renew-extractor", action="store_true", help="train a new one, and say so")
    return parser


if __name__ == "__main__":
    leave(main())
