"""Who is champion: decisions that are carried out whole, whatever is killed on the way.

MLflow moves an alias without looking at what it was. So everything here holds one lock, reads the champion again
before it acts, and writes to the ledger what it is about to do (`decided`), acts, and writes that it has (`done`).
A process that is killed in between leaves a decision without `done`: the next command carries that out first.
"""

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from flows.ledger import Ledger
from flows.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry, Version
from genmodel import durable
from genmodel.errors import ModelError, TrackingError
from genmodel.evaluation.gate import Check, Decision

ROLLED_BACK = "genmodel.rolled_back"  # a version's tag: why it is not to become champion again


class Promotions:
    """The decisions about a registry's champion, and their ledger."""

    def __init__(self, registry: Registry, ledger: Ledger) -> None:
        self._registry = registry
        self._ledger = ledger

    def settle(
        self, candidate: Version, request: Mapping[str, Any], judge: Callable[[Version | None], Decision]
    ) -> dict[str, Any]:
        """Decide about `candidate`, carry it out, and return the decision (Decision.as_dict).

        `judge` weighs it against the champion of the moment. `request` is all that the candidate brings to it: the
        same request once more, while nothing has been decided since, is answered as before.
        """
        with self._registry.promotion():
            self._finish()
            candidate = self._registry.numbered(candidate.number) or candidate  # its tags may have changed
            self._registry.set_alias(CANDIDATE, candidate.number)
            digest = durable.digest_json(request)
            if (answered := self._answered(digest)) is not None:
                return answered
            champion, decision = self._judged(candidate, judge)
            after = {"champion": champion and _brief(champion), "previous": self._brief(PREVIOUS)}
            if decision.outcome == "promote" and (champion is None or champion.number != candidate.number):
                after = {"champion": _brief(candidate), "previous": champion and _brief(champion)}
            told = decision.as_dict()
            self._carry_out(
                kind="promotion",
                request=digest,
                version=candidate.number,
                before=champion and _brief(champion),
                after=after,
                decision=told,
            )
            return told

    def roll_back(self, reason: str) -> tuple[Version, Version]:
        """Put the previous champion back, once it has shown that it loads and generates; the two change places.

        The version that gives way is not promoted again, until a rollback puts it back in its turn. Returns the
        champion of now and the one that gave way.
        """
        with self._registry.promotion():
            self._finish()
            champion, previous = self._registry.version(CHAMPION), self._registry.version(PREVIOUS)
            if champion is None or previous is None:
                raise TrackingError("there is no previous champion to put back: nothing was changed")
            self._registry.try_out(previous)
            self._carry_out(
                kind="rollback",
                version=previous.number,
                before=_brief(champion),
                after={"champion": _brief(previous), "previous": _brief(champion)},
                reason=reason,
            )
            return previous, champion

    def history(self) -> list[dict[str, Any]]:
        """Every decision that was carried out, the oldest first; what was left open is carried out before."""
        with self._registry.promotion():
            self._finish()
            events = self._ledger.events()
        done = {event["id"] for event in events if event["event"] == "done"}
        return [event for event in events if event["event"] == "decided" and event["id"] in done]

    def _judged(
        self, candidate: Version, judge: Callable[[Version | None], Decision]
    ) -> tuple[Version | None, Decision]:
        """The champion, and the decision against it: made anew where someone moved the alias by hand meanwhile."""
        champion = self._registry.version(CHAMPION)
        while True:
            decision = judge(champion)
            if reason := candidate.tags.get(ROLLED_BACK):
                says = f"Version {candidate.number} was champion and was rolled back: {reason}"
                decision = decision.held_to(Check(name="rolled back", passed=False, says=says))
            if decision.outcome == "promote":
                decision = decision.held_to(self._loads(candidate))
            now = self._registry.version(CHAMPION)
            if (now and now.number) == (champion and champion.number):
                return champion, decision
            champion = now

    def _loads(self, candidate: Version) -> Check:
        try:
            return Check(name="loads", passed=True, says=self._registry.try_out(candidate))
        except ModelError as error:
            return Check(name="loads", passed=False, says=f"{error}.")

    def _answered(self, digest: str) -> dict[str, Any] | None:
        """The last decision, if it was about the same request and the champion is still what it says."""
        last = next((event for event in reversed(self._ledger.events()) if event["event"] == "decided"), None)
        if last is None or last.get("request") != digest or last["after"]["champion"] != self._brief(CHAMPION):
            return None
        told: dict[str, Any] = last["decision"]
        return told

    def _carry_out(self, **decided: Any) -> None:
        event = {"id": uuid.uuid4().hex, "event": "decided", "time": _now(), **decided}
        self._ledger.append(event)
        self._apply(event)
        self._ledger.append({"id": event["id"], "event": "done", "time": _now()})

    def _finish(self) -> None:
        """Carry out what a killed process has decided and not done; only the last decision can be open.

        Where the registry is another one by now, or someone moved the alias by hand, it is void.
        """
        last = next(reversed(self._ledger.events()), None)
        if last is None or last["event"] != "decided":
            return
        if why := self._obstacle(last):
            self._ledger.append({"id": last["id"], "event": "void", "time": _now(), "reason": why})
            return
        self._apply(last)
        self._ledger.append({"id": last["id"], "event": "done", "time": _now()})

    def _obstacle(self, event: Mapping[str, Any]) -> str:
        """Why a decision cannot be carried out any more; empty if it can."""
        for brief in filter(None, [event["after"]["champion"], event["after"]["previous"]]):
            found = self._registry.numbered(brief["version"])
            if found is None or _brief(found) != brief:
                return f"version {brief['version']} is not in this registry"
        if self._brief(CHAMPION) not in (event["before"], event["after"]["champion"]):
            return "the alias was moved by hand"
        return ""

    def _apply(self, event: Mapping[str, Any]) -> None:
        """Bring tags and aliases to what was decided; once more changes nothing. The champion's alias moves last."""
        after, moves = event["after"], event["after"]["champion"] != event["before"]
        if event["kind"] == "promotion":
            told = event["decision"]
            tags = {"genmodel.decision": told["outcome"], "genmodel.reasons": " ".join(told["reasons"])}
            self._registry.tag(event["version"], {**tags, "genmodel.decided": event["time"]})
        else:
            self._registry.tag(after["previous"]["version"], {ROLLED_BACK: f"{event['time'][:10]}, {event['reason']}"})
            self._registry.tag(after["champion"]["version"], {ROLLED_BACK: None})
        if moves and after["previous"]:
            self._registry.set_alias(PREVIOUS, after["previous"]["version"])
        if moves:
            self._registry.set_alias(CHAMPION, after["champion"]["version"])

    def _brief(self, alias: str) -> dict[str, str] | None:
        version = self._registry.version(alias)
        return None if version is None else _brief(version)


def _brief(version: Version) -> dict[str, str]:
    return {"version": version.number, "weights": version.tags.get("genmodel.weights", "")}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
