"""What a run ends with is what its stages wrote."""

import hashlib
from pathlib import Path

import pytest
import yaml

from flows import outcome
from genmodel.errors import GenmodelError

WRITTEN = {
    "ranking.csv": b"model,fd_classifier\nvae,1.5\n",
    "reports/vae.json": b'{"fd": 1.5}',
    "figures/vae.json": b'{"fd": 1.5}',
}


def project(root: Path) -> None:
    stages = {}
    for name, content in WRITTEN.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        out = {"path": name, "md5": hashlib.md5(content).hexdigest()}
        stages[name] = {"cmd": "true", "outs": [out, {"path": "models/gone", "md5": "0" * 32 + ".dir"}]}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_figure_that_is_not_what_a_stage_wrote_is_not_shown(tmp_path: Path, name: str) -> None:
    project(tmp_path)
    assert [(row["model"], row["fd_classifier"]) for row in outcome.leaderboard(tmp_path)] == [("vae", 1.5)]
    damaged = tmp_path / name
    damaged.write_bytes(WRITTEN[name].replace(b"1", b"0"))
    with pytest.raises(GenmodelError) as error:
        outcome.leaderboard(tmp_path)
    assert str(error.value) == f"{damaged} is damaged, it is not what dvc.lock says: delete it and run again"
