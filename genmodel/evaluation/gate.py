"""The gate: whether a candidate replaces the champion. Pure: two reports in, a decision with its reasons out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from genmodel.errors import IncomparableError
from genmodel.evaluation import table
from genmodel.evaluation.as_json import AsJson
from genmodel.evaluation.report import Judged, Report
from genmodel.output.printable import printable
from genmodel.settings.config import GateConfig

Outcome = Literal["promote", "reject", "inconclusive", "pending"]


@dataclass(frozen=True, kw_only=True)
class Check(AsJson):
    """A guardrail: its message, and whether the candidate passed it; None if the report lacks the figure."""

    name: str
    passed: bool | None
    says: str


@dataclass(frozen=True, kw_only=True)
class Brief(AsJson):
    """A model and the figure that decides."""

    name: str
    weights: str
    value: float | None  # None: it was not judged
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The current champion; `judged` under the candidate's conditions, or None if that is not possible."""

    name: str
    weights: str
    judged: Judged | None


@dataclass(frozen=True, kw_only=True)
class Decision(AsJson):
    """promote: the candidate becomes champion; reject: it is worse or broken; inconclusive: nothing changes.

    pending: it would become champion, and waits for a person's word.
    """

    outcome: Outcome
    reasons: list[str]  # what decided, whole sentences
    checks: list[Check]  # every guardrail, including those passed or not applicable
    figure: str  # the name of the figure that decides
    candidate: Brief
    champion: Brief | None
    rule: dict[str, Any]  # the GateConfig
    judged_by: str = ""  # the extractor, and what it has learnt

    def held_to(self, check: Check) -> "Decision":
        """The decision with one more guardrail; a candidate that fails it is rejected, whatever its figures."""
        checked = replace(self, checks=[*self.checks, check])
        if check.passed is not False:
            return checked
        return replace(checked, outcome="reject", reasons=[*self.reasons, check.says])

    @property
    def needs_approval(self) -> bool:
        """Whether its rule leaves this promotion to a person."""
        return self.outcome == "promote" and self.rule.get("approval") == "manual"

    def turned(self, outcome: Outcome, says: str) -> "Decision":
        """The decision with another outcome, and the sentence that says why."""
        return replace(self, outcome=outcome, reasons=[*self.reasons, says])


def decide(
    candidate: Report,
    champion: Champion | None,
    config: GateConfig,
    obstacle: str = "",
    rivals: Sequence[Report] = (),
) -> Decision:
    """Compare two models by their Frechet distance; lower is better.

    A candidate with a figure that is not a number, with a health finding, or beyond a guardrail, is rejected. Else, in
    this order: an `obstacle`, the reason why the champion cannot be judged beside it, is inconclusive; the champion's
    own weights are ("unchanged"), whatever the conditions; so is whatever an extractor says that has learnt too little;
    without a champion it is promoted, unless most figures prefer one of `rivals`, judged under the same conditions;
    figures of different conditions raise IncomparableError; a champion whose figure is not a number is replaced; a
    relative difference up to `config.margin`, overlapping intervals, or other figures that say the opposite beyond
    theirs (`config.agreement`), are inconclusive; beyond, the lower distance wins.
    """
    figure = candidate.ranks_by
    outcome, reason = _weigh(candidate, champion, figure, config, obstacle, rivals)
    decision = Decision(
        outcome=outcome,
        reasons=[reason],
        checks=[],
        figure=figure,
        candidate=_brief(candidate.name, candidate.weights, candidate, figure),
        champion=None if champion is None else _brief(champion.name, champion.weights, champion.judged, figure),
        rule=asdict(config),
        judged_by=candidate.conditions.extractor.in_words,
    )
    for check in _guardrails(candidate.figures, config):
        decision = decision.held_to(check)
    return decision


def _weigh(
    candidate: Report,
    champion: Champion | None,
    figure: str,
    config: GateConfig,
    obstacle: str,
    rivals: Sequence[Report],
) -> tuple[Outcome, str]:
    broken = [f"{key} is {value}" for key, value in candidate.figures.items() if not _is_number(value)]
    if broken:
        return "reject", f"{candidate.name} is broken: {', '.join(broken)}."
    if candidate.health:
        return "reject", f"{candidate.name} is unhealthy: {' '.join(candidate.health)}"
    mine = candidate.distance
    if obstacle:
        return "inconclusive", obstacle
    if champion is not None and candidate.weights == champion.weights:
        return "inconclusive", f"Unchanged: the weights of {candidate.name} are the champion's own."
    if doubt := candidate.conditions.extractor.doubt:
        return "inconclusive", doubt
    asked = config.agreement and config.intervals  # whether other figures are
    if champion is None and asked and (told := _outvoted(candidate, rivals, config)):
        return "inconclusive", told
    if champion is None:
        return "promote", f"There was no champion: {candidate.name} has {figure} {mine:g}."
    assert champion.judged is not None, "without an obstacle it was judged"
    _check_comparable(candidate, champion.name, champion.judged)
    theirs = champion.judged.distance
    if not math.isfinite(theirs):
        return "promote", f"The champion's {figure} is {theirs}, that of {candidate.name} is {mine:g}."
    numbers = f"{figure} {mine:g} of {candidate.name} against {theirs:g} of the champion {champion.name}"
    share = abs(mine - theirs) / theirs if theirs else (math.inf if mine else 0.0)
    if share <= config.margin:
        return "inconclusive", f"{numbers}: a difference of {share:.2%} is within the noise of {config.margin:.2%}."
    known = [_interval(report, figure) for report in (candidate, champion.judged)]
    if config.intervals and (overlap := _overlap(*known)):
        return "inconclusive", f"{numbers}: {overlap}, so {share:.2%} may be noise from seeds and samples."
    word = "lower" if mine < theirs else "higher"
    if asked and (contrary := _contrary(candidate, champion.judged, config.margin)):
        return "inconclusive", (
            f"{numbers}: {share:.2%} {word}, but other figures say the opposite beyond their intervals:"
            f" {', '.join(contrary)}."
        )
    beyond = ", and their intervals do not overlap" if config.intervals and all(known) else ""
    return "promote" if mine < theirs else "reject", (
        f"{numbers}: {share:.2%} {word}, beyond the noise of {config.margin:.2%}{beyond}."
    )


def _apart(mine: Judged, theirs: Judged, margin: float) -> dict[str, bool]:
    """The figures by which the two differ beyond the noise and beyond both intervals, each with both values, in words;
    and whether it prefers the first."""
    found = {}
    for figure in (figure for figure in table.FIGURES if figure.contradicts):
        name = figure.called(mine.conditions.extractor.name)
        here, there = mine.figures.get(name), theirs.figures.get(name)
        spans = [_interval(judged, name) for judged in (mine, theirs)]
        if here is None or there is None or not all(spans) or _overlap(*spans):
            continue
        if abs(here - there) > margin * max(abs(here), abs(there)):
            found[f"{name} {here:g} against {there:g}"] = figure.prefers(here, there)
    return found


def _contrary(mine: Judged, theirs: Judged, margin: float) -> list[str]:
    """Those that prefer the model with the higher distance."""
    apart, candidate_is_nearer = _apart(mine, theirs, margin), mine.distance < theirs.distance
    return [words for words, prefers_mine in apart.items() if prefers_mine != candidate_is_nearer]


def _outvoted(candidate: Report, rivals: Sequence[Report], config: GateConfig) -> str:
    """Why no first champion is made, a sentence: more figures prefer a sound rival than the candidate, whose distance
    is lower. Empty if that is true of none."""
    for rival in rivals:
        checks = _guardrails(rival.figures, config)
        if rival.health or not all(map(_is_number, rival.figures.values())) or any(c.passed is False for c in checks):
            continue
        apart = _apart(candidate, rival, config.margin)
        against = [words for words, prefers_candidate in apart.items() if not prefers_candidate]
        if len(against) > len(apart) - len(against) + 1:
            return (
                f"{candidate.ranks_by} prefers {candidate.name}, and most figures prefer {rival.name} beyond their"
                f" intervals: {', '.join(against)}. Train them longer, or let the distance decide alone"
                " (gate.agreement: false)."
            )
    return ""


def _overlap(mine: tuple[float, float] | None, theirs: tuple[float, float] | None) -> str:
    """How two intervals overlap, in words; empty if they do not, or one is unknown."""
    if mine is None or theirs is None or mine[0] > theirs[1] or theirs[0] > mine[1]:
        return ""
    return f"the intervals {_span(mine)} and {_span(theirs)} overlap"


def _span(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:g}, {interval[1]:g}]"


def _interval(judged: Judged, figure: str) -> tuple[float, float] | None:
    """(low, high) of a figure; None if it has none, or its bounds are not numbers."""
    found = judged.intervals.get(figure)
    return found if found is not None and all(map(math.isfinite, found)) else None


def _guardrails(figures: Mapping[str, float | None], config: GateConfig) -> list[Check]:
    """Floors and ceilings of single figures, as the table defines them; a figure without one is not bounded."""
    bounded = [figure for figure in table.FIGURES if figure.guardrail]
    return [_bounded(each.name, figures, getattr(config, each.guardrail), each.better == "higher") for each in bounded]


def _bounded(name: str, figures: Mapping[str, float | None], bound: float, floor: bool) -> Check:
    word = "floor" if floor else "ceiling"
    value = figures.get(name)
    if value is None:
        return Check(
            name=name, passed=None, says=f"The {word} of {name}, {bound:g}, was not checked: the report has no {name}."
        )
    passed = value >= bound if floor else value <= bound  # false for NaN
    relation = "keeps to" if passed else "breaks"
    return Check(name=name, passed=passed, says=f"{name} {value:g} {relation} the {word} of {bound:g}.")


def _is_number(value: float | None) -> bool:
    return value is None or math.isfinite(value)  # None: does not apply to the model


def _check_comparable(candidate: Report, champion: str, judged: Judged) -> None:
    mine, theirs = candidate.conditions.as_dict(), judged.conditions.as_dict()
    unlike = sorted(key for key in mine if mine[key] != theirs[key])
    if unlike:
        raise IncomparableError(
            f"{candidate.name} and the champion {champion} were judged under different conditions"
            f" ({', '.join(unlike)}): evaluate the champion again under the candidate's"
        )


def _brief(name: str, weights: str, judged: Judged | None, figure: str) -> Brief:
    if judged is None:
        return Brief(name=name, weights=weights, value=None)
    return Brief(name=name, weights=weights, value=judged.distance, interval=_interval(judged, figure))


def as_markdown(decision: Decision) -> str:
    """A decision as Markdown: outcome, reasons, the two figures, every guardrail, the rule."""
    rows = [("candidate", decision.candidate), *([("champion", decision.champion)] if decision.champion else [])]
    lines = [f"# {decision.outcome.capitalize()}", "", *(f"- {printable(reason)}" for reason in decision.reasons), ""]
    lines += [f"|  | model | {decision.figure} | interval | weights |", "| --- | --- | --- | --- | --- |"]
    for role, brief in rows:
        span, value = _span(brief.interval) if brief.interval else "n/a", "n/a" if brief.value is None else brief.value
        lines.append(f"| {role} | {printable(brief.name)} | {value} | {span} | `{brief.weights[:16]}` |")
    if decision.judged_by:
        lines += ["", f"Judged by {printable(decision.judged_by)}."]
    words = {True: "passed", False: "**failed**", None: "not checked"}
    lines += ["", "## Guardrails", ""]
    lines += [f"- {check.name}: {words[check.passed]}. {printable(check.says)}" for check in decision.checks]
    lines += [
        "",
        "## Rule",
        "",
        "`gate` of params.yaml: " + ", ".join(f"{k} {v}" for k, v in sorted(decision.rule.items())),
    ]
    return "\n".join(lines) + "\n"
