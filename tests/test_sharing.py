"""Two processes that share test files: each test runs once, and what fails is told by the process that ran it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent.parent / ".ci"
CONFTEST = """
from pathlib import Path
import pytest

def write(line):
    with open("FOLDER/log", "a") as log:
        print(OWN, line, file=log)

def pytest_configure(config):
    global OWN
    OWN = "last" if config.getoption("--backwards") else "first"

@pytest.fixture(scope="session")
def everything():
    yield
    write("end")

@pytest.fixture(scope="module")
def whole(everything, request):
    write("begin " + request.module.__name__)
    yield
    write("leave " + request.module.__name__)

@pytest.fixture(autouse=True)
def each(whole, request):
    write(request.node.name)
"""
TESTS = "def test_{0}_1(): pass\ndef test_{0}_2(): pass\n"
# the first file lasts until the other process has begun the last but one, whose first test fails; the last one lasts
# until the first has begun, however slowly that process starts
WAITS = """
import time
from pathlib import Path
def test_{0}_1():
    deadline = time.monotonic() + 60
    while "{1}" not in Path("FOLDER/log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
def test_{0}_2(): pass
"""
FAILS = "def test_e_1(): assert 'the cause' == ''\ndef test_e_2(): pass\n"


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    taken = folder.with_name("taken")
    taken.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "sharing", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(folder), "--taken", str(taken), *words, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "of tests").mkdir()
    return tmp_path / "of tests"


@pytest.mark.slow
def test_each_test_runs_once_and_a_failure_is_told(folder: Path) -> None:
    for name in "abcdef":
        (folder / f"test_{name}.py").write_text(TESTS.format(name))
    waits = WAITS.replace("FOLDER", str(folder))
    (folder / "test_a.py").write_text(waits.format("a", "last test_e_1"))
    (folder / "test_f.py").write_text(waits.format("f", "first begin test_a"))
    (folder / "test_e.py").write_text(FAILS)
    (folder / "conftest.py").write_text(CONFTEST.replace("FOLDER", str(folder)))
    first, last = start(folder), start(folder, "--backwards")
    told, of_last = first.communicate(timeout=120)[0], last.communicate(timeout=120)[0]
    assert first.returncode == 0 and "failed" not in told, told
    assert last.returncode == 1 and "'the cause'" in of_last and "1 failed" in of_last, of_last

    lines = [line.split() for line in (folder / "log").read_text().splitlines()]
    tests = [line[1] for line in lines if line[1].startswith("test_")]
    assert sorted(tests) == [f"test_{name}_{number}" for name in "abcdef" for number in (1, 2)]
    for own, begins in (("first", "a"), ("last", "f")):
        mine = [line[1:] for line in lines if line[0] == own]
        assert mine[-1] == ["end"] and mine.count(["end"]) == 1, "what is made once, is made once by each process"
        files = [line[1] for line in mine if line[0] == "begin"]
        assert files[0] == f"test_{begins}" and files == sorted(files, reverse=own == "last")
        for place in range(0, len(mine) - 1, 4):
            begin, one, two, leave = mine[place : place + 4]
            assert (begin[0], leave) == ("begin", ["leave", begin[1]]) and one < two, "a file as a whole"


@pytest.mark.slow
def test_a_file_that_cannot_be_read_fails_the_run(folder: Path) -> None:
    (folder / "test_a.py").write_text("import no_such_package\n")
    (folder / "test_b.py").write_text("def test_b(): pass\n")
    process = start(folder)
    told = process.communicate(timeout=120)[0]
    assert process.returncode == 2 and "no_such_package" in told, told
    assert not list(folder.with_name("taken").iterdir())
