"""Which modules decide the bytes of a file's work: the closure of its imports, and what of each counts."""

import ast
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel import code, syntax
from genmodel.errors import ConfigError
from genmodel.files import durable
from genmodel.models.families import FAMILIES, module_of
from genmodel.training.identify import LOOP

HOUSE = {
    "__init__": '"""A house."""\n__version__ = "1"\ndef __getattr__(name):\n    from house import attic\n',
    "loop": "from house import tools\nfrom house.rooms.kitchen import cook\nfrom .settings import LoopConfig\n"
    "def run(config: LoopConfig, show=None):\n    import house.cellar\n    return config.speed * cook(config.heat)\n"
    "def more(config): return config.pump.power + config.oven.power + config.ramp\n",
    "tools": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house import attic\n",
    "rooms/__init__": "import house.heating\nANYTHING = 3\n",
    "rooms/kitchen": "from ..sink import drain\nfrom . import stove\ndef cook(heat): return stove.on(drain(heat))\n",
    "rooms/stove": "def on(heat): return heat\n",
    "rooms/bath": "def fill(): return 1\n",
    "heating": "",
    "sink": "def drain(heat): return heat\n",
    "cellar": "",
    "attic": "import house.roof\n",
    "roof": "",
    "settings": """
from dataclasses import dataclass
from typing import Annotated
Count = Annotated[int, 1]
@dataclass(frozen=True)
class LoopConfig:
    heat: int
    speed: Count = 5
    pump: PumpConfig | None = None
    oven: Annotated[OvenConfig, 1] = OvenConfig(power=8)
    door: DoorConfig = DoorConfig()
    ramp: float | Ramp = 0.5
    colour: str = "red"
@dataclass(frozen=True)
class BathConfig:
    speed: int = 3
LIMIT = 9
class Ramp:
    top: int = 7
@dataclass(frozen=True)
class PumpConfig:
    power: int = 4
    sound: int = 5
@dataclass(frozen=True)
class OvenConfig:
    power: int = 6
@dataclass(frozen=True)
class DoorConfig:
    power: int = 2
""",
}

House = Callable[..., dict[str, str]]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """house(file, old, new) -> module -> digest of the closure of house.loop, after that change of a file."""
    for name, source in HOUSE.items():
        path = tmp_path / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    def change(file: str = "", old: str = "", new: str = "") -> dict[str, str]:
        if file:
            path = tmp_path / "house" / f"{file}.py"
            text = path.read_text() if path.exists() else ""
            assert old in text
            path.write_text(text.replace(old, new) if old else text + new)
        return code.digests("house.loop")

    return change


def test_the_closure_holds_what_is_imported_however_it_is_written(house: House) -> None:
    parts = [
        "loop",
        "tools",
        "rooms.kitchen",
        "rooms.stove",
        "rooms on import",
        "heating",
        "sink",
        "cellar",
        "settings",
    ]
    assert house().keys() == {f"house.{part}" for part in parts}
    assert "house" not in sys.modules, "read, not run"


@pytest.mark.slow
def test_what_follows_from_a_content_is_worked_out_once(house: House) -> None:
    """A stage asks for each model, some of them several times; what is edited meanwhile is seen all the same."""

    def asked() -> float:
        began = time.process_time()
        code.digest(LOOP, module_of("dcgan"))
        return time.process_time() - began

    code._parsed.cache_clear()
    first = asked()
    assert asked() < first / 4
    before = house()
    assert house() == before != house("sink", "heat\n", "2 * heat\n")
    assert house("sink", "2 * heat\n", "heat\n") == before


def test_a_digest_that_is_kept_for_all_closures_is_that_of_each() -> None:
    trees = code.closure(LOOP, module_of("vae"))
    names = syntax.names_read(trees.values())
    whole = {module for module, tree in trees.items() if syntax._whole(tree)}
    assert {"genmodel.models.vae", "genmodel.settings.config"} & whole == set() != whole
    for module, tree in trees.items():
        assert syntax.digest(tree, names) == durable.digest_json(syntax._described(tree, names)), module


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("attic", "", "X = 1\n"),  # for type checkers, and in a function of a package that is only passed
        ("rooms/bath", "", "X = 1\n"),
        ("studio", "", "X = 1\n"),  # a new file
        ("__init__", '"1"', '"2"'),
        ("__init__", "attic", "garden"),
        ("settings", "", "@dataclass(frozen=True)\nclass GateConfig:\n    margin: float = 0.5\n"),
        ("settings", "    colour", "    size: int = 4\n    colour"),
        ("settings", "red", "green"),  # a default that nothing in the closure reads
        ("settings", "speed: int = 3", "speed: int = 4"),  # of settings that nothing in the closure names
        ("settings", "[int, 1]", "[int, 2]"),  # a range
        ("settings", "Count = A", "Share = Annotated[float, 0]\nCount = A"),
        ("settings", "sound: int = 5", "sound: int = 6"),  # deep down, and nothing reads it
        ("settings", "power: int = 2", "power: int = 3"),  # in settings that nothing reads
        ("settings", "DoorConfig()", "DoorConfig(power=9)"),
        ("settings", "    door: DoorConfig", "    gate: DoorConfig = DoorConfig(power=1)\n    door: DoorConfig"),
        ("settings", "float | Ramp", "float"),  # the type: another default is what counts
    ],
)
def test_what_cannot_decide_changes_nothing(file: str, old: str, new: str, house: House) -> None:
    before = house()
    assert house(file, old, new) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("loop", "*", "+", "house.loop"),
        ("rooms/stove", "return heat", "return 2 * heat", "house.rooms.stove"),
        ("rooms/__init__", "= 3", "= 4", "house.rooms on import"),
        ("settings", "speed: Count = 5", "speed: Count = 6", "house.settings"),
        ("settings", "heat: int", "heat: int = 3", "house.settings"),
        ("loop", "config.speed", "config.speed * len(config.colour)", "house.settings"),  # read from now on
        ("sink", "", "import house.attic\n", "house.roof"),
        ("settings", "power: int = 4", "power: int = 5", "house.settings"),  # of a type that a setting that is read has
        ("settings", "power: int = 6", "power: int = 5", "house.settings"),
        ("settings", "power=8", "power=9", "house.settings"),
        ("settings", "ramp: float | Ramp = 0.5", "ramp: float | Ramp = Ramp()", "house.settings"),
        ("settings", "top: int = 7", "top: int = 8", "house.settings"),  # of a class that is no ...Config
        ("settings", "Ramp = 0.5", "Ramp = LIMIT", "house.settings"),
    ],
)
def test_what_can_decide_counts(file: str, old: str, new: str, changed: str, house: House) -> None:
    before = house()
    after = house(file, old, new)
    assert after.get(changed) != before.get(changed)


def test_a_root_that_is_gone_is_told(house: House) -> None:
    with pytest.raises(ConfigError, match=r"there is no module house.lopp"):
        code.digest("house.lopp")


NUMBERS = {"cmath", "decimal", "fractions", "math", "numbers", "random", "secrets", "statistics"}
HARMLESS = {*sys.stdlib_module_names, "tqdm"} - NUMBERS


def test_what_only_says_and_stores_computes_nothing() -> None:
    """The one list that is kept by hand: all of it is met by trainings, and knows neither numbers nor what does."""
    met = {module for tree in code.closure(LOOP, *map(module_of, FAMILIES)).values() for module in imported(tree)}
    for module in code.TELLING:
        path = code.file_of(module)
        assert path is not None
        own = imported(ast.parse(path.read_text()))
        met |= own
        assert not [name for name in own - code.TELLING if name.partition(".")[0] not in HARMLESS], module
    assert met >= code.TELLING


def imported(tree: ast.Module) -> set[str]:
    """The modules that a file names in its imports, if those of `from genmodel import` are modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if code.file_of(name)} or {str(node.module)}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("root", [LOOP, "genmodel.evaluation.judge", "genmodel.evaluation.samples"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_done_with_a_family_knows_no_other_nor_what_shows(family: str, root: str) -> None:
    """A training, a report, the key of kept features."""
    modules = set(code.digests(root, module_of(family)))
    others = {module_of(other) for other in FAMILIES if other != family}
    assert module_of(family) in modules and not modules & (others | {"genmodel.models.families", "genmodel.params"})
    met = {"evaluation", "training"} - {root.split(".")[1]}
    assert not [module for module in modules if module.split(".")[1] in {"showing", *met}]


def test_a_family_brings_the_parts_that_it_uses() -> None:
    vae = set(code.digests(LOOP, "genmodel.models.vae"))
    assert "genmodel.models.parts.augment" not in vae and "genmodel.models.parts.convolution" in vae
    assert "genmodel.data.parquet" in vae, "it gives the labels and the order"


@pytest.mark.slow
@pytest.mark.parametrize(
    "roots",
    [[LOOP, module_of("dcgan")], ["genmodel.evaluation.judge", module_of("vae")], ["genmodel.evaluation.reference"]],
    ids=lambda roots: roots[0],
)
def test_the_closure_is_what_runs_and_all_of_it_is_loaded_at_the_start(roots: list[str]) -> None:
    """Against the interpreter: what an import loads is in the closure, and nothing else of the closure comes later."""
    script = (
        f"import importlib, sys\nfor root in {roots}: importlib.import_module(root)\n"
        "print(*(name for name in sys.modules if name.startswith('genmodel.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if code.file_of(name).name != "__init__.py"} - code.TELLING  # type: ignore[union-attr]
    assert loaded == {name for name in code.digests(*roots) if not name.endswith(" on import")}


TABLE = """
from dataclasses import dataclass


@dataclass
class Figure:
    name: str
    better: str
    meaning: str


FIGURES = [Figure(name="recall", better="higher", meaning="share of the images")]
names = [figure.name for figure in FIGURES]
"""


def test_of_a_table_of_figures_counts_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another sentence for people makes no report anew, but the page that shows it."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / f"shed{tmp_path.name[-1]}x"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "judge.py").write_text(f"from {package.name}.table import names\n")
    (package / "page.py").write_text(f"from {package.name} import table\nprint(table.FIGURES[0].meaning)\n")

    def digests(**change: str) -> list[str]:
        text = TABLE
        for old, new in change.items():
            text = text.replace(old, new)
        (package / "table.py").write_text(text)
        return [code.digest(f"{package.name}.{root}") for root in ("judge", "page")]

    (judge, page), other, renamed = digests(), digests(share="part"), digests(recall="recalled")
    assert other[0] == judge and other[1] != page
    assert renamed[0] != judge and renamed[1] != page


def test_a_sentence_in_the_table_of_figures_decides_no_report() -> None:
    names = {name for tree in code.closure("genmodel.evaluation.judge").values() for name in syntax._names(tree)}
    assert not names & {"meaning", "detail"} and {"made_by", "needs"} <= names
