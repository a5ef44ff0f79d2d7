"""requirements.lock holds what pyproject.toml asks for, in versions that satisfy it, each with its hashes."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Gradio's page is tested with these newer ones (docs/decisions.md)
NEWER = {("gradio", "pillow"), ("gradio", "tomlkit")}


def pins() -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)(?:\[[\w, -]+\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
    return {canonicalize_name(name): version for name, version in found}


def asked() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    return PROJECT["dependencies"] + [each for extra in extras.values() for each in extra]


@pytest.mark.parametrize("line", asked())
def test_what_the_project_asks_for_is_locked(line: str) -> None:
    requirement = Requirement(line)
    version = pins().get(canonicalize_name(requirement.name))
    assert version is not None and requirement.specifier.contains(version), f"{line}: the lock has {version}"


def test_what_the_locked_packages_ask_for_is_locked_too() -> None:
    """The lock is installed without looking at dependencies, so it must be complete by itself."""
    locked, missing = pins(), []
    for name, version in locked.items():
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform
        if installed.version != version:
            continue
        for line in installed.requires or []:
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            wanted = canonicalize_name(requirement.name)
            pin = locked.get(wanted)
            fits = pin is not None and requirement.specifier.contains(pin, prereleases=True)
            if not fits and (name, wanted) not in NEWER:
                missing.append(f"{name} asks for {requirement}: the lock has {pin}")
    assert not missing, "\n".join(missing)


def test_every_pin_has_hashes() -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    assert len(entries) == len(pins())
    assert [entry.split("\n")[0] for entry in entries if "--hash=sha256:" not in entry] == []
