"""The whole line's graph and code, with a stand-in for each long stage."""

import shutil
from pathlib import Path

import pytest
import yaml

from flows.versioning import dvc as versioning
from tests.flows.toy_project import Toy

ROOT = Path(__file__).parents[3]
ORIGIN = {"source": "digits", "sizes": [8]}

# every stage but `code`, which is the real one; other code gives other bytes
STAGES = """
import os, pathlib, sys
stage, name = sys.argv[1], os.environ["DVC_STAGE"].rpartition("@")[2]
with open("ran.txt", "a") as ran:
    print(os.environ["DVC_STAGE"], file=ran)
outs = {
    "reference": ["reference/r", "reference/bounds.json"],
    "train": [f"models/{name}/w"],
    "evaluate": [f"reports/{name}.json", f"reports/{name}-neighbours.png", f"figures/{name}.json"],
    "compare": ["ranking.csv", "plots/ranking.svg"],
    "register": [],
}
places = [pathlib.Path(f"closures/{stage}.json"), pathlib.Path(f"closures/{stage}/{name}.json")]
made_by = "".join(place.read_text() for place in places if place.exists())
for out in outs[stage]:
    pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(out).write_text(made_by)
"""


@pytest.fixture
def line(empty_project: Toy) -> Toy:
    """The whole line, up to date, of a DCGAN and a VAE."""
    toy = empty_project
    for folder in ("genmodel", "flows"):
        shutil.copytree(ROOT / folder, toy.root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for name, stage in graph["stages"].items():
        if name != "code":
            stage.get("do", stage)["cmd"] = stage.get("do", stage)["cmd"].replace("-m flows.stages", "stages.py")
    toy.write("dvc.yaml", yaml.safe_dump({"stages": graph["stages"]}, sort_keys=False))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"] = {name: params["models"][name] for name in ("dcgan", "vae")}
    params["models"]["vae"]["network"] = {"beta": 8.0, "latent_dim": 10}
    toy.write("params.yaml", yaml.safe_dump(params, sort_keys=False))
    shutil.copy(ROOT / ".dvcignore", toy.root)
    toy.write(
        ".gitignore", "/data\n/closures\n/reference\n/models\n/reports\n/figures\n/plots\n/ranking.csv\n/ran.txt\n"
    )
    toy.write("data/block.json", "{}")
    toy.write("stages.py", STAGES)
    versioning.add(toy.root, ORIGIN)
    toy.dvc("repro", "--quiet")
    toy.ran()
    return toy
