"""Runs a notebook without Jupyter: cell after cell in one namespace, lines that begin with ! in a shell."""

import ast
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Output = dict[str, Any]  # as nbformat 4 has it


def cells(notebook: Path) -> Iterator[dict[str, Any]]:
    """Its cells of code."""
    yield from (cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code")


def run(notebook: Path) -> list[list[Output]]:
    """What each cell prints and shows, run where the process stands. An error of a cell is raised."""
    names: dict[str, Any] = {"shell": _shell}
    return [_run("".join(cell["source"]), names) for cell in cells(notebook)]


def _run(source: str, names: dict[str, Any]) -> list[Output]:
    lines = [f"shell({line[1:]!r})" if line.startswith("!") else line for line in source.splitlines()]
    body = ast.parse("\n".join(lines)).body
    quiet = source.rstrip().endswith(";")  # as in IPython: the value is not shown
    shown = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) and not quiet else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = eval(compile(shown, "cell", "eval"), names) if shown else None
    stream = {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
    return [stream] * bool(printed.getvalue()) + ([_displayed(value)] if value is not None else [])


def _displayed(value: Any) -> Output:
    if hasattr(value, "_repr_png_"):
        data = {"image/png": base64.b64encode(value._repr_png_()).decode()}
    else:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def _shell(command: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, shell=True, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout, end="")
