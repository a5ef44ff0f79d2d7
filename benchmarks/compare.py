"""Pairs of measurements that alternate, so that a noisy neighbour meets both; a row of the table for each."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

_REST = 2  # seconds
HEAD = (
    "| what | genmodel, images/s | beside | images/s | ratio (lowest to highest) |\n"
    "| --- | ---: | --- | ---: | ---: |\n"
)


@dataclass(frozen=True)
class Row:
    what: str
    ours: list[float]  # images/s of each repeat
    beside: str
    theirs: list[float]

    def text(self) -> str:
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        spread = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
        rates = f"{statistics.median(self.ours):,.0f} | {self.beside} | {statistics.median(self.theirs):,.0f}"
        return f"| {self.what} | {rates} | {spread} |\n"


def alternate(what: str, ours: Callable[[], float], beside: str, theirs: Callable[[], float], repeats: int) -> Row:
    """`ours` and `theirs` return images/s; both run once unmeasured first."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    return Row(what, [pair[0] for pair in pairs], beside, [pair[1] for pair in pairs])


def settled(taken: float) -> float:
    """What was `taken` by a DataLoader, once its workers have filled their queues again.

    They are not to disturb what is measured next: two workers decode 256 images of 64 px in half a second of all cores.
    """
    time.sleep(_REST)
    return taken


def rate(count: int, work: Callable[[], object]) -> float:
    """`count` images over the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)
