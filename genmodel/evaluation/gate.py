"""The gate: whether a candidate takes the champion's place. Pure: two reports in, a decision with its reasons out."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from genmodel.errors import IncomparableError
from genmodel.settings import GateConfig
from genmodel.shown import printable

Outcome = Literal["promote", "reject", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A guardrail: what it says, and whether the candidate passed it; None where the report lacks the figure."""

    name: str
    passed: bool | None
    says: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """promote: the candidate becomes champion; reject: it is worse or broken; inconclusive: all stays as it is."""

    outcome: Outcome
    reasons: list[str]  # what decided, whole sentences
    checks: list[Check]  # every guardrail, those that were passed or could not be held included
    figure: str  # the name of the figure that decides
    candidate: dict[str, Any]  # name, weights, the figure as "value" and, where known, its "interval"
    champion: dict[str, Any] | None
    rule: dict[str, Any]  # the GateConfig

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def held_to(self, check: Check) -> "Decision":
        """The decision with one guardrail more; a candidate that fails it is rejected, whatever its figures."""
        checked = replace(self, checks=[*self.checks, check])
        if check.passed is not False:
            return checked
        return replace(checked, outcome="reject", reasons=[*self.reasons, check.says])


def decide(
    candidate: dict[str, Any], champion: dict[str, Any] | None, config: GateConfig, obstacle: str = ""
) -> Decision:
    """Weigh two reports (Report.as_dict) by their Frechet distance, where less is better.

    A candidate with a figure that is no number, with a finding of health, or beyond a guardrail, is rejected. Else, in
    this order: an `obstacle`, which says why the champion cannot be judged beside it, is inconclusive (`champion` is
    then its name, weights and figures, as far as they are known); without a champion it is promoted; the champion's own
    weights are inconclusive ("unchanged"), whatever the conditions; reports of unlike conditions raise
    IncomparableError; a champion whose figure is no number gives way; a relative difference up to `config.margin`, or
    intervals that overlap, are inconclusive; beyond, the lower distance wins.
    """
    from genmodel.evaluation.names import figure_names  # torch: who only shows a decision need not wait for it

    figure = figure_names(candidate["conditions"]["extractor"]["name"]).frechet
    outcome, reason = _weigh(candidate, champion, figure, config, obstacle)
    decision = Decision(
        outcome=outcome,
        reasons=[reason],
        checks=[],
        figure=figure,
        candidate=_brief(candidate, figure),
        champion=None if champion is None else _brief(champion, figure),
        rule=asdict(config),
    )
    for check in _guardrails(candidate["figures"], config):
        decision = decision.held_to(check)
    return decision


def _weigh(
    candidate: dict[str, Any], champion: dict[str, Any] | None, figure: str, config: GateConfig, obstacle: str
) -> tuple[Outcome, str]:
    broken = [f"{key} is {value}" for key, value in candidate["figures"].items() if not _is_number(value)]
    if broken:
        return "reject", f"{candidate['name']} is broken: {', '.join(broken)}."
    if candidate.get("health"):
        return "reject", f"{candidate['name']} is sick: {' '.join(candidate['health'])}"
    mine = float(candidate["figures"][figure])
    if obstacle:
        return "inconclusive", obstacle
    if champion is None:
        return "promote", f"There was no champion: {figure} {mine:g} of {candidate['name']}."
    if candidate["weights"] == champion["weights"]:
        return "inconclusive", f"Unchanged: the weights of {candidate['name']} are the champion's own."
    _check_comparable(candidate, champion)
    theirs = float(champion["figures"][figure])
    if not math.isfinite(theirs):
        return "promote", f"The champion's {figure} is {theirs}: {mine:g} of {candidate['name']} is a number."
    numbers = f"{figure} {mine:g} of {candidate['name']} against {theirs:g} of the champion {champion['name']}"
    share = abs(mine - theirs) / theirs if theirs else (math.inf if mine else 0.0)
    if share <= config.margin:
        return "inconclusive", f"{numbers}: a difference of {share:.2%} is within the noise of {config.margin:.2%}."
    known = [_interval(report, figure) for report in (candidate, champion)]
    if config.intervals and (overlap := _overlap(*known)):
        return "inconclusive", f"{numbers}: {overlap}, so {share:.2%} may be noise of seeds and samples."
    beyond = " and apart by their intervals" if config.intervals and all(known) else ""
    word = "lower" if mine < theirs else "higher"
    return "promote" if mine < theirs else "reject", (
        f"{numbers}: {share:.2%} {word}, beyond the noise of {config.margin:.2%}{beyond}."
    )


def _overlap(mine: list[float] | None, theirs: list[float] | None) -> str:
    """In words, how two intervals overlap; empty where they do not, or one is unknown."""
    if mine is None or theirs is None or mine[0] > theirs[1] or theirs[0] > mine[1]:
        return ""
    return f"the intervals {_span(mine)} and {_span(theirs)} overlap"


def _span(interval: list[float]) -> str:
    return f"[{interval[0]:g}, {interval[1]:g}]"


def _interval(report: dict[str, Any], figure: str) -> list[float] | None:
    """[low, high] of a figure; None in reports without, or with bounds that are no numbers."""
    found = (report.get("intervals") or {}).get(figure)
    if found is None:
        return None
    bounds = [float(bound) for bound in found]
    return bounds if all(math.isfinite(bound) for bound in bounds) else None


def _guardrails(figures: dict[str, Any], config: GateConfig) -> list[Check]:
    """Floors and ceilings of single figures, which are named by their extractor: precision, precision_classifier."""
    return [
        _bounded("precision", figures, config.min_precision, floor=True),
        _bounded("recall", figures, config.min_recall, floor=True),
        _bounded("copied", figures, config.max_copied, floor=False),
    ]


def _bounded(name: str, figures: dict[str, Any], bound: float, *, floor: bool) -> Check:
    key = next((key for key in sorted(figures) if key == name or key.startswith(f"{name}_")), None)
    word = "floor" if floor else "ceiling"
    if key is None or figures[key] is None:
        return Check(name=name, passed=None, says=f"The {word} of {name}, {bound:g}, was not held: no such figure.")
    value = float(figures[key])
    passed = value >= bound if floor else value <= bound  # false for NaN
    relation = "keeps to" if passed else "is beyond"
    return Check(name=name, passed=passed, says=f"{key} {value:g} {relation} the {word} of {bound:g}.")


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
    known = {"name": report["name"], "weights": report["weights"], "value": report["figures"].get(figure)}
    interval = _interval(report, figure)
    return known if interval is None else {**known, "interval": interval}


def as_markdown(told: dict[str, Any]) -> str:
    """A decision (Decision.as_dict) for people: outcome, reasons, the two figures, every guardrail, the rule."""
    rows = [("candidate", told["candidate"]), *([("champion", told["champion"])] if told["champion"] else [])]
    lines = [f"# {told['outcome'].capitalize()}", "", *(f"- {printable(reason)}" for reason in told["reasons"]), ""]
    lines += [f"|  | model | {told['figure']} | interval | weights |", "| --- | --- | --- | --- | --- |"]
    for role, brief in rows:
        span = _span(brief["interval"]) if "interval" in brief else "n/a"
        lines.append(f"| {role} | {printable(brief['name'])} | {brief['value']} | {span} | `{brief['weights'][:16]}` |")
    words = {True: "passed", False: "**failed**", None: "not held"}
    lines += ["", "## Guardrails", ""]
    lines += [f"- {check['name']}: {words[check['passed']]}. {printable(check['says'])}" for check in told["checks"]]
    lines += [
        "",
        "## Rule",
        "",
        "`gate` of params.yaml: " + ", ".join(f"{k} {v}" for k, v in sorted(told["rule"].items())),
    ]
    return "\n".join(lines) + "\n"
