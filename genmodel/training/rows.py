"""A line of metrics.jsonl: a row of the record with its own checksum. Needs no torch."""

import json
from collections.abc import Mapping
from typing import Any

from genmodel.files import durable

_KNOWN = {"step", "images_seen", "time_ms", "order", "metrics"}  # of a row written before rows had checksums


def as_line(row: Mapping[str, Any]) -> str:
    return json.dumps({**row, "checksum": _checksum(row)}) + "\n"


def from_line(line: str | bytes) -> dict[str, Any]:
    """The row of a line, without its checksum; ValueError or TypeError if the line is damaged."""
    row = json.loads(line)
    checksum = row.pop("checksum", None) if isinstance(row, dict) else None
    if not isinstance(row, dict) or (checksum != _checksum(row) if checksum else not row.keys() <= _KNOWN):
        raise ValueError("not a row, or its checksum does not match")
    return row


def _checksum(row: Mapping[str, Any]) -> str:
    return durable.digest_bytes(json.dumps(row, sort_keys=True).encode())[:16]  # a metric may be NaN
