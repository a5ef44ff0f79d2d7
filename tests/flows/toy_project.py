"""A small project under git and DVC with the real graph's shape, whose stages are a script; its fixtures: conftest."""

import os
import subprocess
import sys
from pathlib import Path

PARAMS = """
models:
  dcgan: {images: 1}
  vae: {images: 2}
gate: {margin: 0.1}
"""

DVC_YAML = """
stages:
  train:
    foreach: ${models}
    do:
      desc: Train ${key}
      cmd: python stages.py train ${key}
      deps: [data, stages.py]
      params: ["models.${key}"]
      outs: ["models/${key}"]
      meta: {deadline_minutes: 2, tags: [gpu]}
  evaluate:
    foreach: ${models}
    do:
      cmd: python stages.py evaluate ${key}
      deps: ["models/${key}"]
      metrics: ["reports/${key}.json"]
  compare:
    cmd: python stages.py compare
    deps: [reports]
    outs: [ranking.csv]
  register:
    cmd: python stages.py register
    deps: [ranking.csv]
    params: [gate]
    metrics: [decision.json]
"""

# every stage tells in ran.txt that it ran; a file named after a stage holds code that it runs first
STAGES = """
import json, os, pathlib, re, sys
stage, name = sys.argv[1], sys.argv[-1]
with open("ran.txt", "a") as ran:
    print(" ".join(sys.argv[1:]), file=ran)
trick = pathlib.Path(f"trick-{'-'.join(sys.argv[1:])}.py")
if trick.exists():
    exec(trick.read_text())
print("working on", *sys.argv[1:])

def write(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

if stage == "train":
    images = int(re.search(name + r": {images: (\\d+)}", pathlib.Path("params.yaml").read_text())[1])
    write(f"models/{name}/weights", str(images))
    write(f"models/{name}/samples/0000000000.png", "noise")
    write(f"models/{name}/samples/0000000064.png", "better")
if stage == "evaluate":
    images = int(pathlib.Path(f"models/{name}/weights").read_text())
    write(f"reports/{name}.json", json.dumps({"fd_toy": 8.25 / images}))
if stage == "compare":
    figures = {path.stem: json.loads(path.read_text())["fd_toy"] for path in pathlib.Path("reports").glob("*.json")}
    rows = [f"{name},{figures[name]},1234,5678" for name in sorted(figures, key=figures.get)]
    write("ranking.csv", "\\n".join(["model,fd_toy,parameters,bytes", *rows, ""]))
if stage == "register":
    write("decision.json", json.dumps({"outcome": "promote", "reasons": ["There is no champion."]}))
"""
IGNORED = "/data\n/models\n/reports\n/ranking.csv\n/decision.json\n/ran.txt\n"


class Toy:
    """A small project under git and DVC."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def dvc(self, *arguments: str) -> str:
        """What a DVC command says; it must not fail."""
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments], cwd=self.root, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ran(self) -> list[str]:
        """The stages that have run since the last call, in order."""
        path = self.root / "ran.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return ["@".join(line.split()) for line in lines]


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "SHELL": "/bin/sh"}
