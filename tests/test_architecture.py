"""The rules of the design, held by tests: who may import whom, and that nothing happens on import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from genmodel import code

ROOT = Path(__file__).parent.parent
SCIENCE = sorted((ROOT / "genmodel").rglob("*.py"))
OPERATIONS = sorted((ROOT / "flows").rglob("*.py"))
QUICK = [path for path in sorted((ROOT / "tests").rglob("*.py")) if "flows" not in path.relative_to(ROOT).parts]
ALLOWED = {"torch", "torchvision", "numpy", "pandas", "PIL", "genmodel"}
# imported inside a function, with a clear word when missing; nothing that the five packages cannot do without
OPTIONAL = {
    "pyarrow",
    "yaml",
    "tqdm",
    "sklearn",
    "numba",
    "torch_fidelity",
    "jinja2",
    "pynvml",
    "onnx",
    "onnxscript",
    "matplotlib",
    "gradio",
    "fastapi",
    "uvicorn",
}


def imports(path: Path) -> dict[str, bool]:
    """The top-level packages that a file imports -> whether only inside functions."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            package = name.split(".")[0]
            found[package] = found.get(package, True) and id(node) not in top
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SCIENCE, ids=relative)
def test_the_science_needs_five_packages(path: Path) -> None:
    for package, inside in imports(path).items():
        if package in sys.stdlib_module_names or package in ALLOWED:
            continue
        assert package in OPTIONAL and inside, f"{relative(path)} imports {package}"


@pytest.mark.parametrize("path", SCIENCE, ids=relative)
def test_training_and_evaluation_never_meet(path: Path) -> None:
    text = path.read_text()
    if "training" in path.parts:
        assert "genmodel.evaluation" not in text
    if "evaluation" in path.parts:
        assert "genmodel.training" not in text


@pytest.mark.slow
@pytest.mark.parametrize("path", SCIENCE, ids=relative)
def test_nothing_is_compiled(path: Path) -> None:
    """A second backward pass through compiled code was silently wrong in some versions of torch and raises in others:
    penalties take gradients of gradients. The engine captures what eager kernels do, which is as fast."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            assert node.attr not in ("compile", "jit", "_dynamo"), f"{relative(path)}: torch.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "torch":
            assert not {"compile", "jit"} & {alias.name for alias in node.names}, relative(path)
        assert not (isinstance(node, ast.Attribute) and node.attr == "make_graphed_callables"), relative(path)


@pytest.mark.parametrize("path", OPERATIONS, ids=relative)
def test_one_place_knows_mlflow_and_one_knows_dvc(path: Path) -> None:
    found = imports(path)
    assert "mlflow" not in found or path.parent.name == "tracking" or path.name == "shipped.py"  # which runs in MLflow
    assert "dvc" not in found or path.parent.name == "versioning"
    if path.parent.name != "versioning":
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.List)]
        words = {item.value for call in calls for item in call.elts if isinstance(item, ast.Constant)}
        assert "dvc" not in words, f"{relative(path)} runs dvc"


@pytest.mark.parametrize("path", [*SCIENCE, *OPERATIONS], ids=relative)
def test_nobody_imports_an_entry_point(path: Path) -> None:
    text = path.read_text()
    for entry in (
        "genmodel.cli",
        "flows.stages",
        "flows.retrain",
        "flows.prepare",
        "flows.explore",
        "flows.ui",
        "flows.watch",
        "flows.registry.__main__",
    ):
        assert f"import {entry}" not in text and f"from {entry} import" not in text, entry


@pytest.mark.parametrize("path", QUICK, ids=relative)
def test_what_needs_the_line_is_tested_in_one_folder(path: Path) -> None:
    """`make test-fast` leaves tests/flows out, so that it starts no server."""
    assert not imports(path).keys() & {"flows", "prefect", "mlflow", "dvc", "distributed"}


@pytest.mark.slow
def test_no_file_imports_itself_by_way_of_others() -> None:
    """At import; what a function imports when it runs counts, too."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in [*SCIENCE, *OPERATIONS]}
    ahead = {
        name: {each for each in code._imported(code._parse(path), name, path) if each in modules and each != name}
        for name, path in modules.items()
    }
    for start in modules:
        seen, waiting = set(), list(ahead[start])
        while waiting:
            name = waiting.pop()
            assert name != start, f"{start} is in a circle"
            if name not in seen:
                seen.add(name)
                waiting += ahead[name]


def test_a_folder_is_seen_whole() -> None:
    for folder in {path.parent for path in [*SCIENCE, *OPERATIONS]}:
        files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 12, f"{relative(folder)} has {len(files)} files"


@pytest.mark.parametrize("path", [*SCIENCE, *OPERATIONS], ids=relative)
def test_no_file_is_too_long_and_nothing_is_caught_and_dropped(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"bare except in {relative(path)}"


BARE = """
import importlib, pkgutil, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(name + " is not on a bare machine")
sys.meta_path.insert(0, Refuse())
import random, threading, os
before = (sorted(os.listdir(".")), threading.active_count(), random.getstate())
import genmodel
for module in pkgutil.walk_packages(genmodel.__path__, "genmodel."):
    importlib.import_module(module.name)
assert before == (sorted(os.listdir(".")), threading.active_count(), random.getstate())
import torch
assert torch.initial_seed() == torch.initial_seed() and not torch.cuda.is_initialized()
"""


@pytest.mark.slow
def test_everything_imports_without_the_operations_and_does_nothing(tmp_path: Path) -> None:
    refused = {
        "prefect",
        "mlflow",
        "dvc",
        "yaml",
        "tqdm",
        "sklearn",
        "scipy",
        "pyarrow",
        "safetensors",
        "jinja2",
        "matplotlib",
        "pynvml",
        "rich",
        "onnx",
        "onnxscript",
        "gradio",
        "fastapi",
        "uvicorn",
    }
    code = BARE.replace("{refused}", repr(refused - {"jinja2"}))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT)}, timeout=120)
