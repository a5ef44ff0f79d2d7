"""A budget stops a run before it starts, in one line that says what to do."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows import stages
from flows.costs import budget, ledger
from flows.costs.ledger import Cost, Line
from flows.settings import Settings
from genmodel.errors import BudgetError, ConfigError

NOW = datetime.now(UTC)


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    """train@vae took 3 GPU hours in the run "now", and 4 the time before, in another month."""
    for run, hours, time in (("before", 4.0, NOW - timedelta(days=70)), ("now", 3.0, NOW)):
        cost = Cost(seconds=hours * 3600, gpu_hours=hours, kwh=hours / 2)
        ledger.keep(tmp_path, Line(time=time, run=run, stage="train@vae", cost=cost))
    return Settings.read({}, tmp_path)


def allow(settings: Settings, text: str) -> None:
    (settings.root / "params.yaml").write_text(f"models: {{}}\nbudget: {text}\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{run: {max_gpu_hours: 2.9}}", "this run has used 0 GPU hours and would need 3 GPU hours as last time"),
        ("{month: {max_gpu_hours: 5.9}}", "this month has used 3 GPU hours and would need 3 GPU hours as last time"),
        ("{run: {max_kwh: 1.4}}", "this run has used 0 kWh and would need 1.5 kWh as last time"),
        ("{month: {max_kwh: 2.9}}", "this month has used 1.5 kWh and would need 1.5 kWh as last time"),
    ],
)
def test_what_would_be_too_much_is_not_started(project: Settings, text: str, why: str) -> None:
    allow(project, text)
    with pytest.raises(BudgetError) as raised:
        budget.check(project, ["train@vae", "compare"], "next")
    told = str(raised.value)
    assert told.startswith(f"not started: {why} (train@vae")
    assert f"budget.{text[1:].partition(':')[0]}.max_" in told and "raise it or" in told


def test_what_fits_is_started_to_the_last_hour(project: Settings) -> None:
    budget.check(project, ["train@vae"], "next")
    allow(project, "{run: {max_gpu_hours: 3, max_kwh: 1.5}, month: {max_gpu_hours: 6, max_kwh: 3}}")
    budget.check(project, ["train@vae"], "next")
    budget.check(project, ["train@new"], "next")
    budget.check(project, [], "next")


def test_a_run_that_used_more_than_foreseen_starts_nothing_else(project: Settings) -> None:
    """As of a model that had never been trained."""
    allow(project, "{run: {max_gpu_hours: 2}}")
    with pytest.raises(BudgetError, match=r"this run has used 3 GPU hours and would need an unknown number"):
        budget.check(project, ["train@new"], "now")
    ledger.keep(project.root, Line(time=NOW, run="now", stage="evaluate@vae", cost=Cost(seconds=9.0)))
    budget.check(project, ["evaluate@vae"], "now")  # which is known to use none


def test_a_training_by_hand_does_not_start_either(
    project: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    allow(project, "{month: {max_gpu_hours: 5}}")
    monkeypatch.chdir(project.root)
    with pytest.raises(SystemExit, match="77"):
        stages.main(["train", "vae"])
    told = capsys.readouterr().err
    assert told.startswith("error: not started: this month has used 3 GPU hours") and told.count("\n") == 1
    assert len(ledger.read(project.root)) == 2, "and it cost nothing"


@pytest.mark.parametrize("text", ["{run: {max_gpu_hours: many}}", "{week: {}}", "{run: {max_kwh: -1}}", "7"])
def test_a_wrong_budget_is_one_line(project: Settings, text: str) -> None:
    allow(project, text)
    with pytest.raises(ConfigError, match=r"params\.yaml: budget"):
        budget.check(project, ["compare"])
