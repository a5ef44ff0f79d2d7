"""Messages of failures and decisions, sent for real to a server of the test."""

import json
from pathlib import Path

import pytest

from flows.settings import Settings
from flows.telling import notify

NEW = "version 2, vae, fd_toy 4.125, is the new champion (promote: It is better.)"
OPEN = "unchanged: version 2, vae, fd_toy 4.125, is still champion (inconclusive: The intervals overlap.)"
REJECTED = "unchanged: version 2, vae, fd_toy 4.125, is still champion (reject: It is worse.)"


def project(root: Path, urls: str, state: str) -> Settings:
    (root / "champion.json").write_text(json.dumps({"text": state}))
    (root / "ranking.csv").write_text("model,fd_toy,parameters,bytes\nvae,4.125,1234,5678\n")
    return Settings.read({"GENMODEL_NOTIFY": urls}, root)


def test_a_failure_is_told_with_its_reason_and_without_passwords(tmp_path: Path, received) -> None:
    url, messages = received
    notify.failed(project(tmp_path, url, NEW), "train@vae failed: no answer from http://me:secret@host/")
    (message,) = messages
    assert message["title"] == f"{tmp_path.name}: the retraining failed"
    assert "train@vae failed: no answer from http://me:***@host/" in message["message"]


@pytest.mark.parametrize(("state", "title"), [(NEW, "a new champion"), (OPEN, "the gate could not decide")])
def test_a_decision_is_told_once_with_the_leaderboard(tmp_path: Path, received, state: str, title: str) -> None:
    url, messages = received
    settings = project(tmp_path, url, state)
    for _ in range(2):
        notify.ended(settings)
    (message,) = messages
    assert message["title"] == f"{tmp_path.name}: {title}"
    assert state in message["message"] and "model vae, fd_toy 4.125" in message["message"]


@pytest.mark.parametrize("state", [REJECTED, "unchanged: version 2, vae, fd_toy 4.125, is still champion"])
def test_nothing_is_told_of_a_run_that_leaves_all_as_it_was(tmp_path: Path, received, state: str) -> None:
    url, messages = received
    notify.ended(project(tmp_path, url, state))
    assert messages == []


def test_nothing_is_sent_without_an_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notify.ended(project(tmp_path, "", NEW))
    notify.failed(project(tmp_path, "", NEW), "it failed")
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_sent_is_a_warning_without_tokens_and_is_sent_the_next_time(
    tmp_path: Path, received, capsys: pytest.CaptureFixture[str]
) -> None:
    url, messages = received
    notify.ended(project(tmp_path, "json://127.0.0.1:9/token nonsense://token", NEW))
    told = capsys.readouterr().err
    assert "Apprise does not know nonsense:// in this form" in told and "no message was sent" in told
    assert "token" not in told
    notify.ended(project(tmp_path, url, NEW))
    assert len(messages) == 1


def test_a_promotion_that_waits_is_told_and_a_champion_of_old_is_not(tmp_path: Path, received) -> None:
    url, messages = received
    notify.ended(
        project(tmp_path, url, OPEN.replace("inconclusive: The intervals", "inconclusive: Unchanged: the weights"))
    )
    assert messages == []
    for state in (OPEN.replace("(inconclusive:", "(pending:"), "nobody; pending: There was no champion."):
        notify.ended(project(tmp_path, url, state))
    assert [message["title"] for message in messages] == [f"{tmp_path.name}: a promotion waits for a person's word"] * 2
