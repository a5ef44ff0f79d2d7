"""Night after night with `flows.gc` after each: nothing grows without bound, and the last one starts as fast as the
third. GENMODEL_NIGHTS=100 makes it a hundred nights, half a minute.
"""

import os
import time
from statistics import median

from flows.costs import ledger
from flows.versioning import dvc as versioning
from tests.flows.gc.nights import Nights

NIGHTS = int(os.environ.get("GENMODEL_NIGHTS", "12"))
THIRD = 3


def test_nothing_grows_night_after_night(nights: Nights) -> None:
    sizes, starts = [], []
    for number in range(NIGHTS):
        nights.night(number)
        nights.clean(last=3)
        sizes.append(nights.size())
        if number in (THIRD, THIRD + 1, THIRD + 2, NIGHTS - 3, NIGHTS - 2, NIGHTS - 1):
            starts.append(start(nights))
    early, late = sizes[THIRD + 1], sizes[-1]
    passed = NIGHTS - 1 - (THIRD + 1)
    assert late["files"] == early["files"]
    assert late["rows"] == early["rows"]
    lines = (nights.root / ledger.FILE).stat().st_size
    assert late["bytes"] - early["bytes"] <= lines + 8192, "which a ledger that keeps 400 days explains, and a page"
    assert lines < 400 * (passed + 5)
    assert median(starts[3:]) < 1.5 * median(starts[:3]) + 0.05, starts


def start(nights: Nights) -> float:
    """CPU seconds of what a night does before it knows what to run."""
    before = time.process_time()
    assert versioning.changed(nights.root) == set()
    ledger.read(nights.root)
    with nights.tracker.talking():
        nights.tracker.abandoned()
    return time.process_time() - before


def test_without_it_they_do_grow(nights: Nights) -> None:
    """Or the test above could not fail."""
    nights.night(0)
    before = nights.size()
    for number in range(1, 4):
        nights.night(number)
    grown = {what: size - before[what] for what, size in nights.size().items()}
    assert grown["files"] >= 3 * 11 and grown["rows"] >= 3 * 20 and grown["bytes"] > 3 * 5000, grown
