"""Who is champion and what was decided, for the page."""

from dataclasses import dataclass
from pathlib import Path

from genmodel.evaluation.as_json import AsJson
from genmodel.evaluation.gate import Decision
from genmodel.files import durable

_HEADLINES = {
    "promote": "{name} was promoted",
    "reject": "{name} was rejected",
    "inconclusive": "inconclusive: {name} was not promoted",
    "pending": "{name} waits for a person's word",
}
_BADGES = {"promote": "", "reject": "rejected", "inconclusive": "not promoted", "pending": "pending"}


@dataclass(frozen=True, kw_only=True)
class Standing(AsJson):
    """Who is champion in the registry, and the decision about the best of the reports."""

    decision: Decision | None = None  # None: the reports have not been weighed against the champion
    version: str = ""  # of the champion; empty: there is none
    name: str = ""
    weights: str = ""
    changes: dict[str, list[str]] | None = None  # by kind, since the comparison before; None: there was none
    since: str = ""  # when that was made
    over_time: str = ""  # address of the page of champions over time, relative to this one

    @property
    def headline(self) -> str:
        """What was decided, as the beginning of a sentence."""
        if self.decision is None:
            return "not decided yet"
        outcome: str = self.decision.outcome
        candidate = self.decision.candidate
        crowned = bool(self.weights) and self.weights == candidate.weights
        told = _HEADLINES.get(outcome, "{name}: " + outcome).format(name=candidate.name)
        if outcome == "pending" and crowned:
            return f"{candidate.name} was promoted by a person's word"
        if outcome == "promote" and not crowned:
            return f"{told}, and a command has changed the champion since (python -m flows.registry history)"
        return told

    @property
    def champion_value(self) -> tuple[float, tuple[float, float] | None] | None:
        """The champion's deciding figure and its interval, if it was judged under the conditions of the reports."""
        if self.decision is None:
            return None
        for brief in (self.decision.candidate, self.decision.champion):
            if brief and brief.weights == self.weights and brief.value is not None:
                return brief.value, brief.interval
        return None

    def badge(self, weights: str) -> str:
        """A word beside a model's name in the table: what it is, or what was decided about it."""
        if self.weights and weights == self.weights:
            return "champion"
        if self.decision and weights == self.decision.candidate.weights:
            return _BADGES.get(self.decision.outcome, self.decision.outcome)
        return ""


def mark(standing: Standing) -> str:
    """What a page says in its head about the standing that it tells."""
    return durable.digest_json(standing.as_dict())[:32]


def tells(page: Path, standing: Standing) -> bool:
    """Whether there is a page and it tells this standing."""
    try:
        with page.open(encoding="utf-8", errors="replace") as file:
            return f'name="standing" content="{mark(standing)}"' in file.read(1000)
    except FileNotFoundError:
        return False
