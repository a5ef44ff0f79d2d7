"""What MLflow's pages tell of a run once its model is judged: outcome, mark, colour, description. Text in, text out."""

import colorsys
from collections.abc import Mapping, Sequence

from genmodel.evaluation import table
from genmodel.evaluation.report import Report
from genmodel.output.printable import markdown_text

_OUTCOME, _NAME, _NOTE = "genmodel.outcome", "mlflow.runName", "mlflow.note.content"
_COLOUR = "mlflow.runColor"
_STAR = "★ "  # before the name of the champion's run
_GOLDEN = 0.618  # of the circle of hues, from each place to the next: no two of twenty come close


def with_outcome(run: Mapping[str, str], outcome: str, why: str = "") -> dict[str, str]:
    """The tags to set in a run with the tags `run`, for what became of its model; the rest of its description stays."""
    name = run[_NAME].removeprefix(_STAR)
    rest = run.get(_NOTE, "").partition("\n\n")[2]
    first = f"**{outcome}**{f': {markdown_text(why)}' if why else ''}"
    return {
        _OUTCOME: outcome,
        _NAME: f"{_STAR}{name}" if outcome == "promoted" else name,
        _NOTE: f"{first}\n\n{rest}" if rest else first,
    }


def in_ranking(reports: Sequence[Report], place: int, picture: str) -> dict[str, str]:
    """The tags that place the run of reports[place], which are sorted best first: its colour, and a description that
    with_outcome completes. `picture` is the address of its samples."""
    report = reports[place]
    names = sorted(each.name for each in reports)
    figures = "\n".join(f"- {markdown_text(told)}" for told in _figures(report))
    rank = f"Rank {place + 1} of {len(reports)} by {report.ranks_by}."
    note = f"\n\n{markdown_text(rank)}\n\n{figures}\n\n![samples]({picture})"
    return {_COLOUR: _colour(names.index(report.name)), _NOTE: note}


def _figures(report: Report) -> list[str]:
    """The main figures with intervals and direction, a line each."""
    told = []
    for name, figure in table.in_order([report.conditions.extractor.name]).items():
        value, ends = report.figures.get(name), report.intervals.get(name)
        if value is not None and not figure.detail:
            span = f" [{', '.join(map(figure.show, ends))}]" if ends else ""
            told.append(f"{name} {figure.show(value)}{span}, {figure.better} is better")
    return told


def _colour(place: int) -> str:
    """As #rrggbb; one for each place in the alphabet, neighbours far apart, light and dark in turn."""
    rgb = colorsys.hls_to_rgb(0.6 + _GOLDEN * place % 1, (0.42, 0.58, 0.3)[place % 3], 0.65)
    return f"#{''.join(f'{round(part * 255):02x}' for part in rgb)}"
