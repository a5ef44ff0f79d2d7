"""What MLflow's pages tell of a run."""

from flows.telling import of_run
from tests.reports import made_report

NAME, NOTE, COLOUR = "mlflow.runName", "mlflow.note.content", "mlflow.runColor"
REPORTS = [
    made_report("vae", {"fd_classifier": 1.5, "precision": 0.5, "density": 2.0}, {"fd_classifier": [1.0, 2.0]}),
    made_report("dcgan", {"fd_classifier": 12.0, "precision": None, "density": 1.0}),
]


def test_the_champion_s_run_has_a_star_as_long_as_it_is_champion() -> None:
    run = {NAME: "vae-abababab"}
    run |= of_run.with_outcome(run, "promoted", "There was no champion.")
    assert run == {
        NAME: "★ vae-abababab",
        "genmodel.outcome": "promoted",
        NOTE: "**promoted**: There was no champion.",
    }
    assert of_run.with_outcome(run, "promoted")[NAME] == "★ vae-abababab", "once"
    run |= of_run.with_outcome(run, "replaced")
    assert run == {NAME: "vae-abababab", "genmodel.outcome": "replaced", NOTE: "**replaced**"}


def test_a_description_tells_verdict_rank_figures_with_direction_and_samples() -> None:
    told = of_run.in_ranking(REPORTS, 0, "get-artifact?path=a.png")
    run = {NAME: "vae", **told}
    note = of_run.with_outcome(run, "rejected", "It <b>is</b> worse.")[NOTE].split("\n\n")
    assert note == [
        "**rejected**: It \\<b\\>is\\</b\\> worse.",
        "Rank 1 of 2 by fd_classifier.",
        "- fd_classifier 1.500 \\[1.000, 2.000\\], lower is better\n- precision 0.5000, higher is better",
        "![samples](get-artifact?path=a.png)",
    ]
    again = of_run.with_outcome({**run, NOTE: "\n\n".join(note)}, "promoted")[NOTE]
    assert again.split("\n\n") == ["**promoted**", *note[1:]], "another verdict leaves the rest"
    other = of_run.in_ranking(REPORTS, 1, "a")[NOTE]
    assert "Rank 2 of 2" in other and "precision" not in other, "what does not apply is left out"


def test_twelve_models_have_colours_that_tell_them_apart() -> None:
    reports = [made_report(f"model-{n:02}", {"fd_classifier": float(n)}) for n in range(12)]
    colours = [of_run.in_ranking(reports, place, "")[COLOUR] for place in range(12)]
    parts = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in colours]
    apart = [sum(abs(a - b) for a, b in zip(one, two, strict=True)) for one in parts for two in parts if one != two]
    assert len(set(colours)) == 12 and min(apart) > 60
    of_best_last = of_run.in_ranking(reports[::-1], 11, "")[COLOUR]
    assert of_best_last == colours[0], "whatever its rank"
