"""`make faults`: tests that break something carry `@pytest.mark.fault("what is broken")`; a table at their end has a
line for each fault. conftest.py takes the hooks from here."""

from collections.abc import Sequence

import pytest
from _pytest.terminal import TerminalReporter

OUTCOMES = ("passed", "failed", "error", "skipped")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", mark.args[0]))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if terminalreporter.config.option.markexpr != "fault":
        return
    counts: dict[str, dict[str, int]] = {}
    seconds: dict[str, float] = {}
    for outcome in OUTCOMES:
        for report in terminalreporter.stats.get(outcome, []):
            for _, fault in report.user_properties:
                counts.setdefault(fault, dict.fromkeys(OUTCOMES, 0))[outcome] += 1
                seconds[fault] = seconds.get(fault, 0) + report.duration
    width = max(map(len, counts), default=0)
    terminalreporter.section("faults")
    for fault, found in sorted(counts.items()):
        bad = found["failed"] + found["error"]
        result = "FAILED" if bad else "ok" if found["passed"] else "not run"
        told = ", ".join(f"{count} {outcome}" for outcome, count in found.items() if count)
        terminalreporter.line(f"{fault:{width}}  {result:7}  {told:24}  {seconds[fault]:6.0f} s")
