import json
from pathlib import Path

import pytest

from flows.registry.promotions import Ledger
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
    assert [set(json.loads(line)) for line in ledger.path.read_text().splitlines()] == [{*one, "chain"}] * 2
    ledger.path.write_text(ledger.path.read_text().replace('"event"', '"evnt"', 1))
    for look in (ledger.events, lambda: ledger.append(one)):
        with pytest.raises(TrackingError, match=r"promotions.jsonl, line 1 is damaged.*mv promotions.jsonl"):
            look()


def test_a_line_that_nests_without_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "promotions.jsonl").write_bytes(b"[" * 10**6 + b"\n")
    with pytest.raises(TrackingError, match=r"promotions.jsonl, line 1 is damaged"):
        Ledger(tmp_path).events()


@pytest.mark.parametrize("old", [0, 2], ids=["new", "begun before lines were chained"])
def test_every_flipped_bit_and_every_missing_or_exchanged_line_is_noticed(old: int, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    events = [{"id": str(n), "event": "decided", "time": "t", "reason": "é"} for n in range(4)]
    ledger.path.write_text("".join(json.dumps(event, sort_keys=True) + "\n" for event in events[:old]))
    for event in events[old:]:
        ledger.append(event)
    assert ledger.events() == events
    whole = ledger.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    changed = [whole[:n] + bytes([whole[n] ^ 1 << bit]) + whole[n + 1 :] for n in range(len(whole)) for bit in range(8)]
    changed += [b"".join(lines[:n] + lines[n + 1 :]) for n in range(3)]
    changed += [b"".join([*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]]) for n in range(3)]
    for content in changed:
        ledger.path.write_bytes(content)
        with pytest.raises(TrackingError, match="is damaged"):
            ledger.events()
    for cut in range(len(lines[-1])):  # a kill while it is written
        ledger.path.write_bytes(whole[: len(whole) - len(lines[-1]) + cut])
        assert ledger.events() == events[:3]


def test_a_line_without_a_chain_comes_only_before_the_chained_ones(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append({"id": "one", "event": "done", "time": "t"})
    with ledger.path.open("a") as handle:
        handle.write('{"event": "done", "id": "forged", "time": "t"}\n')
    with pytest.raises(TrackingError, match="line 2 is damaged"):
        ledger.events()
