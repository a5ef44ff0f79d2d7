"""The code that decides what a module produces: its file, the files of this package that it imports, and so on.

    digests("genmodel.training.trainer", "genmodel.models.vae")    # the code that trains a VAE

The closure of imports is read, not run. Imports inside functions count; imports for type checkers only do not, nor do
modules named in strings (the families, see models/families.py). Of a package that an import only passes through, only
the code that runs on import counts. Modules in TELLING, which store and report, are left out. Code that only displays
is left out because no code that decides imports it: whoever starts a training passes genmodel/showing to it.

Each file is known by its syntax tree, so a comment, a docstring, a line break or the text of an error changes nothing.
The tree is dumped by our own rules: those of ast.dump differ between Python versions, which add fields. Not dumped:
positions, docstrings, what is absent or empty, what follows from the rest (ctx), and how something is written (kind).

Of an entry in the table of figures (genmodel/evaluation/table.py: a call of Figure), only the arguments that something
in the closure reads count: a figure's meaning is text for people.

Of the settings, a dataclass named ...Config, only what is read counts: the fields that the closure names, and the class
itself only if a file in the closure names it, or if a setting that is read has that type. So a new setting with a
default changes nothing until code in the closure reads it; changing the default of a setting that is read does.

Files are read anew each time; what follows from their contents is kept, as a process asks many times.
"""

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any, TypeGuard

from genmodel.errors import ConfigError
from genmodel.files import durable

TELLING = frozenset(
    f"genmodel.{name}"
    for name in ("errors", "files.durable", "output.counting", "output.masking", "output.printable", "output.progress")
)
_LEFT_OUT = {"ctx", "kind", "type_comment", "type_ignores"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def digest(*roots: str) -> str:
    """sha256 over `digests`."""
    return durable.digest_json(digests(*roots))


def digests(*roots: str) -> dict[str, str]:
    """module -> sha256 of the part of it that counts, for all modules in the closure of `roots`, sorted by name.

    ConfigError for a file that is not valid Python, or a root that does not exist.
    """
    return dict(_digested(tuple(sorted(closure(*roots).items(), key=lambda found: found[0]))))


@functools.lru_cache(64)
def _digested(trees: tuple[tuple[str, ast.Module], ...]) -> dict[str, str]:
    names = _names_read(tree for _, tree in trees)
    return {module: durable.digest_json(_described(tree, names)) for module, tree in trees}


def digest_source(path: Path) -> str:
    """sha256 of the syntax tree of one file, all settings included."""
    return durable.digest_json(_described(_parse(path), None))


def closure(*roots: str) -> dict[str, ast.Module]:
    """module -> its syntax tree, for the modules `roots` and all that they import from their packages, transitively."""
    packages = {"genmodel", *(root.partition(".")[0] for root in roots)}
    found: dict[str, ast.Module] = {}
    passed: set[str] = set()
    waiting = list(roots)
    for root in roots:
        if file_of(root) is None:
            raise ConfigError(f"there is no module {root}: check whether its file was moved or renamed")
    while waiting:
        module = waiting.pop()
        path = file_of(module)
        if path is None or module in found or module in TELLING or module.partition(".")[0] not in packages:
            continue
        found[module] = _parse(path)
        waiting += _imported(found[module], module, path)
        for package in _above(module):
            if package not in passed and (holder := file_of(package)) is not None:
                passed.add(package)
                if (runs := _on_import(_parse(holder))).body:
                    found.setdefault(f"{package} on import", runs)
                    waiting += _imported(runs, package, holder)
    return found


def file_of(module: str) -> Path | None:
    """The file of a module (for a package its __init__.py), or None. Imports nothing."""
    loaded = sys.modules.get(module)
    if loaded is not None and getattr(loaded, "__file__", None):
        return Path(str(loaded.__file__))
    top, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for folder in [] if spec is None else spec.submodule_search_locations or []:
        place = Path(folder, *parts)
        for path in (place / "__init__.py", place.with_suffix(".py") if parts else place):
            if path.is_file():
                return path
    return Path(spec.origin) if spec is not None and spec.origin and not parts else None


def _above(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _imported(tree: ast.Module, module: str, path: Path) -> Iterator[str]:
    """The modules that a file imports, by name; `from a import b` means a.b if that is a module."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _imports(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if file_of(inner) is not None else source


@functools.lru_cache(1024)
def _imports(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in _running(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree except those that only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if _is_for_types(child):
            for other in child.orelse:
                yield from _running(other)
        else:
            yield from _running(child)


def _is_for_types(node: ast.AST) -> TypeGuard[ast.If]:
    """Whether the node is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING"


@functools.lru_cache(1024)
def _on_import(tree: ast.Module) -> ast.Module:
    """What importing a package does, without definitions (not called) and metadata such as __version__."""

    def does(node: ast.stmt) -> bool:
        if _is_for_types(node):
            return False
        if isinstance(node, ast.ImportFrom) and node.module == "typing":
            return False
        if isinstance(node, ast.Assign):
            return not all(isinstance(target, ast.Name) and target.id.startswith("__") for target in node.targets)
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        return not is_text and not isinstance(node, _DEFINING)

    return ast.Module([node for node in tree.body if does(node)], [])


def _parse(path: Path) -> ast.Module:
    try:
        return _parsed(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{path} is not valid Python: {' '.join(str(error).split())}") from error


@functools.lru_cache(1024)
def _parsed(source: bytes) -> ast.Module:
    return ast.parse(source)


def _names_read(trees: Iterable[ast.AST]) -> set[str]:
    """The names by which files refer to each other's classes and settings.

    Names in a setting's default, and a ...Config in its type, count once the setting itself is read.
    """
    names: set[str] = set()
    settings: list[tuple[str, str, set[str]]] = []  # class, setting, what it names
    for tree in trees:
        for holder in ast.walk(tree):
            if not isinstance(holder, ast.ClassDef) or not _is_settings(holder):
                continue
            for field in holder.body:
                if isinstance(field, ast.AnnAssign):
                    own = {name for name in _names(ast.Expr(field.annotation)) if name.endswith("Config")}
                    own.update(_names(ast.Expr(field.value)) if field.value else [])
                    settings.append((holder.name, ast.unparse(field.target), own))
        names.update(_names(tree))
    while True:
        read = {name for holder, field, own in settings if {holder, field} <= names for name in own}
        if read <= names:
            return names
        names |= read


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
    if (
        names is not None
        and isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Figure"
    ):
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


def _is_field(node: ast.AST, holder: ast.AST) -> bool:
    return _is_settings(holder) and isinstance(node, ast.AnnAssign)


def _is_read(node: ast.stmt, holder: ast.AST, names: Set[str]) -> bool:
    """Whether a statement of a module or class counts: settings and their named ranges only if they are named."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
        is_range = ast.unparse(node.value.value) == "Annotated"
        return not is_range or any(ast.unparse(target) in names for target in node.targets)
    if isinstance(node, ast.AnnAssign) and _is_field(node, holder):
        return ast.unparse(node.target) in names
    return not _is_settings(node) or (isinstance(node, ast.ClassDef) and node.name in names)


def _as_read(node: ast.stmt, holder: ast.AST) -> ast.AST:
    """A setting's name and default only: its range decides whether a value is refused, not what the value does."""
    if isinstance(node, ast.AnnAssign) and _is_field(node, holder):
        return ast.Assign([node.target], node.value) if node.value else node.target
    return node
