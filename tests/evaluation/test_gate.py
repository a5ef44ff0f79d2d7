import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genmodel.errors import EvaluationError, IncomparableError
from genmodel.evaluation.gate import Brief, Champion, Decision, as_markdown, decide
from genmodel.evaluation.report import Report
from genmodel.settings.config import GateConfig
from tests.reports import made_report

GATE = GateConfig(margin=0.013, min_precision=0.05, min_recall=0.05)
distances = st.floats(0, 1e6)


def report(name: str, distance: float | str, bits: float | str | None = None, **facts: Any) -> Report:
    figures = {"fd_classifier": distance, "kd_classifier": 0.1, "is_classifier": 5.0, "bits_per_dim": bits}
    return made_report(name, figures, **facts)


def reigning(report: Report) -> Champion:
    return Champion(name=report.name, weights=report.weights, judged=report)


def champion(name: str, distance: float | str, **facts: Any) -> Champion:
    return reigning(report(name, distance, **facts))


def test_the_first_sound_model_is_promoted() -> None:
    decision = decide(report("vae", 12.5, 3.1), None, GATE)
    assert decision.outcome == "promote" and decision.champion is None
    assert len(decision.reasons) == 1
    assert "no champion" in decision.reasons[0] and "12.5" in decision.reasons[0]


@pytest.mark.parametrize("figures", [("nan", None), ("inf", None), (math.nan, 3.0), (1.0, "nan")])
def test_a_figure_that_is_no_number_is_rejected_with_and_without_a_champion(figures: tuple) -> None:
    for best in (None, champion("dcgan", 100.0)):
        decision = decide(report("vae", *figures), best, GATE)
        assert decision.outcome == "reject" and "broken" in decision.reasons[0]


@given(distances, distances)
def test_the_lower_distance_wins_unless_the_difference_is_noise(mine: float, theirs: float) -> None:
    decision = decide(report("vae", mine), champion("dcgan", theirs), GATE)
    if mine == theirs or (theirs and abs(mine - theirs) / theirs <= 0.013):
        assert decision.outcome == "inconclusive"
    else:
        assert decision.outcome == ("promote" if mine < theirs else "reject")
    assert decision.figure == "fd_classifier" and len(decision.reasons) == 1


def test_reasons_hold_the_numbers() -> None:
    assert decide(report("vae", 9.0), champion("dcgan", 10.0), GATE).reasons == [
        "fd_classifier 9 of vae against 10 of the champion dcgan: 10.00% lower, beyond the noise of 1.30%."
    ]
    assert "1.00% is within the noise" in decide(report("vae", 10.1), champion("dcgan", 10.0), GATE).reasons[0]


def with_interval(name: str, distance: float, low: float | str, high: float | str) -> Report:
    return report(name, distance, intervals={"fd_classifier": [low, high]})


def test_overlapping_intervals_are_inconclusive_however_far_the_figures_are() -> None:
    best = reigning(with_interval("dcgan", 10.0, 8.5, 11.5))
    decision = decide(with_interval("vae", 8.0, 7.0, 8.6), best, GATE)
    assert decision.outcome == "inconclusive"
    assert "the intervals [7, 8.6] and [8.5, 11.5] overlap" in decision.reasons[0]
    assert decision.candidate.interval == (7.0, 8.6) and "[7, 8.6]" in as_markdown(decision)
    assert decide(with_interval("vae", 12.0, 11.5, 12.5), best, GATE).outcome == "inconclusive", "they touch"
    apart = decide(with_interval("vae", 8.0, 7.0, 8.4), best, GATE)
    assert apart.outcome == "promote" and "their intervals do not overlap" in apart.reasons[0]
    assert decide(with_interval("vae", 12.0, 11.6, 12.5), best, GATE).outcome == "reject"
    assert decide(
        with_interval("vae", 9.9, 9.89, 9.91), reigning(with_interval("dcgan", 10.0, 9.99, 10.01)), GATE
    ).outcome == ("inconclusive"), "the margin holds for intervals that are too narrow"


def test_intervals_that_are_missing_or_no_numbers_or_not_asked_for_leave_the_margin_alone() -> None:
    best, better = reigning(with_interval("dcgan", 10.0, 8.5, 11.5)), with_interval("vae", 9.0, 7.0, 11.0)
    assert decide(better, best, GATE).outcome == "inconclusive"
    assert decide(better, best, GateConfig(intervals=False)).outcome == "promote"
    for one in (report("vae", 9.0), with_interval("vae", 9.0, "nan", 11.0)):
        assert decide(one, best, GATE).outcome == "promote"


@pytest.mark.parametrize(
    ("key", "bad", "good"),
    [
        ("precision", 0.04, 0.05),
        ("recall", 0.01, 0.06),
        ("copied", 0.051, 0.05),
        ("recall", "nan", 1.0),
    ],
)
def test_guardrails_reject_with_a_reason_whatever_the_distance(key: str, bad: float | str, good: float) -> None:
    def held(value: float | str, best: Champion | None) -> Decision:
        return decide(made_report("vae", {"fd_classifier": 1.0, key: value}), best, GATE)

    for best in (None, champion("dcgan", 10.0)):
        decision = held(bad, best)
        assert decision.outcome == "reject"
        assert len(decision.reasons) == 2 and f"{key} {bad} breaks the " in decision.reasons[1]
        fine = held(good, best)
        assert fine.outcome == "promote" and len(fine.reasons) == 1
        assert [check.passed for check in fine.checks].count(True) == 1


def test_every_reason_is_told_of_a_candidate_with_several() -> None:
    made = made_report("vae", {"fd_classifier": 20.0, "precision": 0.01, "recall": 0.02, "copied": 0.5})
    decision = decide(made, champion("dcgan", 10.0), GATE)
    assert decision.outcome == "reject" and len(decision.reasons) == 4
    text = as_markdown(decision)
    assert text.startswith("# Reject\n") and text.count("**failed**") == 3
    assert all(reason in text for reason in decision.reasons)


def test_figures_that_the_report_lacks_are_said_to_be_not_held() -> None:
    decision = decide(report("vae", 9.0), None, GATE)
    assert {check.name: check.passed for check in decision.checks} == {
        "precision": None,
        "recall": None,
        "copied": None,
    }
    assert "The floor of recall, 0.05, was not checked: the report has no recall." in as_markdown(decision)


def test_what_others_have_written_into_the_registry_forges_no_line() -> None:
    best = champion("a\x1b[2J\n# Promote", 10.0)
    decision = decide(report("vae", 9.0), best, GATE, "It was trained on b\x1b[2J\n# Promote.")
    text = as_markdown(decision)
    assert "\x1b" not in text and "\n# Promote" not in text and text.count("\\x1b") >= 2


def test_the_rule_is_a_part_of_the_decision() -> None:
    rule = GateConfig(margin=0.2, min_recall=0.4)
    decision = decide(report("vae", 9.0), champion("dcgan", 10.0), rule)
    assert decision.outcome == "inconclusive"
    assert decision.rule["min_recall"] == 0.4 and "margin 0.2" in as_markdown(decision)


def test_a_champion_whose_distance_is_zero_or_no_number() -> None:
    assert decide(report("vae", 0.0), champion("dcgan", 0.0), GATE).outcome == "inconclusive"
    assert decide(report("vae", 1e-9), champion("dcgan", 0.0), GATE).outcome == "reject"
    assert decide(report("vae", 50.0), champion("dcgan", "nan"), GATE).outcome == "promote"


def test_equal_weights_change_nothing_whatever_the_conditions() -> None:
    decision = decide(report("vae", 9.0), champion("vae", 20.0, conditions={"block": "other"}), GATE)
    assert decision.outcome == "inconclusive" and decision.reasons[0].startswith("Unchanged")


def test_unlike_conditions_are_refused_by_name() -> None:
    with pytest.raises(IncomparableError, match=r"\(block, n_samples\): evaluate the champion again"):
        decide(report("vae", 9.0), champion("dcgan", 10.0, conditions={"block": "other", "n_samples": 50}), GATE)


def test_the_decision_is_plain_json_and_the_same_every_time() -> None:
    texts = {json.dumps(decide(report("vae", 9.0), champion("dcgan", 10.0), GATE).as_dict()) for _ in range(2)}
    assert len(texts) == 1
    content = json.loads(texts.pop())
    assert content["outcome"] == "promote"
    assert content["candidate"] == {"name": "vae", "weights": "v" * 64, "value": 9.0}
    assert content["champion"] == {"name": "dcgan", "weights": "d" * 64, "value": 10.0}


def test_a_decision_is_read_back_as_what_it_was_and_nothing_else_is() -> None:
    unjudged = Champion(name="old", weights="o" * 64, judged=None)
    for best, obstacle in ((None, ""), (champion("dcgan", "nan"), ""), (unjudged, "It cannot be judged.")):
        decision = decide(with_interval("vae", 9.0, 8.0, 10.0), best, GATE, obstacle)
        told = json.loads(json.dumps(decision.as_dict(), allow_nan=False))
        again = Decision.from_dict(told, "decision.json")
        assert again.as_dict() == told and repr(again) == repr(decision) and isinstance(again.candidate, Brief)
    for harm, says in (
        ({"outcome": "maybe"}, "decision.json: outcome must be"),
        (
            {"candidate": {"name": "vae", "weights": "v", "value": "9"}},
            "decision.json: candidate: value must be a number",
        ),
        ({"checks": [7]}, "decision.json: checks must hold keys and values, not 7"),
        ({"mood": "good"}, "decision.json: unknown key 'mood'"),
    ):
        with pytest.raises(EvaluationError, match=re.escape(says)):
            Decision.from_dict({**told, **harm}, "decision.json")
    with pytest.raises(EvaluationError, match=r"decision.json: rule is missing"):
        Decision.from_dict({key: value for key, value in told.items() if key != "rule"}, "decision.json")


SPAN = {"precision": 0.02, "recall": 0.02, "density": 0.02, "coverage": 0.02, "is_classifier": 0.1}


def rated(name: str, distance: float, extractor: Any = None, **figures: float) -> Report:
    """With an interval around each figure: a tenth of the distance, SPAN of the others."""
    values = {"fd_classifier": distance, **figures}
    spans = {key: SPAN.get(key, value / 10) for key, value in values.items()}
    ends = {key: [value - spans[key], value + spans[key]] for key, value in values.items()}
    conditions = {"extractor": {"name": "classifier", "fingerprint": "e" * 64, **(extractor or {})}}
    return made_report(name, values, intervals=ends, conditions=conditions)


OF_VAE = {"precision": 0.56, "recall": 0.76, "density": 0.41, "coverage": 0.66, "is_classifier": 6.28}
OF_GAN = {"precision": 0.50, "recall": 0.70, "density": 0.35, "coverage": 0.52, "is_classifier": 5.24}


def test_a_distance_that_all_other_figures_contradict_decides_nothing_and_they_are_named() -> None:
    """As seen on the digits: the distance preferred samples that nobody could read."""
    best = reigning(rated("vae", 8.1, **OF_VAE))
    decision = decide(rated("dcgan", 5.8, **OF_GAN), best, GATE)
    assert decision.outcome == "inconclusive"
    for name, mine in OF_GAN.items():
        assert f"{name} {mine:g} against {OF_VAE[name]:g}" in decision.reasons[0]
    assert "the opposite" in decision.reasons[0] and "the opposite" in as_markdown(decision)
    assert decide(rated("dcgan", 5.8, **OF_GAN), best, GateConfig(agreement=False)).outcome == "promote"
    assert decide(rated("dcgan", 5.8, **OF_GAN), best, GateConfig(intervals=False)).outcome == "promote"
    back = decide(rated("vae", 8.1, **OF_VAE), reigning(rated("dcgan", 5.8, **OF_GAN)), GATE)
    assert back.outcome == "inconclusive" and "higher, but other figures" in back.reasons[0]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("precision", 0.8, 0.7), ("recall", 0.8, 0.7), ("coverage", 0.8, 0.7), ("is_classifier", 5.0, 4.0),
        ("density", 0.9, 0.8), ("density", 1.1, 1.3), ("density", 0.95, 1.3), ("wavelet_distance", 5.0, 9.0),
        ("kd_classifier", 0.1, 0.2), ("conditional_accuracy", 0.9, 0.5),
    ],
)  # fmt: skip
def test_one_figure_is_enough_to_contradict_in_its_own_direction(name: str, good: float, bad: float) -> None:
    def decided(mine: float, theirs: float) -> Decision:
        return decide(rated("vae", 5.0, **{name: mine}), reigning(rated("dcgan", 8.0, **{name: theirs})), GATE)

    assert decided(good, bad).outcome == "promote"
    assert decided(bad, good).outcome == "inconclusive" and f"{name} {bad:g}" in decided(bad, good).reasons[0]


def test_a_figure_within_its_interval_or_without_one_contradicts_nothing() -> None:
    best = reigning(rated("dcgan", 8.0, precision=0.53))
    assert decide(rated("vae", 5.0, precision=0.50), best, GATE).outcome == "promote", "they overlap"
    assert decide(report("vae", 5.0, 3.0), reigning(report("dcgan", 8.0, 2.0)), GATE).outcome == "promote"
    unspanned = made_report("vae", {"fd_classifier": 5.0, "precision": 0.1}, {"fd_classifier": [4.9, 5.1]},
                            conditions=best.judged.conditions.as_dict() if best.judged else None)  # fmt: skip
    assert decide(unspanned, best, GATE).outcome == "promote"


@pytest.mark.parametrize(
    ("accuracy", "chance", "enough"),
    [
        (0.39, 0.25, False), (0.51, 0.25, True), (0.24, 0.1, False), (0.26, 0.1, True), (0.7, 0.5, False),
        (0.76, 0.5, True), (0.014, 0.005, False), (0.02, 0.005, True), (0.95, 0.9, False),
    ],
)  # fmt: skip
def test_an_extractor_that_has_learnt_too_little_crowns_nobody(accuracy: float, chance: float, enough: bool) -> None:
    learnt = {"accuracy": accuracy, "chance": chance, "classes": 4}
    for best in (None, reigning(rated("dcgan", 8.0, learnt))):
        decision = decide(rated("vae", 5.0, learnt), best, GATE)
        assert decision.outcome == ("promote" if enough else "inconclusive")
        assert f"Judged by classifier eeeeeeee, {accuracy:.1%} right of 4 classes" in as_markdown(decision)
        if not enough:
            assert all(
                word in decision.reasons[0] for word in (f"{accuracy:.1%}", "more images", "pixels", "inception")
            )


def test_an_extractor_that_was_not_trained_here_is_not_asked_what_it_has_learnt() -> None:
    assert decide(rated("vae", 5.0), None, GATE).outcome == "promote"


def test_the_first_champion_is_not_one_that_most_figures_rank_below_another() -> None:
    """The embedded digits again: there was no champion, and the distance alone crowned the DCGAN."""
    gan, vae = rated("dcgan", 5.8, **OF_GAN), rated("vae", 8.1, **OF_VAE)
    decision = decide(gan, None, GATE, rivals=[vae])
    assert decision.outcome == "inconclusive" and "prefer vae" in decision.reasons[0]
    assert all(f"{name} {value:g} against" in decision.reasons[0] for name, value in OF_GAN.items())
    assert decide(gan, None, GateConfig(agreement=False), rivals=[vae]).outcome == "promote"
    one = rated("vae", 8.1, **{**OF_GAN, "precision": 0.56})
    assert decide(gan, None, GATE, rivals=[one]).outcome == "promote", "one against the distance is no majority"
    sick = made_report("vae", dict(vae.figures), vae.intervals, health=["Constant output."])
    unsound = made_report("vae", {**vae.figures, "copied": 0.9}, vae.intervals)
    assert decide(gan, None, GATE, rivals=[sick, unsound]).outcome == "promote"
