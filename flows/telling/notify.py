"""Messages to people: a run failed, a model became champion or waits for a word, or the gate could not decide.

GENMODEL_NOTIFY holds Apprise URLs (mailto://, slack://, ntfy://, json://, ...), separated by spaces; without it nothing
is sent. A run that leaves all as it was sends nothing, and what was said of a decision is not said again.
"""

import json
import logging
import re
import sys
from pathlib import Path

from flows.settings import Settings
from flows.telling import outcome
from genmodel.files import durable
from genmodel.output.masking import masked
from genmodel.output.printable import printable

_SAID = Path("runs/notified.json")  # the last decision that was told
_ROWS = 10  # of the leaderboard


def failed(settings: Settings, why: str) -> None:
    """Tell that a run failed."""
    text = f"{masked(why)}\n\nThe champion stays. Run again to go on."
    _send(settings, f"{settings.root.name}: the retraining failed", text)


def ended(settings: Settings) -> None:
    """Tell of a decision that was not told before: another champion, or one that the gate could not make."""
    said = outcome.champion(settings.root) or ""
    news = _news(said)
    known = settings.root / _SAID
    if not news or (known.exists() and json.loads(known.read_text()) == said):
        return
    if _send(settings, f"{settings.root.name}: {news}", f"{masked(said)}\n\n{_leaderboard(settings.root)}"):
        durable.write_json(known, said)


def champion(settings: Settings, said: str) -> None:
    """Tell that a person's word made another champion."""
    _send(settings, f"{settings.root.name}: a new champion", masked(said))


def _news(said: str) -> str:
    """What there is to tell, as a title; empty if a run left all as it was."""
    outcome = next((word for word in ("pending", "inconclusive") if re.search(rf"(\(|^nobody; ){word}: ", said)), "")
    if "is the new champion" in said:
        return "a new champion"
    if outcome == "pending":
        return "a promotion waits for a person's word"
    return "the gate could not decide" if outcome and "inconclusive: Unchanged: the weights" not in said else ""


def _leaderboard(root: Path) -> str:
    rows = outcome.leaderboard(root)[:_ROWS]
    shown = outcome.narrow(rows[0] if rows else {})
    return "\n".join(printable(", ".join(f"{name} {outcome.cell(name, row[name])}" for name in shown)) for row in rows)


def _send(settings: Settings, title: str, text: str) -> bool:
    """Whether it was sent to all; what cannot be sent is a warning and no reason for a run to fail."""
    if not settings.notify:
        return False
    from apprise import Apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it tells its URLs, which hold tokens
    told = Apprise()
    wrong = [url.partition("://")[0] for url in settings.notify if not told.add(url)]
    if wrong:
        print(f"warning: GENMODEL_NOTIFY: Apprise does not know {', '.join(wrong)}:// in this form", file=sys.stderr)
    sent = bool(len(told)) and bool(told.notify(title=title, body=text))
    if not sent:
        print(f"warning: no message was sent ({title}): look at GENMODEL_NOTIFY", file=sys.stderr)
    return sent and not wrong
