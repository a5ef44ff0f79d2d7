"""The promotion ledger: promotions.jsonl in the project, one line per event, only ever appended to.

Each line carries a digest of itself and of all lines before it (`chain`): a reader notices one that was changed,
moved or removed. Lines that older versions wrote come first, without; the first chained line vouches for them.
Lines that are missing at the end are noticed by the digest that the registry holds: see champion.py.

Whoever reads or appends holds Registry.promotion(): the file has no lock of its own. It is not an out of DVC, which
would delete it before the stage runs, and not in git, where each branch would have its own.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmodel.errors import TrackingError
from genmodel.files import durable

NAME = "promotions.jsonl"
_NEEDED = {"id", "event", "time"}
_KNOWN = _NEEDED | {"kind", "request", "version", "before", "after", "decision", "reason"}  # of a line without a chain


class Ledger:
    """Events of a project, the oldest first."""

    def __init__(self, root: Path) -> None:
        self.path = root / NAME

    def events(self) -> list[dict[str, Any]]:
        """All whole lines; TrackingError for one that is damaged. A line that was cut off was never acted upon."""
        return self._read()[0]

    def links(self) -> list[str]:
        """For each whole line a digest of it and of all lines before it."""
        return self._read()[1]

    def append(self, event: Mapping[str, Any]) -> list[str]:
        """Add a line; it is on disk when this returns. The links from then on."""
        _, links, whole = self._read()
        link = _link(links[-1] if links else "", event)
        line = _line({**event, "chain": link})
        with durable.storage_errors(self.path):
            is_new = not self.path.exists()
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.ftruncate(handle, whole)  # what was left of a line that was cut off
                written = os.write(handle, line)
                if written != len(line):  # a disk that is full raises at the second write
                    os.write(handle, line[written:])
                os.fsync(handle)
            finally:
                os.close(handle)
            if is_new:
                durable.sync_folder(self.path.parent)
        return [*links, link]

    def _read(self) -> tuple[list[dict[str, Any]], list[str], int]:
        """The events, the links of their chain, and the length of all whole lines in bytes."""
        content = self.path.read_bytes() if self.path.exists() else b""
        *lines, rest = content.split(b"\n")
        if _parsed(rest[:-1]) is not None:  # a whole line with another byte for its line feed: no kill leaves that
            raise self._damaged(len(lines) + 1)
        events, links, chained = [], [""], False
        for number, line in enumerate(lines, start=1):
            event = _parsed(line)
            if event is None or not event.keys() >= _NEEDED:
                raise self._damaged(number)
            link = event.pop("chain", None)
            if link is None and not chained and event.keys() <= _KNOWN:
                links.append(durable.digest_bytes(links[-1].encode() + line))
            elif link == _link(links[-1], event) and _line({**event, "chain": link}) == line + b"\n":
                links.append(link)
                chained = True
            else:
                raise self._damaged(number)
            events.append(event)
        return events, links[1:], len(content) - len(rest)

    def _damaged(self, number: int) -> TrackingError:
        return self.unusable(f", line {number} is damaged, or a line before it is missing")

    def unusable(self, why: str) -> TrackingError:
        """The error for a ledger of which something is missing or wrong, `why`, with what to do about it."""
        return TrackingError(
            f"{self.path}{why}: take the file back from a copy,"
            f" or move it away (mv {NAME} {NAME}.damaged), and the champion stays and a new ledger begins"
        )


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, sort_keys=True, allow_nan=False).encode() + b"\n"


def _link(chain: str, event: Mapping[str, Any]) -> str:
    return durable.digest_bytes(chain.encode() + _line(event))


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
