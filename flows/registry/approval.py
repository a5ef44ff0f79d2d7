"""A person's word on a promotion that waits for it (`gate.approval: manual`).

The alias `pending` is at the version that waits, at most one; the decision about it is kept in a tag of that version.
So a word may come from another machine than the run's.
"""

import getpass
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from flows.registry.champion import Promotions, brief_of
from flows.registry.history.events import events_of
from flows.registry.registry import CHAMPION, PENDING, PREVIOUS, Registry, Version
from genmodel.errors import EvaluationError, TrackingError
from genmodel.evaluation.gate import Decision, Outcome

Word = Literal["approval", "refusal"]
_OUTCOMES: Mapping[Word, Outcome] = {"approval": "promote", "refusal": "reject"}


def approve(registry: Registry, promotions: Promotions, asked: str, by: str, reason: str) -> tuple[Version, str | None]:
    """Make a version champion that waits for a word, or that was refused; returns it, and the former champion's number.

    Its package is verified, loaded and drawn from first. ModelError if that fails; TrackingError if the version does
    not wait, or the champion is no longer the one that it was compared with. Nothing has changed then.
    """
    with promotions.deciding():
        version, event = _waiting(registry, asked, "approval")
    registry.try_out(version)
    with promotions.deciding():
        if _waiting(registry, version.number, "approval")[1]["id"] != event["id"]:
            raise TrackingError(f"version {version.number} was judged again meanwhile: nothing was changed; look again")
        _give(promotions, "approval", version, event, by, reason)
    return version, event["before"] and event["before"]["version"]


def refuse(registry: Registry, promotions: Promotions, asked: str, by: str, reason: str) -> Version:
    """Turn a version down that waits for a word: later runs do not promote it. TrackingError if it does not wait."""
    with promotions.deciding():
        version, event = _waiting(registry, asked, "refusal")
        _give(promotions, "refusal", version, event, by, reason)
    return version


def who() -> str:
    """This user on this machine, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "someone"
    return f"{user}@{socket.gethostname()}"


def _waiting(registry: Registry, asked: str, word: Word) -> tuple[Version, Mapping[str, Any]]:
    """The version, and the decision that left it to a person."""
    version, pending = registry.find(asked), registry.version(PENDING)
    event = next(reversed(events_of(version.tags)), None)
    waits = pending is not None and pending.number == version.number
    refused = event is not None and event["kind"] == "refusal"
    if event is None or not (waits or (refused and word == "approval")):
        which = f"version {pending.number} does" if pending else "no version does"
        raise TrackingError(f"version {version.number} does not wait for a word, {which}: nothing was changed")
    champion = registry.version(CHAMPION)
    if word == "approval" and (champion and brief_of(champion)) != event["before"]:
        then = f"version {event['before']['version']}" if event["before"] else "no champion"
        now = f"version {champion.number} is champion" if champion else "there is none"
        raise TrackingError(
            f"version {version.number} was compared with {then}, and now {now}: nothing was changed; "
            "run `python -m flows.retrain`, which compares anew"
        )
    return version, event


def _give(promotions: Promotions, word: Word, version: Version, event: Mapping[str, Any], by: str, reason: str) -> None:
    try:
        decision = Decision.from_dict(event.get("decision"), f"the decision about version {version.number}")
    except EvaluationError as error:
        raise TrackingError(f"{error}: run `python -m flows.retrain`, which compares anew") from error
    said = "Approved" if word == "approval" else "Refused"
    before, mine = promotions.brief(CHAMPION), brief_of(version)
    stays = {"champion": before, "previous": promotions.brief(PREVIOUS)}
    promotions.carry_out(
        kind=word,
        request=event.get("request"),
        version=version.number,
        before=before,
        after={"champion": mine, "previous": before} if word == "approval" else stays,
        decision=_told(decision, word, f"{said} by {by}: {reason}").as_dict(),
        by=by,
        reason=reason,
    )


def _told(decision: Decision, word: Word, says: str) -> Decision:
    """The gate's reasons and the person's, without the sentence that asked for a word or an earlier word."""
    return replace(decision, outcome=_OUTCOMES[word], reasons=[*decision.reasons[:1], says])
