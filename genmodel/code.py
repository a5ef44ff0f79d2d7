"""What a piece of code is known by: its syntax tree, so that a comment, a doc string or a line break changes nothing.

The tree is dumped by rules of our own: those of ast.dump differ between versions of Python, which add fields. Left out
are positions, doc strings, what is absent or empty, and what follows from the rest (ctx) or is a way of writing (kind).
"""

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import genmodel
from genmodel import durable
from genmodel.errors import ConfigError

_LEFT_OUT = {"ctx", "kind", "type_comment", "type_ignores"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(places: Iterable[str]) -> str:
    """sha256 over the code in `places`, files and folders of this package; ConfigError for what is not Python."""
    root = Path(genmodel.__file__).parent
    paths = [root / place for place in places]
    files = sorted(file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path]))
    return durable.digest_json({file.relative_to(root).as_posix(): digest_source(file) for file in files})


def digest_source(path: Path) -> str:
    """sha256 of the syntax tree of one file."""
    try:
        return durable.digest_json(_described(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{path} is not valid Python: {' '.join(str(error).split())}") from error


def _described(node: Any) -> Any:
    if isinstance(node, list):
        return [_described(each) for each in node]
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, repr(node.value)]
    if not isinstance(node, ast.AST):
        return node if node is None or isinstance(node, int) else str(node)
    fields = {name: value for name, value in ast.iter_fields(node) if name not in _LEFT_OUT and value not in (None, [])}
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    return [type(node).__name__, {name: _described(value) for name, value in fields.items()}]
