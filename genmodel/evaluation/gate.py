"""The gate: whether a candidate takes the champion's place. Pure: two reports in, a decision with its reasons out."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from genmodel.config import GateConfig
from genmodel.errors import IncomparableError
from genmodel.evaluation.features import figure_names


@dataclass(frozen=True, kw_only=True)
class Decision:
    """promote: the candidate becomes champion; reject: it is worse or broken; inconclusive: all stays as it is."""

    outcome: Literal["promote", "reject", "inconclusive"]
    reasons: list[str]
    figure: str  # the name of the figure that decides
    candidate: dict[str, Any]  # name, weights, and the figure as "value"
    champion: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def decide(candidate: dict[str, Any], champion: dict[str, Any] | None, config: GateConfig) -> Decision:
    """Weigh two reports (Report.as_dict) by their Frechet distance, where less is better.

    In this order: a candidate with a figure that is no number, or with a finding of health, is rejected; without a
    champion it is promoted; the champion's own weights are inconclusive ("unchanged"), whatever the conditions;
    reports of unlike conditions raise IncomparableError; a champion whose figure is no number gives way; a relative
    difference up to `config.margin` is inconclusive, and beyond it the lower distance wins.
    """
    figure = figure_names(candidate["conditions"]["extractor"]["name"]).frechet
    outcome, reason = _weigh(candidate, champion, figure, config.margin)
    return Decision(
        outcome=outcome,
        reasons=[reason],
        figure=figure,
        candidate=_brief(candidate, figure),
        champion=None if champion is None else _brief(champion, figure),
    )


def _weigh(
    candidate: dict[str, Any], champion: dict[str, Any] | None, figure: str, margin: float
) -> tuple[Literal["promote", "reject", "inconclusive"], str]:
    broken = [f"{key} is {value}" for key, value in candidate["figures"].items() if not _is_number(value)]
    if broken:
        return "reject", f"{candidate['name']} is broken: {', '.join(broken)}."
    if candidate.get("health"):
        return "reject", f"{candidate['name']} is sick: {' '.join(candidate['health'])}"
    mine = float(candidate["figures"][figure])
    if champion is None:
        return "promote", f"There is no champion yet, and {candidate['name']} is sound: {figure} {mine:g}."
    if candidate["weights"] == champion["weights"]:
        return "inconclusive", f"Unchanged: the weights of {candidate['name']} are the champion's own."
    _check_comparable(candidate, champion)
    theirs = float(champion["figures"][figure])
    if not math.isfinite(theirs):
        return "promote", f"The champion's {figure} is {theirs}, and {candidate['name']} is sound: {figure} {mine:g}."
    numbers = f"{figure} {mine:g} of {candidate['name']} against {theirs:g} of the champion {champion['name']}"
    share = abs(mine - theirs) / theirs if theirs else (math.inf if mine else 0.0)
    if share <= margin:
        return "inconclusive", f"{numbers}: a difference of {share:.2%} is within the noise of {margin:.2%}."
    if mine < theirs:
        return "promote", f"{numbers}: {share:.2%} lower, beyond the noise of {margin:.2%}."
    return "reject", f"{numbers}: {share:.2%} higher, beyond the noise of {margin:.2%}."


def _is_number(value: float | str | None) -> bool:
    return value is None or math.isfinite(float(value))  # None: does not apply to the family


def _check_comparable(candidate: dict[str, Any], champion: dict[str, Any]) -> None:
    mine, theirs = candidate["conditions"], champion["conditions"]
    unlike = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
    if unlike:
        raise IncomparableError(
            f"{candidate['name']} and the champion {champion['name']} were judged under different conditions"
            f" ({', '.join(unlike)}): evaluate the champion again under the candidate's"
        )


def _brief(report: dict[str, Any], figure: str) -> dict[str, Any]:
    return {"name": report["name"], "weights": report["weights"], "value": report["figures"].get(figure)}
