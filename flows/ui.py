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
from flows.tracking.server import serve
from genmodel.errors import user_errors
from genmodel.listening import listening
from genmodel.output.masking import masked

_VIEW = "genmodel"  # its name in the menu, and its key in the link
_NEWEST = 100  # runs that the view is fitted to: each takes 4 ms to read
_OPEN, _CLOSED = ("eval", "loss", "score", "throughput"), ("eval_cost", "Model metrics", "System metrics")


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
        metrics = {name for run in runs for name in run.data.metrics}
        state = json.dumps(view(sorted(name for name in metrics if name.startswith("eval/"))))
        saved = {"name": _VIEW, "createdAt": 0, "updatedAt": 0, "state": state}  # milliseconds, to sort the menu by
        client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{_VIEW}", json.dumps(saved))
    return (
        f"experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={_VIEW}"
    )


def view(figures: Sequence[str]) -> dict[str, Any]:
    """The state of MLflow 3.17's runs page: columns, sections, and the last sample grid of each run.

    The UI adds a chart for each other metric, in the section named like the metric's part before the slash.
    """
    sections = [_section("samples", True, 400, columns=1)]
    sections += [_section(name, name in _OPEN, 260, columns=3) for name in _OPEN + _CLOSED]
    grid = {"type": "IMAGE", "uuid": "samples-grid", "metricSectionId": "samples", "imageKeys": ["latest"],
            "step": 0, "showRunParams": False, "deleted": False, "isGenerated": False}  # fmt: skip
    shown = set(outcome.narrow(name.removeprefix("eval/") for name in figures))  # else headings do not fit the screen
    columns = [f"metrics.`{name}`" for name in figures if name.removeprefix("eval/") in shown]
    return {
        "selectedColumns": [*columns, "tags.`genmodel.outcome`", "tags.`genmodel.data`"],
        "compareRunSections": sections,
        "compareRunCharts": [grid],
        "isAccordionReordered": True,  # else the sections are sorted by name
    }


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
