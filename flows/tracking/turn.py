"""Turns at a registered model, for processes on any machine: one has its turn at a time (Lamport's bakery).

MLflow has no lock, and does not compare before it writes. But each process can write a tag of its own: it says that it
is choosing (0), chooses a number above all that it sees, and waits until nobody is choosing and nobody has a lower one.
A process that is gone is passed over: on this machine it is looked up, elsewhere its tag has not changed for a while.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import NamedTuple

from flows.tracking.lease import OWNER, Owner
from flows.tracking.runs import Tracker
from genmodel.errors import TrackingError
from genmodel.output.printable import printable
from genmodel.output.progress import say

_KEY = "genmodel.turn."
_GONE = 120.0  # seconds in which the tag of a process elsewhere has not changed; a turn takes a few
_RENEWAL = 20.0  # seconds after which one who waits changes its tag
_POLL = 0.1  # seconds
_SILENCE, _PATIENCE = 5.0, 600.0  # seconds until a wait is reported, and until it ends in an error


class _Ticket(NamedTuple):
    key: str
    number: int  # 0: choosing
    text: str  # as it was written

    @property
    def owner(self) -> Owner | None:
        return Owner.read({OWNER: self.text})


class Turn:
    """The right to change the registered model `name`; valid within `taken`."""

    def __init__(self, tracker: Tracker, name: str) -> None:
        self._tracker, self._name = tracker, name
        self._key = f"{_KEY}{uuid.uuid4().hex}"
        self._seen: dict[str, tuple[str, float]] = {}  # another's tag, and our monotonic time when it was new

    @contextlib.contextmanager
    def taken(self) -> Iterator["Turn"]:
        """Wait for the turn and give it back at the end; TrackingError after ten minutes."""
        try:
            self._wait()
            yield self
        finally:
            with contextlib.suppress(TrackingError):  # a server that is gone: others notice that we are, too
                self._remove(self._key)

    def check(self) -> None:
        """TrackingError if others took this process for dead, and one of them may have its turn by now."""
        if self._key not in self._tickets():
            raise TrackingError("this process was silent for too long, and lost its turn: run the same command again")

    def _wait(self) -> None:
        started = renewed = time.monotonic()
        told, number = False, self._choose()
        while ahead := self._ahead(number):
            now = time.monotonic()
            if now - started > _PATIENCE:
                raise TrackingError(f"{self._name} has been kept from us for {now - started:.0f} s by {_named(ahead)}")
            if now - started > _SILENCE and not told:
                say(f"waiting for {_named(ahead)}, which decides about {self._name}")
                told = True
            if now - renewed > _RENEWAL:
                self._write(number)
                renewed = now
            time.sleep(_POLL)

    def _choose(self) -> int:
        self._write(0)
        number = 1 + max(ticket.number for ticket in self._tickets().values())
        self._write(number)
        return number

    def _ahead(self, number: int) -> list[_Ticket]:
        """Those who are choosing or have a lower number, and live."""
        tickets = self._tickets()
        if self._key not in tickets:
            raise TrackingError("this process was silent for too long, and lost its turn: run the same command again")
        others = [ticket for key, ticket in tickets.items() if key != self._key]
        found = [each for each in others if each.number == 0 or (each.number, each.key) < (number, self._key)]
        for ticket in found:
            if self._is_gone(ticket):
                self._remove(ticket.key)
        return found

    def _is_gone(self, ticket: _Ticket) -> bool:
        alive = ticket.owner.is_alive() if ticket.owner else None
        if alive is not None:
            return not alive
        now = time.monotonic()
        if self._seen.get(ticket.key, ("", 0))[0] != ticket.text:
            self._seen[ticket.key] = ticket.text, now
        return now - self._seen[ticket.key][1] > _GONE

    def _tickets(self) -> dict[str, _Ticket]:
        with self._tracker.talking() as (client, _):
            found = client.search_registered_models(f"name = '{self._name}'")
        tags = found[0].tags if found else {}
        return {key: _Ticket(key, _number(tags[key]), tags[key]) for key in tags if key.startswith(_KEY)}

    def _write(self, number: int) -> None:
        told = {"number": number, "time": f"{time.time():.3f}", **asdict(Owner.here())}
        with self._tracker.talking() as (client, _):
            client.set_registered_model_tag(self._name, self._key, json.dumps(told))

    def _remove(self, key: str) -> None:
        with self._tracker.talking() as (client, _):
            client.delete_registered_model_tag(self._name, key)


def _number(text: str) -> int:
    try:
        return int(json.loads(text)["number"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return 0


def _named(tickets: list[_Ticket]) -> str:
    owner = tickets[0].owner
    return printable(f"process {owner.pid} of {owner.host}" if owner else "another process")
