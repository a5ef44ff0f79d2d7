"""Pytest processes share the test files: one takes them from the first on, others from the last back.

    export PYTHONPATH=$PWD/.ci
    mkdir taken
    python -m pytest -p sharing --taken taken & python -m pytest -p sharing --taken taken --backwards

All collect the same tests; whoever comes to a file first, takes it. So they end together, however long the files take.
Each may begin later, when it has done something else.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--taken", type=Path, required=True, help="folder of both processes, empty at first: the files that are taken"
    )
    parser.addoption("--backwards", action="store_true", help="take the last file first")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """As pytest's own loop, over the files that this process takes."""
    if session.testsfailed and not session.config.option.continue_on_collection_errors:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    files = _take(session)
    items = next(files, [])
    while items:
        following: list[pytest.Item] = []
        for item, after in zip(items, [*items[1:], None], strict=True):
            if after is None:  # only now, so that nothing waits for a process that is busy
                following = next(files, [])
                after = next(iter(following), None)
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        items = following
    return True


def _take(session: pytest.Session) -> Iterator[list[pytest.Item]]:
    """The tests of one file after the other."""
    taken: Path = session.config.getoption("--taken")
    files: dict[str, list[pytest.Item]] = {}
    for item in session.items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    for name in reversed(files) if session.config.getoption("--backwards") else files:
        try:
            (taken / name.replace("/", "+")).touch(exist_ok=False)
        except FileExistsError:
            continue
        yield files[name]
