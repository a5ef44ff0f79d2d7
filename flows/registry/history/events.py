"""Decisions about a version as they are kept in its tags, so that every project with the same registry knows them."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

EVENT = "genmodel.event."  # how these tags begin; what follows is the id of the decision
_WHOLE = {"id", "time", "kind", "version", "before", "after"}  # what every such decision has


def events_of(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """The decisions in the tags of a version, the oldest first; a tag that somebody damaged is left out."""
    found = []
    for key in (key for key in tags if key.startswith(EVENT)):
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(tags[key]))
    whole = [event for event in found if isinstance(event, dict) and event.keys() >= _WHOLE]
    return sorted(whole, key=lambda event: str(event["time"]))
