import json
from pathlib import Path

import pytest

from genmodel.data.block import Block
from genmodel.params import run_config
from genmodel.showing.display import train
from genmodel.training.identify import identify

SETTINGS = {"images": 200, "batch_size": 8, "threads": 1}


@pytest.mark.slow
def test_a_profile_tells_where_the_steps_time_goes(block: Block, tmp_path: Path) -> None:
    network = {"base_channels": 4, "latent_dim": 6}
    config = run_config({"family": "dcgan", "image_size": 8, "network": network, "training": SETTINGS}, "toy")
    folder = train(identify("toy", config, block), block, tmp_path / "out", tmp_path / "runs", profile=True)
    table = (folder / "profile.txt").read_text()
    assert "convolution_backward" in table
    assert "Optimizer.step#Adam" in table
    events = json.loads((folder / "profile.json").read_text())["traceEvents"]
    steps = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep#")}
    assert len(steps) == 10
    assert not list((tmp_path / "out").glob("profile*"))
