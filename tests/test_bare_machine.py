"""The command line from end to end on a machine that has the five packages and what they require, nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOY = ["image_size=8", "images=64", "batch_size=32", "network.latent_dim=4", "base_channels=4", "log_every=32"]

# everything that the five packages do not require themselves refuses to import
BARE = """
import importlib.metadata as metadata, re, sys

needed, waiting = {"genmodel"}, ["torch", "torchvision", "numpy", "pandas", "pillow"]
while waiting:
    name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
    if name not in needed:
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        needed.add(name)
        waiting += [re.match(r"[\\w.-]+", line)[0] for line in requirements if "extra ==" not in line]

owners = {
    top: {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    for top, names in metadata.packages_distributions().items()
}

class Bare:  # a finder that does not find what a bare machine has not
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        owner = owners.get(name.split(".")[0], needed)
        return self.finder.find_spec(name, path, target) if owner & needed else None

sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
for name in "prefect mlflow dvc yaml tqdm sklearn scipy pyarrow safetensors rich numba".split():
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name + " can be imported")

from genmodel.cli import main
short = [word for setting in sys.argv[2:] for word in ("--set", setting)]
main(["prepare", sys.argv[1], "--sizes", "8", "--workers", "2"])
main(["verify"])
for family in ("dcgan", "vae"):
    main(["train", family, *short])
    main(["sample", "models/" + family, "-n", "4", "--out", family + ".png"])
    main(["evaluate", "models/" + family])
"""


@pytest.mark.slow
def test_the_whole_command_line_with_five_packages(raw: Path, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(raw), *TOY],
        cwd=place,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"fd_classifier":') == 4  # figures and intervals
    assert (place / "vae.png").exists() and (place / "dcgan.png").exists()
