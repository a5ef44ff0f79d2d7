"""The commands `approve` and `compare` on real versions: a package is tried out, and what was kept with it compared."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.registry import __main__ as command
from flows.registry.champion import Promotions
from flows.registry.lineage import FILES, KEPT
from flows.registry.promotions import Ledger
from flows.registry.registry import CHAMPION, Registry
from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking.trainings import Training
from genmodel.evaluation.gate import Champion, decide
from genmodel.evaluation.report import Report
from genmodel.settings.config import GateConfig
from tests.flows.registry.painted import finished
from tests.reports import made_report


def test_a_version_is_approved_and_compared_with_the_one_before(
    settings: Settings, training: Training, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, received: tuple[str, list[dict[str, Any]]],
) -> None:  # fmt: skip
    registry = Registry(Tracker(settings))
    reports: dict[str, Report] = {}
    for number, digest in enumerate(("aa", "bb"), start=1):
        trained = replace(training, fingerprint=digest * 32, data=replace(training.data, digest=f"{digest * 16}.dir"))
        registry.tracker.begin(trained, 1000)
        folder, painter, card = finished(trained, tmp_path / f"model-{number}", seed=number)
        (tmp_path / "params.yaml").write_text(f"models: {{small: {{training: {{images: {number}000}}}}}}\n")
        (tmp_path / "data.dvc").write_text(f"outs: []\nmeta: {{source: photos, images: {number}0}}\n")
        kept = [tmp_path / name for name in FILES if (tmp_path / name).exists()]
        card = replace(card, tags={KEPT: " ".join(path.name for path in kept)})
        version = registry.register(folder, painter, card, kept)
        reports[version.number] = made_report("small", {"fd_classifier": 10.0 / number}, weights=card.report.weights)

    promotions = Promotions(registry, Ledger(settings.root))
    first, second = (registry.find(number) for number in reports)
    promotions.settle(first, {"n": 1}, lambda _: decide(reports["1"], None, GateConfig()))
    champion = Champion(name="small", weights=reports["1"].weights, judged=reports["1"])
    manual = GateConfig(approval="manual")
    told = promotions.settle(second, {"n": 2}, lambda _: decide(reports["2"], champion, manual))
    assert told.outcome == "pending"

    url, messages = received
    monkeypatch.setenv("GENMODEL_NOTIFY", url)
    monkeypatch.chdir(settings.root)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        command.main(["approve", "1", "--reason", "a slip"])
    assert "version 1 does not wait for a word, version 2 does" in capsys.readouterr().err
    made = (settings.root / "mlartifacts").rglob("served.py")
    served = max(made, key=lambda path: path.stat().st_mtime_ns)
    whole = served.read_bytes()
    served.write_bytes(whole + b"\n# another word\n")
    with pytest.raises(SystemExit, match="2"):
        command.main(["approve", "2", "--reason", "unseen"])
    assert "its package is not the one that was registered" in capsys.readouterr().err
    served.write_bytes(whole)
    assert command.main(["approve", "pending", "--reason", "round and red", "--by", "ada"]) == 0
    assert "version 2 is champion; version 1 is previous" in capsys.readouterr().out
    assert registry.find(CHAMPION).number == "2" and registry.run_tags(second)["genmodel.outcome"] == "promoted"
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    described = client.get_registered_model("genmodel").description
    assert described.startswith(
        "**Champion: [version 2](#/models/genmodel/versions/2), small-vae, fd_classifier 14.3457.**"
    )
    assert "Draws images." in described, "what was there follows"
    runs = [client.get_run(version.run_id) for version in (first, second)]
    assert [run.data.tags["genmodel.outcome"] for run in runs] == ["replaced", "promoted"]
    assert [run.info.run_name.startswith("★ ") for run in runs] == [False, True]
    (message,) = messages
    assert message["title"].endswith(": a new champion") and "approved by ada: round and red" in message["message"]
    assert "Approved by ada: round and red" in (settings.root / "champion.html").read_text()
    ledger = [json.loads(line) for line in (settings.root / "promotions.jsonl").read_text().splitlines()]
    assert [(each["by"], each["reason"]) for each in ledger if each.get("kind") == "approval"] == [
        ("ada", "round and red")
    ]
    assert command.main(["history"]) == 0
    shown = capsys.readouterr().out
    assert "pending" in shown and "approval" in shown

    assert command.main(["compare", "--since", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "version   1, small-vae -> 2, small-vae"
    assert "          images: 10 -> 20" in lines and f"data      {'aa' * 6} -> {'bb' * 6}" in lines
    assert "settings  models.small.training.images: 1000 -> 2000" in lines
    assert "figures   fd_classifier: 13.3457 -> 14.3457 (+7.5%)" in lines
    assert lines[-1] == "decisions 1 approval, 1 pending"
    day = promotions.history()[0]["time"][:10]
    assert command.main(["compare", "--since", day]) == 0
    assert capsys.readouterr().out == "version 2 is the same: nothing to compare\n", "at the end of that day"
    for since, why in (
        ("2001-01-01", "nobody was champion at 2001-01-01: the first"),
        ("1x", "1x is neither a version"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command.main(["compare", "--since", since])
        assert why in capsys.readouterr().err
