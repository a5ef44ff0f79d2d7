"""What README.md, CONTRIBUTING.md and docs/ show can be typed: programs take the words, snippets and files exist.

tests/flows/test_documented.py runs them.
"""

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.accepting import refused
from tests.docs.commands import PAGES, ROOT, Block, Shown, blocks, shown

# begins of blocks that are neither commands nor Python: what is printed, or stands in a file
OTHERS = (
    "Leaderboard, best first",
    "data/block.json ",
    "meta:",
    "data-reports/DIGEST.html ",
    "data:",
    "# params.yaml",
    "looked at ../photos",
    "3 scheduled runs were missed",
)
COMMANDS = {each.text: each for each in shown()}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=str)
def test_the_program_takes_the_words(command: Shown) -> None:
    subprocess.run(["bash", "-n", "-c", command.text], check=True)
    for words in command.parts:
        assert not (reason := refused(words, command.mentioned)), f"{command}: {reason}"


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.page}:{block.line}")
def test_every_block_is_understood(block: Block) -> None:
    if block.is_python:
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "genmodel":
                assert hasattr(importlib.import_module("genmodel"), node.attr), node.attr
    else:
        assert block.is_shell or block.text.startswith(OTHERS), f"no rule covers this block: {block.text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text().replace("genmodel/models/mine.py", "")  # the reader's own
    links = [name.partition("#")[0] for name in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in name]
    named = re.findall(r"(?<![\w/.-])(?:genmodel|flows|tests|benchmarks|docs|presets|\.ci)/[\w/.-]*\w", text)
    for name in [*(page.parent / name for name in links if name), *(ROOT / name for name in named)]:
        assert name.exists(), f"{page.name} names {name}, which is not there"
    for name in re.findall(r"(?<![\w/])test_\w+\.py", text):
        assert list((ROOT / "tests").rglob(name)), f"{name} is no test"
