"""dvc.yaml names the code that decides a stage's bytes: all that its command imports of genmodel, or says why not."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
# what decides no bytes of these stages: errors, how files are written, what is shown meanwhile, which memory is used
NOT_DECISIVE = {"genmodel/errors.py", "genmodel/durable.py", "genmodel/progress.py", "genmodel/cpu.py"}
NOT_DECISIVE |= {"genmodel/code.py", "genmodel/masking.py", "genmodel/shown.py"}  # names, and how text is shown
STARTS = {"reference": "genmodel/evaluation/reference.py", "evaluate": "genmodel/evaluation/report.py"}


def imported(path: Path) -> set[Path]:
    """The files of genmodel that a file imports by name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "genmodel":
            base = ROOT.joinpath(*str(node.module).split("."))
            found |= {base.with_suffix(".py"), base / "__init__.py"}
            found |= {base / f"{alias.name}.py" for alias in node.names}
    return {file for file in found if file.exists()}


def reached(start: Path) -> set[str]:
    todo, seen = [start], set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += imported(path)
    return {path.relative_to(ROOT).as_posix() for path in seen if path.name != "__init__.py"}


@pytest.mark.parametrize("stage", STARTS)
def test_every_file_that_decides_bytes_is_a_dependency(stage: str) -> None:
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    named = [dep for dep in described.get("do", described)["deps"] if dep.startswith("genmodel/")]
    needed = {file for file in reached(ROOT / STARTS[stage]) - NOT_DECISIVE if not file.startswith("genmodel/models/")}
    assert "genmodel/evaluation/distances.py" in needed, "the walk reaches what it should"
    assert sorted(file for file in needed if file not in named) == []
    assert all((ROOT / dep).exists() for dep in named)
