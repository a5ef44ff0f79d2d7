"""What counts of a Python file: its syntax tree without what only people read, and of its settings those that are read.

A comment, a docstring, a line break or the text of an error changes nothing. The tree is dumped by our own rules: those
of ast.dump differ between Python versions, which add fields. Not dumped: positions, docstrings, what is absent or
empty, what follows from the rest (ctx), and how something is written (kind).

Of an entry in the table of figures (genmodel/evaluation/table.py: a call of Figure), only the arguments that something
in the closure reads count: a figure's meaning is text for people.

Of the settings, a dataclass named ...Config, only what is read counts: the fields that the closure names, and the class
itself only if a file in the closure names it, or if a setting that is read has that type. So a new setting with a
default changes nothing until code in the closure reads it; changing the default of a setting that is read does.
"""

import ast
import functools
from collections.abc import Iterable, Iterator, Set
from typing import Any, TypeGuard

from genmodel.files import durable

_LEFT_OUT = {"ctx", "kind", "type_comment", "type_ignores"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(tree: ast.Module, names: Set[str] | None) -> str:
    """sha256 of what counts of a file where `names` are read (see names_read); None: all of its settings are."""
    return (_whole(tree) if names is not None else None) or durable.digest_json(_described(tree, names))


@functools.lru_cache(1024)
def _whole(tree: ast.Module) -> str | None:
    """The digest of a file of which everything counts, in whatever closure; None where that depends on what is read."""
    if any(_is_settings(node) or _is_range(node) or _is_figure(node) for node in ast.walk(tree)):
        return None
    return durable.digest_json(_described(tree, None))


def names_read(trees: Iterable[ast.Module]) -> set[str]:
    """The names by which files refer to each other's classes and settings.

    Names in a setting's default, and a ...Config in its type, count once the setting itself is read.
    """
    names: set[str] = set()
    settings: list[tuple[str, str, set[str]]] = []
    for tree in trees:
        names.update(_names_in(tree))
        settings += _settings_in(tree)
    while True:
        read = {name for holder, field, own in settings if {holder, field} <= names for name in own}
        if read <= names:
            return names
        names |= read


@functools.lru_cache(1024)
def _names_in(tree: ast.Module) -> frozenset[str]:
    return frozenset(_names(tree))


@functools.lru_cache(1024)
def _settings_in(tree: ast.Module) -> list[tuple[str, str, set[str]]]:
    """The class, the name, and what it names, of each setting in a file."""
    found = []
    for holder in ast.walk(tree):
        if isinstance(holder, ast.ClassDef) and _is_settings(holder):
            for field in holder.body:
                if isinstance(field, ast.AnnAssign):
                    own = {name for name in _names(ast.Expr(field.annotation)) if name.endswith("Config")}
                    own.update(_names(ast.Expr(field.value)) if field.value else [])
                    found.append((holder.name, ast.unparse(field.target), own))
    return found


def _names(tree: ast.AST) -> Iterator[str]:
    """All attributes, plain names and strings of a file, except those of its settings."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Attribute):
            yield child.attr
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
            yield child.id
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        if not _is_field(child, tree):
            yield from _names(child)


def _described(node: Any, names: Set[str] | None) -> Any:
    """A node as lists and dictionaries; only the settings in `names`, or all if that is None."""
    if isinstance(node, list):
        return [_described(each, names) for each in node]
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):  # its message does not count
        return ["Raise", _described(node.exc.func, names)]
    if isinstance(node, ast.Assert):
        return ["Assert", _described(node.test, names)]
    if not isinstance(node, ast.AST):
        return node if node is None or isinstance(node, int) else str(node)
    fields = {name: value for name, value in ast.iter_fields(node) if name not in _LEFT_OUT and value not in (None, [])}
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    if names is not None and _is_figure(node):
        fields["keywords"] = [each for each in node.keywords if each.arg in names]
    if names is not None and isinstance(node, ast.Module | ast.ClassDef):
        body = fields.get("body", [])
        fields["body"] = [_as_read(each, node) for each in body if _is_read(each, node, names)]
    return [type(node).__name__, {name: _described(value, names) for name, value in fields.items()}]


def _is_settings(node: ast.AST) -> bool:
    """Whether a node is a dataclass of settings."""
    if not isinstance(node, ast.ClassDef) or not node.name.endswith("Config"):
        return False
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _is_figure(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether a node is an entry in the table of figures."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Figure"


def _is_range(node: ast.AST) -> TypeGuard[ast.Assign]:
    """Whether a node names a type with the range of its values."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Subscript):
        return False
    return ast.unparse(node.value.value) == "Annotated"


def _is_field(node: ast.AST, holder: ast.AST) -> bool:
    return _is_settings(holder) and isinstance(node, ast.AnnAssign)


def _is_read(node: ast.stmt, holder: ast.AST, names: Set[str]) -> bool:
    """Whether a statement of a module or class counts: settings and their named ranges only if they are named."""
    if _is_range(node):
        return any(ast.unparse(target) in names for target in node.targets)
    if isinstance(node, ast.AnnAssign) and _is_field(node, holder):
        return ast.unparse(node.target) in names
    return not _is_settings(node) or (isinstance(node, ast.ClassDef) and node.name in names)


def _as_read(node: ast.stmt, holder: ast.AST) -> ast.AST:
    """A setting's name and default only: its range decides whether a value is refused, not what the value does."""
    if isinstance(node, ast.AnnAssign) and _is_field(node, holder):
        return ast.Assign([node.target], node.value) if node.value else node.target
    return node
