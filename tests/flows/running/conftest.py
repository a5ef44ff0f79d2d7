"""A line that runs, for tests to kill and to stop."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.running.processes import Line


@pytest.fixture
def line(toy: Any, empty_history: Path) -> Iterator[Line]:
    made = Line(toy)
    (made.root / ".prefect").mkdir(mode=0o700)
    shutil.copy(empty_history, made.root / ".prefect")
    yield made
    made.end()
