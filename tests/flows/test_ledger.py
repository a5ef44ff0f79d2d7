import json
from pathlib import Path

import pytest

from flows.ledger import Ledger
from genmodel.errors import TrackingError


def test_a_line_that_was_cut_off_is_forgotten_and_a_damaged_one_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.events() == []
    one, two = ({"id": n, "event": "done", "time": "t"} for n in ("one", "two"))
    ledger.append(one)
    with ledger.path.open("ab") as handle:
        handle.write(b'{"id": "cut')
    assert ledger.events() == [one]
    ledger.append(two)
    assert ledger.events() == [one, two]
    assert ledger.path.read_text().splitlines() == [json.dumps(event, sort_keys=True) for event in (one, two)]
    ledger.path.write_text(ledger.path.read_text().replace('"event"', '"evnt"', 1))
    with pytest.raises(TrackingError, match=r"promotions.jsonl, line 1 is damaged"):
        ledger.events()
