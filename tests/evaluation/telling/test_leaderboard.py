import base64
import io
import random
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genmodel.errors import EvaluationError, IncomparableError
from genmodel.evaluation.report import Report
from genmodel.evaluation.table import show
from genmodel.evaluation.telling.costs import COSTS
from genmodel.evaluation.telling.leaderboard import leaderboard, markdown, seeds_table, with_costs, write
from genmodel.evaluation.telling.page import write_page
from genmodel.showing.grids import save_grid
from genmodel.showing.replay import write_replay
from tests.reports import made_report


def report(
    name: str, distance: float | str, bits: float | None = None, extractor: str = "classifier", recipe: str = ""
) -> Report:
    figures = {f"fd_{extractor}": distance, f"kd_{extractor}": 0.0123456, "bits_per_dim": bits}
    if extractor == "classifier":
        figures["is_classifier"] = 8.76543
    return made_report(
        name,
        figures,
        intervals={f"fd_{extractor}": [0.5, 99.0]},
        extractor=extractor,
        family="dcgan" if bits is None else "vae",
        weights=name.ljust(64, "0"),
        recipe=recipe or name,
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=8), st.randoms())
def test_the_best_is_first_whatever_the_order_of_the_reports(distances: list[float], shuffler: random.Random) -> None:
    reports = [report(f"m{place}", distance) for place, distance in enumerate(distances)]
    expected = leaderboard(reports)
    shuffler.shuffle(reports)
    pd.testing.assert_frame_equal(leaderboard(reports), expected)
    assert list(expected["fd_classifier"]) == sorted(distances)
    assert list(expected["rank"]) == list(range(1, len(distances) + 1))


def test_a_distance_that_is_no_number_comes_last() -> None:
    assert list(leaderboard([report("a", "nan"), report("b", 7.0), report("c", "inf")])["model"]) == ["b", "c", "a"]


def test_channels_are_told_where_they_differ(tmp_path: Path) -> None:
    shapes = {"a": {}, "b": {"image_size": "32x64", "channels": 4}, "c": {"channels": 1}}
    reports = [made_report(name, {"fd_classifier": 1.0}, conditions=shape) for name, shape in shapes.items()]
    frame = leaderboard(reports)
    found = {row["model"]: (row["image_size"], row["channels"]) for row in frame.to_dict("records")}
    assert found == {"a": (16, "RGB"), "b": ("32x64", "RGBA"), "c": (16, "grey")}
    write(frame, tmp_path / "board.csv", tmp_path / "board.md")
    assert "32x64" in (tmp_path / "board.md").read_text() and "RGBA" in (tmp_path / "board.csv").read_text()
    write_page(reports, tmp_path, tmp_path / "board.html")
    page = (tmp_path / "board.html").read_text()
    assert "32x64 px RGBA" in page and "16 px grey" in page
    assert "channels" not in leaderboard(reports[:1]) and "channels" not in leaderboard(reports[2:])


def test_figures_that_do_not_apply_say_so() -> None:
    frame = leaderboard([report("gan", 3.0), report("vae", 9.0, bits=4.5)])
    assert list(frame["bits_per_dim"]) == ["n/a", 4.5]
    assert list(frame["n_samples"]) == [1000, 1000]
    assert "group" not in frame


def test_a_figure_that_applies_to_none_has_no_column() -> None:
    assert "bits_per_dim" not in leaderboard([report("gan", 3.0), report("other", 9.0)])
    assert "bits_per_dim_low" in leaderboard([report("gan", 3.0), report("vae", 9.0, bits=4.5)])


def test_unlike_conditions_are_ranked_apart_and_never_together() -> None:
    reports = [report("a", 3.0), report("b", 2.0), report("c", 0.5, extractor="pixels")]
    frame = leaderboard(reports)
    ranks = {row["model"]: (row["group"], row["rank"]) for row in frame.to_dict("records")}
    assert ranks["b"][1] == 1 and ranks["a"] == (ranks["b"][0], 2)
    assert ranks["c"][1] == 1 and ranks["c"][0] != ranks["a"][0]
    assert frame.set_index("model").loc["c", "fd_classifier"] == "n/a"
    with pytest.raises(IncomparableError, match="2 different conditions"):
        leaderboard(reports, one_ranking=True)
    assert len(leaderboard(reports[:2], one_ranking=True)) == 2


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="no reports"):
        leaderboard([])


def test_csv_keeps_all_digits_and_markdown_lines_up(tmp_path: Path) -> None:
    frame = leaderboard([report("gan", 12.3456), report("a longer name", 9.87654, bits=4.5)])
    write(frame, tmp_path / "l.csv", tmp_path / "l.md")
    assert list(pd.read_csv(tmp_path / "l.csv")["fd_classifier"]) == [9.87654, 12.3456]
    lines = (tmp_path / "l.md").read_text().splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    ends = [name for name in frame if name.endswith(("_low", "_high"))]
    assert "fd_classifier_low" in ends
    assert [line.count("|") for line in lines] == [len(frame.columns) - len(ends) + 1] * 4
    assert "| 12.35 [0.5000, 99.00] |" in lines[3] and "n/a" in lines[3]
    assert "| ------------- |" in lines[1] and "------------: |" in lines[1]
    assert markdown(frame) == (tmp_path / "l.md").read_text()


def test_intervals_stand_beside_their_figures() -> None:
    row = leaderboard([report("gan", 12.3456), report("vae", 99.0, bits=4.5)]).to_dict("records")[0]
    names = list(row)
    assert names[names.index("fd_classifier") + 1 :][:2] == ["fd_classifier_low", "fd_classifier_high"]
    assert (row["fd_classifier_low"], row["fd_classifier_high"]) == (0.5, 99.0)
    assert row["bits_per_dim"] == row["bits_per_dim_low"] == "n/a"


def test_models_that_differ_in_their_seed_alone_are_told_with_mean_and_spread(tmp_path: Path) -> None:
    seeds = [
        report(f"vae-{seed}", distance, bits=4.0 + seed, recipe="v") for seed, distance in enumerate((3.0, 5.0, 7.0))
    ]
    reports = [*seeds, report("gan", 4.0)]
    frame = leaderboard(reports).set_index("model")
    assert list(frame["seeds"]) == [3, "n/a", 3, 3]
    assert frame.loc["vae-1", "fd_classifier_mean"] == 5.0 and frame.loc["vae-1", "fd_classifier_spread"] == 2.0
    assert frame.loc["gan", "fd_classifier_mean"] == "n/a"
    table = seeds_table(reports)
    assert table is not None and len(table) == 1
    assert table.loc[0, "models"] == "vae-0, vae-1, vae-2"
    assert (
        table.loc[0, "fd_classifier"] == "5.000 \u00b1 2.000" and table.loc[0, "bits_per_dim"] == "5.000 \u00b1 1.000"
    )
    write(leaderboard(reports), tmp_path / "l.csv", tmp_path / "l.md", table)
    assert "Over training seeds" in (tmp_path / "l.md").read_text()


def test_one_seed_alone_has_no_spread() -> None:
    assert seeds_table([report("a", 1.0), report("b", 2.0)]) is None
    assert "seeds" not in leaderboard([report("a", 1.0), report("b", 2.0)])
    twin = replace(report("a", 1.0), name="b")  # the same weights under another name are no other seed
    assert seeds_table([report("a", 1.0), twin]) is None


def test_cells_for_people() -> None:
    assert [show("fd_pixels", value) for value in (0.0, 0.0123456, 12.3456, 12345.6, 3, "n/a")] == [
        "0.000", "0.01235", "12.35", "12346", "3", "n/a",
    ]  # fmt: skip


def test_the_page_holds_everything_and_the_same_bytes(tmp_path: Path) -> None:
    for images_seen, level in ((1000, 0), (20000, 255)):
        grid = torch.full((4, 8, 8, 3), level, dtype=torch.uint8)
        save_grid(tmp_path / "models/gan/samples" / f"{images_seen:010d}.png", grid)
    reports = [report("gan", 12.3456), report("<b>vae", 9.0, bits=4.5), report("far", 0.5, extractor="pixels")]
    write_page(reports, tmp_path / "models", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<table>") == 6 and "2 different conditions" in text
    assert "12.35" in text and "&lt;b&gt;vae" in text and "<b>vae" not in text
    assert "1,000 samples against 1,600 real images" in text
    shown = Image.open(io.BytesIO(base64.b64decode(text.split("data:image/webp;base64,")[1].split('"')[0])))
    assert shown.convert("L").getextrema()[1] == 255, "the last grid, as it is"
    assert text.count("data:image/webp;base64,") == 1 and "after 20,000 images" in text
    assert "http" not in text and "<link" not in text and 'src="data:' in text  # self-contained
    write_page(reports[::-1], tmp_path / "models", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == text


COST = {"seconds": 7200.0, "processes": 4, "device": "NVIDIA H200", "energy_kwh": 5.5}


def test_costs_stand_beside_the_figures() -> None:
    reports = [report("gpu", 1.0), report("cpu", 2.0), report("elsewhere", 3.0, bits=4.5)]
    frame = leaderboard(reports)
    cpu = {"seconds": 60.0, "processes": 2, "device": "cpu"}
    told = with_costs(frame, {"gpu": COST, "cpu": cpu}).set_index("model")
    assert list(told.loc["gpu", list(COSTS)]) == [7200.0, 8.0, 5.5, 1234567, 4938268, "NVIDIA H200"]
    assert list(told.loc["cpu", ["seconds", "gpu_hours", "kwh", "device"]]) == [60.0, 0.0, "n/a", "cpu"]
    assert set(told.loc["elsewhere", ["seconds", "gpu_hours", "kwh", "device"]]) == {"n/a"}
    assert list(told.loc["elsewhere", ["data", "code"]]) == ["b" * 8, "c" * 8]
    names = list(told)
    assert names.index("bits_per_dim_high") < names.index("seconds") < names.index("bytes") < names.index("n_samples")
    pd.testing.assert_frame_equal(told.reset_index()[list(frame)], frame, check_dtype=False)


def test_the_page_tells_figures_with_intervals_costs_versions_and_replay(tmp_path: Path) -> None:
    samples = tmp_path / "models/gan/samples"
    for images_seen, level in ((0, 0), (1000, 255)):
        save_grid(samples / f"{images_seen:010d}.png", torch.full((4, 8, 8, 3), level, dtype=torch.uint8))
    write_replay({int(path.stem): path for path in samples.iterdir()}, "linear", samples.parent / "replay.gif")
    write_page([report("gan", 12.3456)], tmp_path / "models", tmp_path / "page.html", {"gan": COST}, "Made from X.")
    text = (tmp_path / "page.html").read_text()
    for told in (
        "0.5000 to 99.00",
        "1,234,567",
        "4,938,268",
        "7200",
        "8.000",
        "5.500",
        "NVIDIA H200",
        "b" * 8,
        "c" * 8,
    ):
        assert told in text, told
    assert "<footer>Made from X.</footer>" in text
    replay = Image.open(io.BytesIO(base64.b64decode(text.split("data:image/webp;base64,")[2].split('"')[0])))
    with Image.open(samples.parent / "replay.gif") as gif:
        assert replay.format == "WEBP" and replay.n_frames == gif.n_frames + 1 == 3 and replay.size == gif.size
    assert "fd_classifier against seconds of training" in text
    assert "Walk of" not in text, "this model keeps none"


def test_a_walk_stands_below_the_samples_at_the_size_of_a_row(tmp_path: Path) -> None:
    gan = tmp_path / "models/gan"
    save_grid(gan / "samples/0000001000.png", torch.zeros(64, 28, 28, 1, dtype=torch.uint8), 8)
    shades = torch.arange(0, 256, 32, dtype=torch.uint8)[:, None, None, None].expand(8, 28, 28, 1)
    save_grid(gan / "walk.png", shades, 8)
    write_page([report("gan", 12.3456)], tmp_path / "models", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    grid, walk = (
        Image.open(io.BytesIO(base64.b64decode(part.split('"')[0])))
        for part in text.split("data:image/webp;base64,")[1:3]
    )
    assert text.index('alt="Samples of gan"') < text.index('alt="Walk of gan"')
    assert walk.width == grid.width and walk.height == 2 + (grid.height - 2) // 8
    assert [walk.getpixel((2 + 58 * column + 20, 30))[0] for column in range(8)] == list(range(0, 256, 32))
    assert "as the noise changes little by little" in text


def test_the_chart_leaves_out_what_has_no_place_and_turns_to_parameters_without_seconds(tmp_path: Path) -> None:
    reports = [report("a", 3.0), report("b", "nan"), report("c", 0.0)]
    write_page(reports, tmp_path, tmp_path / "page.html", {"a": COST})
    text = (tmp_path / "page.html").read_text()
    assert "fd_classifier against parameters" in text and text.count("<circle") == 1
    assert "Not drawn, as their figure is not above 0:\nc, b." in text
    write_page(reports[1:], tmp_path, tmp_path / "page.html")
    assert "<svg" not in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_five_hundred_models_make_a_page_that_ends_and_opens(tmp_path: Path) -> None:
    models = tmp_path / "models"
    rng = torch.Generator().manual_seed(0)
    samples = models / "m000/samples"
    for images_seen in range(1, 4):
        grid = torch.randint(0, 256, (64, 4, 4, 3), dtype=torch.uint8, generator=rng)
        save_grid(samples / f"{images_seen:010d}.png", grid.repeat_interleave(8, 1).repeat_interleave(8, 2))
    write_replay({int(path.stem): path for path in samples.iterdir()}, "linear", samples.parent / "replay.gif")
    save_grid(samples.parent / "walk.png", grid.repeat_interleave(16, 1).repeat_interleave(16, 2)[:8], 8)
    for place in range(1, 500):
        (models / f"m{place:03d}").symlink_to(samples.parent)
    reports = [report(f"m{place:03d}", 3.0 + place) for place in range(500)]
    out, cache = tmp_path / "page.html", tmp_path / "thumbs"
    began = time.process_time()
    write_page(reports, models, out, cache=cache)
    spent = time.process_time() - began
    text = out.read_text()
    assert spent < 20 and out.stat().st_size < 15e6, (spent, out.stat().st_size)
    pictures = ("Samples", "Walk", "Replay")
    assert all(text.count(f'alt="{kind} of') == 12 for kind in pictures) and 'alt="Samples of m000"' in text
    assert text.count('href="models/m') == 2 * 488
    assert (tmp_path / text.split('href="')[1].split('"')[0]).exists()
    assert len(list(cache.iterdir())) == 3, "equal pictures are kept once"
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    write_page(reports, models, out, cache=cache)
    assert out.read_text() == text and {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept
