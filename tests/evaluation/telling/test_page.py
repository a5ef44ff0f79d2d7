"""What leaderboard.html tells beside the figures: the champion, what changed, pictures within their bytes."""

import base64
import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from genmodel.evaluation.gate import Brief, Check, Decision
from genmodel.evaluation.report import Report
from genmodel.evaluation.telling.changes import changes, state
from genmodel.evaluation.telling.page import write_page
from genmodel.evaluation.telling.plots import write_plots
from genmodel.evaluation.telling.standing import Standing, tells
from genmodel.showing.grids import save_grid
from genmodel.showing.replay import write_replay
from tests.reports import made_report

BETTER, WORSE = "b" * 64, "a" * 64


def report(name: str, distance: float, weights: str = "", **facts: object) -> Report:
    figures = {"fd_classifier": distance, "kd_classifier": 0.01, "precision": 0.9}
    spans = {"fd_classifier": [0.9 * distance, 1.1 * distance]}
    return made_report(name, figures, spans, weights=weights or name.ljust(64, "0"), **facts)


def decision(outcome: str, reason: str) -> Decision:
    return Decision.from_dict(
        {
            "outcome": outcome,
            "reasons": [reason],
            "checks": [Check(name="precision", passed=False, says="precision 0 breaks the floor.").as_dict()],
            "figure": "fd_classifier",
            "candidate": Brief(name="young", weights=BETTER, value=1.0).as_dict(),
            "champion": Brief(name="old", weights=WORSE, value=2.0, interval=(1.8, 2.2)).as_dict(),
            "rule": {},
        },
        "here",
    )


def page(tmp_path: Path, standing: Standing, *reports: Report) -> str:
    shown = reports or (report("young", 1.0, BETTER), report("old", 2.0, WORSE))
    write_page(list(shown), tmp_path / "models", tmp_path / "page.html", standing=standing)
    return (tmp_path / "page.html").read_text()


def row(text: str, name: str) -> str:
    return next(part for part in text.split("<tr")[1:] if f'data-value="{name}"' in part)


def test_the_champion_is_marked_and_a_rejected_first_is_not(tmp_path: Path) -> None:
    told = Standing(decision=decision("reject", "It is <broken>."), version="3", name="old", weights=WORSE)
    text = page(tmp_path, told)
    assert row(text, "old").startswith(' class="champion"') and ">champion<" in row(text, "old")
    assert "champion" not in row(text, "young") and ">rejected<" in row(text, "young")
    top = text[: text.index("<section>")]
    assert "<b>old</b>, version 3, fd_classifier 2.000 [1.800 to 2.200]" in " ".join(top.split())
    assert "young was rejected" in top and "It is &lt;broken&gt;." in top and "failed: precision 0 breaks" in top
    assert "★ old" in text


def test_before_the_decision_and_without_a_champion_nothing_is_marked(tmp_path: Path) -> None:
    text = page(tmp_path, Standing())
    assert "none yet" in text and "Not decided yet." in text and 'class="champion"' not in text
    (tmp_path / "champion.html").touch()
    assert 'href="champion.html"' not in text
    assert 'href="champion.html"' in page(tmp_path, Standing(over_time="champion.html"))


def test_a_page_says_in_its_head_which_standing_it_tells(tmp_path: Path) -> None:
    told = Standing(version="3", name="old", weights=WORSE)
    page(tmp_path, told)
    assert tells(tmp_path / "page.html", told) and not tells(tmp_path / "page.html", Standing())
    assert not tells(tmp_path / "absent.html", told)


def test_headings_have_units_and_directions_and_paper_has_every_figure(tmp_path: Path) -> None:
    reports = [report(f"m{place}", 1.0 + place) for place in range(7)]
    reports = [replace(each, figures={**each.figures, "pair_ms_ssim": 0.3}) for each in reports]
    text = page(tmp_path, Standing(), *reports)
    screen, paper = text[: text.index('<table class="sheet">')], text[text.index('<table class="sheet">') :]
    heads = re.findall(r'<th class="(\w+)" scope.*?</th>', screen, re.S)
    assert heads == ["rank", "model", "fd_classifier", "precision", "rank", "model", "kd_classifier", "pair_ms_ssim"]
    assert 'distance</span><span class="unit">↓ lower is better' in screen and "↑ higher is better" in screen
    for head in re.findall(r'<th class="(?:fd|kd|precision|pair)\w*" scope.*?</th>', screen, re.S):
        assert head.count('class="unit"') == 2 and " is better</span>" in head, head
    assert paper.count('<table class="sheet">') == 2, "five models a sheet"
    for name in ("family", "fd_<wbr>classifier", "kd_<wbr>classifier", "precision", "bytes", "data", "code"):
        assert paper.count(f"<tr><th>{name}<") == 2, name
    assert "<tr><th>kwh<" not in paper, "no model tells it"
    assert all(f">{place + 1} m{place}<" in paper for place in range(7))


def samples(folder: Path, moments: int, side: int, seed: int) -> None:
    """Grids of coloured noise, which no codec makes small, with a replay and a walk."""
    rng = torch.Generator().manual_seed(seed)
    for place in range(moments):
        images = torch.randint(0, 256, (64, side, side, 3), dtype=torch.uint8, generator=rng)
        save_grid(folder / "samples" / f"{place * 1000:010d}.png", images, 8)
    grids = {int(path.stem): path for path in sorted((folder / "samples").iterdir())}
    write_replay(grids, "linear", folder / "replay.gif")
    save_grid(folder / "walk.png", images[:16], 8)


@pytest.mark.slow
def test_twelve_models_whose_samples_are_noise_make_at_most_4_mb(tmp_path: Path) -> None:
    models = tmp_path / "models"
    samples(models / "m00", 12, 64, 0)
    (tmp_path / "reports").mkdir()
    save_grid(models / "m00/real.png", torch.randint(0, 256, (64, 64, 64, 3), dtype=torch.uint8), 8)
    names = [f"m{place:02d}" for place in range(12)]
    for name in names:
        if name != "m00":
            (models / name).symlink_to(models / "m00")
        (tmp_path / f"reports/{name}-neighbours.png").symlink_to(models / "m00/real.png")
    out, real, cache = tmp_path / "page.html", models / "m00/real.png", tmp_path / "thumbs"
    cache.mkdir()
    (cache / "of-a-model-that-is-gone.webp").touch()
    reports = [report(name, 1.0 + place) for place, name in enumerate(names)]
    write_page(reports, models, out, cache=cache, real=real, neighbours=tmp_path / "reports")
    text = out.read_text()
    for kind in ("Samples", "Nearest neighbours", "Walk", "Replay of the training"):
        assert text.count(f'alt="{kind} of m') == 12, kind
    assert out.stat().st_size <= 4_000_000 and 'alt="Real images"' in text
    assert not (cache / "of-a-model-that-is-gone.webp").exists()


def test_a_replay_plays_and_begins_with_its_end(tmp_path: Path) -> None:
    for seen, level in ((0, 0), (1000, 100), (2000, 250)):
        images = torch.full((4, 8, 8, 3), level, dtype=torch.uint8)
        save_grid(tmp_path / f"models/young/samples/{seen:010d}.png", images)
    grids = {int(path.stem): path for path in (tmp_path / "models/young/samples").iterdir()}
    write_replay(grids, "linear", tmp_path / "models/young/replay.gif")
    text = page(tmp_path, Standing())
    shown = text[text.index('class="replay"') :].split("base64,")[1].split('"')[0]
    replay = Image.open(io.BytesIO(base64.b64decode(shown)))
    levels = []
    for frame in range(replay.n_frames):
        replay.seek(frame)
        levels.append(replay.convert("L").getpixel((replay.width // 2 - 20, replay.height - 100)))
    assert levels[0] > 200 and levels[1] < 50 and levels[-1] > 200 and replay.info["loop"] == 0


def test_losses_are_drawn_and_a_spike_does_not_flatten_them(tmp_path: Path) -> None:
    folder = tmp_path / "models/young"
    save_grid(folder / "samples/0000001000.png", torch.zeros(4, 8, 8, 3, dtype=torch.uint8))
    with (folder / "history.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["images_seen", "loss/generator", "score/real", "loss/discriminator"])
        for place in range(100):
            rows.writerow([place * 10, 1e9 if place == 50 else place / 100, 0, "nan" if place == 3 else 0.5])
    text = page(tmp_path, Standing())
    svg = text[text.index('aria-label="Losses of young"') :].split("</svg>")[0]
    curves = re.findall(r'points="([^"]*)"', svg)
    assert len(curves) == 2 and ">generator<" in svg and "score" not in svg and "nan" not in svg
    heights = [float(point.split(",")[1]) for point in curves[0].split()]
    assert max(heights) - min(heights) > 100 and heights[0] - heights[99] > 100


def test_what_changed_is_told_by_kind() -> None:
    one, other = [report("gan", 2.0), report("gone", 3.0)], [report("gan", 1.5, code="d" * 64), report("new", 4.0)]
    before = state(one, {"gan": {"network": {"width": 8}, "training": {"images": 10}}})
    now = state(other, {"gan": {"network": {"width": 16}, "training": {"images": 10}}})
    assert changes(before, now) == {
        "models": ["new is new", "gone is gone"],
        "settings": ["gan: network.width 8 → 16"],
        "code": ["gan: cccccccc → dddddddd"],
        "figures": ["gan: fd_classifier 2.000 → 1.500, better"],
    }
    assert changes(now, now) == {}
    moved = state([report("gan", 9.0, conditions={"block": "e" * 64})], {})
    told = changes(state([report("gan", 2.0)], {}), moved)
    assert told["data"] == ["bbbbbbbb → eeeeeeee"] and "do not compare" in told["figures"][0]


def test_the_page_lists_what_changed(tmp_path: Path) -> None:
    text = page(tmp_path, Standing(changes={"settings": ["gan: a<b 1 → 2"]}, since="2026-01-02 03:04 UTC"))
    assert "since 2026-01-02 03:04 UTC" in text and "gan: a&lt;b 1 → 2" in text
    assert "Nothing." in page(tmp_path, Standing(changes={}, since="2026-01-02 03:04 UTC"))
    assert "first comparison" in page(tmp_path, Standing())


@pytest.mark.parametrize("names", [["gan"], ["gan", "vae"]])
def test_the_plots_follow_the_models_and_need_no_network(tmp_path: Path, names: list[str]) -> None:
    for name in ("gan", "vae"):
        save_grid(tmp_path / f"models/{name}/timeline.png", torch.zeros(4, 8, 8, 3, dtype=torch.uint8))
        (tmp_path / f"models/{name}/history.csv").write_text("images_seen,loss/x\n0,1\n10,2\n")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/gone-losses.svg").touch()
    reports = [report(name, 1.0 + place) for place, name in enumerate(names)]
    write_plots(reports, tmp_path / "models", tmp_path / "plots")
    made = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    own = {f"{name}-{kind}" for name in names for kind in ("losses.svg", "timeline.png")}
    assert set(made) == {"ranking.svg"} | own
    ranking = made["ranking.svg"].decode()
    assert all(f">{name}<" in ranking for name in names) and "lower is better" in ranking and "[0.9, 1.1]" in ranking
    assert b"<script" not in b"".join(made.values()) and b"href" not in b"".join(made.values())
    write_plots(reports[::-1], tmp_path / "models", tmp_path / "plots")
    assert {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()} == made
