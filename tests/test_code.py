"""The digest of code: what is written for readers does not count, all that runs does."""

import ast
from pathlib import Path

import pytest

from genmodel import code
from genmodel.errors import ConfigError

SOURCE = '''"""A module."""

import math  # for pi


class Circle:
    """Round."""

    scale: float = 1.0

    def area(self, radius: float, *, exact: bool = True) -> float:
        """In square metres."""
        return self.scale * math.pi * radius**2  # as Archimedes has it
'''


def digest(tmp_path: Path, source: str) -> str:
    (tmp_path / "source.py").write_text(source)
    return code.digest_source(tmp_path / "source.py")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # as Archimedes has it", ""),
        ('"""In square metres."""', '"""In square feet."""'),
        ('        """In square metres."""\n', ""),
        ('"""A module."""\n', ""),
        ('    """Round."""\n\n', ""),
        ("self.scale * math.pi * radius**2", "(\n            self.scale * math.pi * radius ** 2\n        )"),
        ("\n\n\nclass", "\n\n\n\n# a comment\nclass"),
    ],
)
def test_what_is_written_for_readers_alone_does_not_count(old: str, new: str, tmp_path: Path) -> None:
    assert old in SOURCE
    assert digest(tmp_path, SOURCE.replace(old, new)) == digest(tmp_path, SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.0", "1"),
        ("True", "None"),
        ("True", "1"),
        ("*, exact", "exact"),
        ("radius**2", "radius*2"),
        ("math.pi * radius**2", "(math.pi * radius) ** 2"),
        ("import math", "import cmath as math"),
        ("-> float", "-> int"),
        ("return ", ""),
        ("scale: float = 1.0", "scale: float"),
    ],
)
def test_all_that_runs_counts(old: str, new: str, tmp_path: Path) -> None:
    assert old in SOURCE
    assert digest(tmp_path, SOURCE.replace(old, new)) != digest(tmp_path, SOURCE)


def test_the_digest_is_that_of_every_version_of_python(tmp_path: Path) -> None:
    """Fields that a newer one adds are empty or None where the code does not use them."""
    known = digest(tmp_path, SOURCE)
    parsed = ast.parse

    class Newer(ast.FunctionDef):
        _fields = (*ast.FunctionDef._fields, "new_list", "new_option")

    def newer(content: bytes) -> ast.Module:
        tree = parsed(content)
        function = tree.body[2].body[2]  # type: ignore[attr-defined]
        fields = {name: getattr(function, name) for name in ast.FunctionDef._fields if hasattr(function, name)}
        replaced = Newer(**fields, new_list=[], new_option=None)
        replaced.__class__.__name__ = "FunctionDef"
        tree.body[2].body[2] = replaced  # type: ignore[attr-defined]
        return tree

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ast, "parse", newer)
        assert digest(tmp_path, SOURCE) == known
    assert known == "6a997b600925f3b63571d284765ad3a7ec4dc9a9e7c4b8e67e988b1e568d389c"


def test_code_that_is_not_python_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source.py is not valid Python: "):
        digest(tmp_path, "def area(:\n")


RAISING = """
def area(radius):
    assert radius >= 0, "a radius"
    if radius > 9:
        raise ValueError(f"{radius} is too large") from None
    return radius**2
"""


@pytest.mark.parametrize(("old", "new"), [("is too large", "is above 9"), (', "a radius"', "")])
def test_what_an_error_says_does_not_count(old: str, new: str, tmp_path: Path) -> None:
    assert digest(tmp_path, RAISING.replace(old, new)) == digest(tmp_path, RAISING)


@pytest.mark.parametrize(("old", "new"), [("ValueError", "TypeError"), (">= 0", "> 0"), ("> 9", "> 8")])
def test_when_an_error_is_raised_and_which_counts(old: str, new: str, tmp_path: Path) -> None:
    assert digest(tmp_path, RAISING.replace(old, new)) != digest(tmp_path, RAISING)
