"""`python -m flows.explore`: the page gets the registered model, and a version that there is not is one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flows import explore
from flows.registry.description import Card
from flows.registry.registry import CHAMPION, Registry
from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking.trainings import Training
from genmodel.exploring.subject import Subject
from genmodel.files import tensors
from genmodel.files.model_folder import write_config
from genmodel.models.contract import Family
from genmodel.sampling.draw import sample
from tests.reports import made_report


def test_the_champion_is_what_is_explored(
    settings: Settings,
    training: Training,
    built: Callable[..., Family],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found: list[tuple[Subject, Path | None, int]] = []
    monkeypatch.setattr(explore, "open_page", lambda *given: found.append(given))
    with pytest.raises(SystemExit) as caught:
        explore.main([])
    assert caught.value.code == 2
    assert (
        capsys.readouterr().err == "error: genmodel has no version champion: give a number, or an alias as champion\n"
    )

    tracker, model = Tracker(settings), built("vae", 8, latent_dim=4)
    tracker.begin(training, 1000)
    weights = tensors.save(place / "model" / "weights.safetensors", model.state_dict())
    about = {"name": "small", "fingerprint": training.fingerprint, "config": training.config, "weights": weights}
    about |= {"classes": [str(number) for number in range(5)], "class_counts": [1] * 5}
    write_config(place / "model", about)
    card = Card(about=about, report=made_report("small", {"fd_classifier": 1.0}, weights=weights), data={}, cost={})
    registry = Registry(tracker)
    registry.set_alias(CHAMPION, registry.register(place / "model", model, card).number)

    assert explore.main(["--port", "7861", "--data", "there"]) == 0
    ((subject, data, port),) = found
    assert (subject.name, data, port) == ("small, version 1", Path("there"), 7861)
    assert torch.equal(subject.draw(subject.codes(3, None)), sample(model, 1, 3))
    assert not list(place.glob("mlflow.db.scratch-*"))
