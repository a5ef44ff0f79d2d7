"""The code that decides what a module produces: its file, the files of this package that it imports, and so on.

    digests("genmodel.training.trainer", "genmodel.models.vae")    # the code that trains a VAE

The closure of imports is read, not run. Imports inside functions count; imports for type checkers only do not, nor do
modules named in strings (the families, see models/families.py). Of a package that an import only passes through, only
the code that runs on import counts. Modules in TELLING, which store and report, are left out. Code that only displays
is left out because no code that decides imports it: whoever starts a training passes genmodel/showing to it.

Each file is known by what counts of its syntax tree (genmodel/syntax.py).

Files are read anew each time; what follows from their contents is kept, as a process asks many times.
"""

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

from genmodel import syntax
from genmodel.errors import ConfigError
from genmodel.files import durable

TELLING = frozenset(
    f"genmodel.{name}"
    for name in ("errors", "files.durable", "output.counting", "output.masking", "output.printable", "output.progress")
)
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
    names = syntax.names_read(tree for _, tree in trees)
    return {module: syntax.digest(tree, names) for module, tree in trees}


def digest_source(path: Path) -> str:
    """sha256 of the syntax tree of one file, all settings included."""
    return syntax.digest(_parse(path), None)


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
