"""`make ui`: MLflow's UI over the project's runs, opened at a saved view that compares them.

python -m flows.ui [--port 5000]

The view is stored in a tag of the experiment, as those that users save in the UI: its menu Views lists it.
By default the UI shows no figure in the table, all parameters above each picture, and only pictures of one step.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.settings import Settings
from flows.telling import outcome
from flows.tracking import Tracker
from flows.tracking.runs import JUDGED
from flows.tracking.server import serve
from genmodel.errors import user_errors
from genmodel.evaluation import table
from genmodel.evaluation.telling.direction import direction
from genmodel.listening import listening
from genmodel.output.masking import masked

_VIEW = "genmodel"  # its name in the menu, and its key in the link
_NEWEST = 100  # runs that the view is fitted to: each takes 4 ms to read
_CURVES, _FOLDED = ("loss", "score", "throughput"), ("more figures", "eval_cost", "Model metrics", "System metrics")
_EVAL = "eval/"  # before the name of a figure, in the name of a metric
_SAMPLES = 1240  # pixels: the samples of ten runs, three side by side; MLflow puts the best of them last
_SHOWN = "genmodel.view"  # tag: "first" of the runs that the view begins with


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        settings = Settings.read(os.environ, Path.cwd())
        settings.apply()
        tracker = Tracker(settings)
        if settings.served:
            print(f"the runs, side by side: {masked(settings.tracking_uri)}/#/{save_view(tracker)}", flush=True)
        else:
            with listening(options.port) as opened:
                serve(settings, opened, save_view(tracker))
    return 0


def save_view(tracker: Tracker) -> str:
    """Save a view that fits the present runs; returns its place in the UI, the part after #/."""
    with tracker.talking() as (client, experiment):
        runs = client.search_runs([experiment], max_results=_NEWEST)
        newest = _newest_conditions(runs)
        for run in runs:
            judged = _conditions(run)
            shown = "first" if not judged or judged == newest else "earlier"
            if run.data.tags.get(_SHOWN) != shown:
                client.set_tag(run.info.run_id, _SHOWN, shown)
        metrics = {name for run in runs if _conditions(run) == newest for name in run.data.metrics}
        state = json.dumps(view(sorted(name.removeprefix(_EVAL) for name in metrics if name.startswith(_EVAL))))
        saved = {"name": _VIEW, "createdAt": 0, "updatedAt": 0, "state": state}  # milliseconds, to sort the menu by
        client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{_VIEW}", json.dumps(saved))
    return (
        f"experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={_VIEW}"
    )


def _conditions(run: Any) -> dict[str, str]:
    """What the figures of a run of MLflow depend on besides its model; empty before it is judged."""
    return {key: value for key, value in run.data.tags.items() if key.startswith("eval.")}


def _newest_conditions(runs: Sequence[Any]) -> dict[str, str]:
    """The conditions of the run that was judged last; empty where none was."""
    judged = [run for run in runs if _conditions(run)]
    return _conditions(max(judged, key=_judged_at)) if judged else {}


def _judged_at(run: Any) -> tuple[str, int]:
    return run.data.tags.get(JUDGED, ""), run.info.start_time


def view(figures: Sequence[str]) -> dict[str, Any]:
    """The state of MLflow 3.17's runs page: what is searched for, columns, sections, charts.

    `figures` are the names of those that the runs have. The UI adds a chart for each other metric, in the section named
    like the metric's part before the slash.
    """
    figures = sorted(figures, key=_place)  # the one that ranks is the first
    shown = outcome.narrow(figures)  # else headings do not fit the screen
    main = [f"metrics.`{_EVAL}{name}`" for name in shown]
    columns = ["tags.`genmodel.outcome`", *main, "tags.`genmodel.data`"]
    sections = [_section("figures", True, 280, columns=3), _section("samples", True, _SAMPLES, columns=1)]
    sections += [_section(name, True, 260, columns=3) for name in _CURVES]
    sections += [_section(name, False, 260, columns=3) for name in _FOLDED]
    grid = {**_chart("IMAGE", "samples-grid", "samples"), "imageKeys": ["latest"], "step": 0, "showRunParams": False}
    bars = [bar for name in figures for bar in _bars(name, "figures" if name in shown else "more figures")]
    return {
        "searchFilter": f"tags.`{_SHOWN}` = 'first' and attributes.status != 'FAILED'",
        **({"orderByKey": main[0], "orderByAsc": True} if main else {}),
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", *columns[:2], "runDateAndNestInfo", *columns[2:]],
        "columnWidths": {column: 8 * len(column.split("`")[1]) + 40 for column in columns},  # pixels: of its heading
        "runsHiddenMode": "FIRST_10_RUNS",  # MLflow shows the samples of ten, the last ones where there are more
        "compareRunSections": sections,
        "compareRunCharts": [grid, *bars],
        "isAccordionReordered": True,  # else the sections are sorted by name
    }


def _place(name: str) -> int:
    """Of a figure, in the table of all."""
    figure = table.of_column(name)
    return table.FIGURES.index(figure) if figure else len(table.FIGURES)


def _bars(name: str, section: str) -> list[dict[str, Any]]:
    """A chart whose title has the direction, and a deleted one in place of MLflow's own, which it would add."""
    figure, metric = table.of_column(name), f"{_EVAL}{name}"
    arrow, _, words = direction(figure).partition(" ") if figure else ("", "", "")
    title = f"{arrow} {name}: {words}" if figure else name  # of a long one the end is cut
    own = {**_chart("BAR", f"own-{name}", section), "metricKey": metric, "deleted": True}
    return [{**_chart("BAR", f"bars-{name}", section), "metricKey": title, "dataAccessKey": metric}, own]


def _chart(kind: str, name: str, section: str) -> dict[str, Any]:
    return {"type": kind, "uuid": name, "metricSectionId": section, "deleted": False, "isGenerated": False}


def _section(name: str, is_open: bool, height: int, columns: int) -> dict[str, Any]:
    """A heading with charts of `height` pixels."""
    shape = {"cardHeight": height, "columns": columns}
    return {"uuid": name, "name": name, "display": is_open, "isReordered": True, **shape}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.ui", description="Open MLflow's UI over the project's runs.")
    parser.add_argument("--port", type=int, default=5000, help="on this machine (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
