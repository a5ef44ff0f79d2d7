"""Who is champion: each decision is carried out completely, even if the process is killed on the way.

MLflow moves an alias without comparing it to what it was. So whoever moves one here holds a lock, reads the champion
again, writes to the ledger what it is about to do (`decided`), does it, and writes that it has (`done`). A process that
is killed in between leaves a decision without `done`: the next command carries it out first.

After each line the digest of the ledger so far is noted in a tag of the registered model, one for each project. A
ledger without the noted line has lost lines at its end. One that was removed as a whole is not missed.
"""

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from heapq import merge
from typing import Any

from flows.registry.history.events import EVENT
from flows.registry.promotions import Ledger
from flows.registry.registry import CANDIDATE, CHAMPION, PENDING, PREVIOUS, Registry, Version
from genmodel.errors import EvaluationError, ModelError, TrackingError
from genmodel.evaluation.gate import Check, Decision
from genmodel.files import durable

ROLLED_BACK, REFUSED = "genmodel.rolled_back", "genmodel.refused"  # a version's tags: why it must not become champion
_BARRED = {ROLLED_BACK: ("rolled back", "was champion and was rolled back"), REFUSED: ("refused", "was refused")}
_HOW = (
    "Version {number} waits for a person's word: python -m flows.registry approve {number} --reason TEXT,"
    " or refuse {number}."
)
_OPEN = "genmodel.open"  # a tag of the registered model: the decision that is being carried out
_OF_RUN = {"approval": "promoted", "refusal": "rejected"}  # what becomes of a version's run
_OF_FORMER = {"rollback": "rolled back", "retirement": "retired"}  # of the champion's until now; else it was replaced


class Promotions:
    """The decisions about a registry's champion, and their ledger."""

    def __init__(self, registry: Registry, ledger: Ledger) -> None:
        self._registry = registry
        self._ledger = ledger

    def standing(self, request: Mapping[str, Any], weights: str) -> Decision | None:
        """The last decision, if it answers `request` about the model of these weights and still holds; else None."""
        with self.deciding():
            return self._answered(durable.digest_json(request), weights)

    def settle(
        self, candidate: Version, request: Mapping[str, Any], judge: Callable[[Version | None], Decision]
    ) -> Decision:
        """Decide about `candidate`, carry it out, and return the decision.

        `judge` compares it with the current champion. That takes long, so it runs without the lock, and once more if
        another command has moved the champion meanwhile. `request` is what the decision depends on besides the
        champion: the same request again, with no other decision in between, gets the same answer.
        """
        digest, weights = durable.digest_json(request), candidate.tags["genmodel.weights"]
        while True:
            with self.deciding():
                if (answered := self._answered(digest, weights)) is not None:
                    return answered
                candidate, champion = self._fresh(candidate), self._registry.version(CHAMPION)
            decision = self._judged(candidate, champion, judge)
            with self.deciding():
                if (answered := self._answered(digest, weights)) is not None:  # another process was asked the same
                    return answered
                as_judged = (champion and brief_of(champion), _bars(candidate))
                if (self.brief(CHAMPION), _bars(self._fresh(candidate))) != as_judged:
                    continue
                return self._decide(candidate, champion, digest, decision)

    def roll_back(self, reason: str) -> tuple[Version, Version | None]:
        """Put the previous champion back, once it has shown that it loads and generates; the two change places.

        The version that gives way is not promoted again until another rollback puts it back; after `retire` there is
        none. Returns the new champion and the version that gave way.
        """
        while True:
            with self.deciding():
                champion, previous = self._registry.version(CHAMPION), self._registry.version(PREVIOUS)
            if previous is None:
                raise TrackingError("there is no previous champion to put back: nothing was changed")
            self._registry.try_out(previous)
            before, back = champion and brief_of(champion), brief_of(previous)
            with self.deciding():
                if (self.brief(CHAMPION), self.brief(PREVIOUS)) != (before, back):
                    continue
                after = {"champion": back, "previous": before}
                self.carry_out(kind="rollback", version=previous.number, before=before, after=after, reason=reason)
                return previous, champion

    def retire(self, reason: str) -> Version:
        """Take the champion's alias away: the next sound candidate starts a new line. Returns the former champion."""
        with self.deciding():
            champion = self._registry.version(CHAMPION)
            if champion is None:
                raise TrackingError("there is no champion to retire: nothing was changed")
            before = brief_of(champion)
            after = {"champion": None, "previous": before}
            self.carry_out(kind="retirement", version=champion.number, before=before, after=after, reason=reason)
            return champion

    def history(self) -> list[dict[str, Any]]:
        """Every decision that was carried out, the oldest first; one that was left unfinished is carried out now.

        Those of other projects with the same registry are among them: each is kept with the version that it is about.
        """
        with self.deciding():
            events = self._ledger.events()
            told = self._registry.events()
        done = {event["id"] for event in events if event["event"] == "done"}
        ours = [event for event in events if event["event"] == "decided" and event["id"] in done]
        known = {event["id"] for event in ours}
        return list(merge(ours, (event for event in told if event["id"] not in known), key=lambda event: event["time"]))

    @contextlib.contextmanager
    def deciding(self) -> Iterator[None]:
        """Hold the right to decide, with nothing left unfinished."""
        with self._registry.promotion():
            self._finish()
            yield

    def _fresh(self, version: Version) -> Version:
        """The version with its present tags."""
        return self._registry.numbered(version.number) or version

    def _judged(
        self, candidate: Version, champion: Version | None, judge: Callable[[Version | None], Decision]
    ) -> Decision:
        decision = judge(champion)
        for tag, (name, what) in _BARRED.items():
            if reason := candidate.tags.get(tag):
                says = f"Version {candidate.number} {what}: {reason}"
                decision = decision.held_to(Check(name=name, passed=False, says=says))
        if decision.outcome == "promote":
            decision = decision.held_to(self._loads(candidate))
        if decision.needs_approval:
            decision = decision.turned("pending", _HOW.format(number=candidate.number))
        return decision

    def _decide(self, candidate: Version, champion: Version | None, request: str, decision: Decision) -> Decision:
        before = champion and brief_of(champion)
        after = {"champion": before, "previous": self.brief(PREVIOUS)}
        if decision.outcome == "promote" and before != brief_of(candidate):
            after = {"champion": brief_of(candidate), "previous": before}
        self._registry.set_alias(CANDIDATE, candidate.number)
        self.carry_out(
            kind="promotion",
            request=request,
            version=candidate.number,
            before=before,
            after=after,
            decision=decision.as_dict(),
        )
        return decision

    def _loads(self, candidate: Version) -> Check:
        try:
            return Check(name="loads", passed=True, says=self._registry.try_out(candidate))
        except ModelError as error:
            return Check(name="loads", passed=False, says=f"{error}.")

    def _answered(self, request: str, weights: str) -> Decision | None:
        """The last decision, if it was about the same request and this registry is still as it left it.

        One that an older version of this code wrote in another form does not count: the decision is made again.
        """
        last = next((event for event in reversed(self._ledger.events()) if event["event"] == "decided"), None)
        if last is None or last.get("request") != request or last["after"]["champion"] != self.brief(CHAMPION):
            return None
        about = self._registry.numbered(last["version"])
        if about is None or about.tags.get("genmodel.weights") != weights:
            return None
        if about.tags.get("genmodel.decided") != last["time"]:  # a version of another registry
            return None
        try:
            decision = Decision.from_dict(last["decision"], "the ledger's last decision")
        except EvaluationError:
            return None
        if self.brief(CANDIDATE) != brief_of(about):
            self._registry.set_alias(CANDIDATE, about.number)
        return decision

    def carry_out(self, **decided: Any) -> None:
        event = {"id": uuid.uuid4().hex, "event": "decided", "time": _now(), **decided}
        self._append(event)
        self._registry.note(_OPEN, json.dumps(event))
        self._apply(event)
        self._registry.note(_OPEN, None)
        self._append({"id": event["id"], "event": "done", "time": _now()})

    def _append(self, event: Mapping[str, Any]) -> None:
        links = self._ledger.append(event)
        self._registry.note(self._tag(links), links[-1])

    def _tag(self, links: list[str]) -> str:
        """The tag that holds the digest of this ledger: a copy of the project continues the ledger in its own way."""
        place = [str(self._ledger.path.absolute()), *links[:1]]
        return f"genmodel.ledger.{durable.digest_json(place)[:12]}"

    def _check_end(self) -> None:
        """TrackingError if lines are missing at the ledger's end. It may be a line ahead of what is noted."""
        links = self._ledger.links()
        if links and self._registry.noted(self._tag(links)) not in (None, *links):
            raise self._ledger.unusable(" ends too early: the registry has noted a later line")

    def _finish(self) -> None:
        """Carry out what a killed process decided and did not do; only the last decision can be unfinished.

        It is void if the registry is another one by now, or if someone moved the alias by hand.
        """
        self._check_end()
        if open_ := self._registry.noted(_OPEN):  # of this project, or of another with the same registry
            event = json.loads(open_)
            if not self._obstacle(event):
                self._apply(event)
            self._registry.note(_OPEN, None)
        last = next(reversed(self._ledger.events()), None)
        if last is None or last["event"] != "decided":
            return
        if not self._is_done(last):
            if why := self._obstacle(last):
                self._append({"id": last["id"], "event": "void", "time": _now(), "reason": why})
                return
            self._apply(last)
        self._append({"id": last["id"], "event": "done", "time": _now()})

    def _is_done(self, event: Mapping[str, Any]) -> bool:
        """Whether another project has carried it out, which may have moved the champion since."""
        about = self._registry.numbered(event["version"])
        return about is not None and f"{EVENT}{event['id']}" in about.tags

    def _obstacle(self, event: Mapping[str, Any]) -> str:
        """Why a decision cannot be carried out any more; empty if it can."""
        for brief in filter(None, [event["after"]["champion"], event["after"]["previous"]]):
            found = self._registry.numbered(brief["version"])
            if found is None or brief_of(found) != brief:
                return f"version {brief['version']} is not in this registry"
        if self.brief(CHAMPION) not in (event["before"], event["after"]["champion"]):
            return "the alias was moved by hand, or by another project"
        return ""

    def _apply(self, event: Mapping[str, Any]) -> None:
        """Set tags and aliases as decided; doing so again changes nothing. The champion's alias moves last."""
        after, moves = event["after"], event["after"]["champion"] != event["before"]
        kind, number, decision = event["kind"], event["version"], event.get("decision")
        if decision:
            tags = {"genmodel.decision": decision["outcome"], "genmodel.reasons": " ".join(decision["reasons"])}
            self._registry.tag(number, {**tags, "genmodel.decided": event["time"]})
        why = f"{event['time'][:10]}, {event.get('reason')}"
        if kind == "rollback":
            if after["previous"]:
                self._registry.tag(after["previous"]["version"], {ROLLED_BACK: why})
            self._registry.tag(after["champion"]["version"], {ROLLED_BACK: None})
        if kind in _OF_RUN:
            self._registry.tag(number, {REFUSED: f"{why} ({event['by']})" if kind == "refusal" else None})
            self._registry.set_outcome(number, _OF_RUN[kind])
        if moves:
            self._registry.check_turn()
            self._point(PREVIOUS, after["previous"])
            self._point(CHAMPION, after["champion"])
            self._registry.crowned(event["before"], _OF_FORMER.get(kind, "replaced"))
        self._registry.tag(number, {f"{EVENT}{event['id']}": json.dumps(event, sort_keys=True)})
        self._wait_or_not(number, waits=decision is not None and decision["outcome"] == "pending", moves=moves)

    def _wait_or_not(self, number: str, waits: bool, moves: bool) -> None:
        """Keep one pending version at most: the last one, until it is decided or the champion is another."""
        pending = self._registry.version(PENDING)
        if pending and pending.number != number and (waits or moves):
            self._registry.tag(pending.number, {"genmodel.decision": "superseded"})
            self._registry.set_outcome(pending.number, "superseded")
        if waits:
            self._registry.set_alias(PENDING, number)
        elif pending and (moves or pending.number == number):
            self._registry.drop_alias(PENDING)

    def _point(self, alias: str, brief: Mapping[str, str] | None) -> None:
        if brief:
            self._registry.set_alias(alias, brief["version"])
        elif self._registry.version(alias):
            self._registry.drop_alias(alias)

    def brief(self, alias: str) -> dict[str, str] | None:
        version = self._registry.version(alias)
        return None if version is None else brief_of(version)


def brief_of(version: Version) -> dict[str, str]:
    return {"version": version.number, "weights": version.tags.get("genmodel.weights", "")}


def _bars(version: Version) -> list[str | None]:
    return [version.tags.get(tag) for tag in _BARRED]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
