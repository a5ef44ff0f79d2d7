import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genmodel.config import GateConfig
from genmodel.errors import IncomparableError
from genmodel.evaluation.gate import decide

GATE = GateConfig(margin=0.013)
CONDITIONS = {"extractor": {"name": "classifier", "fingerprint": "e" * 64}, "block": "b" * 64, "n_samples": 1000}
distances = st.floats(0, 1e6)


def report(name: str, distance: float | str, bits: float | str | None = None, **conditions: Any) -> dict[str, Any]:
    figures = {"fd_classifier": distance, "kd_classifier": 0.1, "is_classifier": 5.0, "bits_per_dim": bits}
    return {"name": name, "weights": name[0] * 64, "conditions": {**CONDITIONS, **conditions}, "figures": figures}


def test_the_first_sound_model_is_promoted() -> None:
    decision = decide(report("vae", 12.5, 3.1), None, GATE)
    assert decision.outcome == "promote" and decision.champion is None
    assert "no champion" in decision.reasons[0] and "12.5" in decision.reasons[0]


@pytest.mark.parametrize("figures", [("nan", None), ("inf", None), (math.nan, 3.0), (1.0, "nan")])
def test_a_figure_that_is_no_number_is_rejected_with_and_without_a_champion(figures: tuple) -> None:
    for champion in (None, report("dcgan", 100.0)):
        decision = decide(report("vae", *figures), champion, GATE)
        assert decision.outcome == "reject" and "broken" in decision.reasons[0]


@given(distances, distances)
def test_the_lower_distance_wins_unless_the_difference_is_noise(mine: float, theirs: float) -> None:
    decision = decide(report("vae", mine), report("dcgan", theirs), GATE)
    if mine == theirs or (theirs and abs(mine - theirs) / theirs <= 0.013):
        assert decision.outcome == "inconclusive"
    else:
        assert decision.outcome == ("promote" if mine < theirs else "reject")
    assert decision.figure == "fd_classifier" and len(decision.reasons) == 1


def test_reasons_hold_the_numbers() -> None:
    assert decide(report("vae", 9.0), report("dcgan", 10.0), GATE).reasons == [
        "fd_classifier 9 of vae against 10 of the champion dcgan: 10.00% lower, beyond the noise of 1.30%."
    ]
    assert "1.00% is within the noise" in decide(report("vae", 10.1), report("dcgan", 10.0), GATE).reasons[0]


def test_a_champion_whose_distance_is_zero_or_no_number() -> None:
    assert decide(report("vae", 0.0), report("dcgan", 0.0), GATE).outcome == "inconclusive"
    assert decide(report("vae", 1e-9), report("dcgan", 0.0), GATE).outcome == "reject"
    assert decide(report("vae", 50.0), report("dcgan", "nan"), GATE).outcome == "promote"


def test_equal_weights_change_nothing_whatever_the_conditions() -> None:
    decision = decide(report("vae", 9.0), report("vae", 20.0, block="other"), GATE)
    assert decision.outcome == "inconclusive" and decision.reasons[0].startswith("Unchanged")


def test_unlike_conditions_are_refused_by_name() -> None:
    with pytest.raises(IncomparableError, match=r"\(block, n_samples\): evaluate the champion again"):
        decide(report("vae", 9.0), report("dcgan", 10.0, block="other", n_samples=50), GATE)


def test_the_decision_is_plain_json_and_the_same_every_time() -> None:
    texts = {json.dumps(decide(report("vae", 9.0), report("dcgan", 10.0), GATE).as_dict()) for _ in range(2)}
    assert len(texts) == 1
    content = json.loads(texts.pop())
    assert content["outcome"] == "promote"
    assert content["candidate"] == {"name": "vae", "weights": "v" * 64, "value": 9.0}
    assert content["champion"] == {"name": "dcgan", "weights": "d" * 64, "value": 10.0}
