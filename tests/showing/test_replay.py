import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from PIL import Image, ImageChops, ImageSequence, ImageStat

from genmodel.showing import replay
from genmodel.showing.grids import save_grid
from genmodel.showing.replay import HEAD, HELD, TICK_MS, TICKS, frames, round_numbers, scale, schedule, write_replay
from genmodel.showing.samples import sample_moments

MOMENTS = [0, 64, 128, 256, 512, 1_024]
CLOCKS: list[Any] = ["log", "linear"]


@pytest.fixture
def grids(tmp_path: Path) -> Mapping[int, Path]:
    """Grids of 16 grey images, each grid of another grey."""
    paths = {}
    for place, seen in enumerate(MOMENTS):
        paths[seen] = tmp_path / "samples" / f"{seen:010d}.png"
        save_grid(paths[seen], torch.full((16, 8, 8, 3), 40 * place, dtype=torch.uint8))
    return paths


def test_in_log_time_each_doubling_lasts_as_long() -> None:
    assert schedule([0, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192], "log") == {
        0: 8, 64: 8, 128: 8, 256: 8, 512: 8, 1_024: 8, 2_048: 8, 4_096: 8, 8_192: HELD
    }  # fmt: skip


def test_in_linear_time_each_image_lasts_as_long() -> None:
    assert schedule([0, 1_000, 4_000, 16_000, 32_000, 64_000], "linear") == {
        0: 1, 1_000: 3, 4_000: 12, 16_000: 16, 32_000: 32, 64_000: HELD
    }  # fmt: skip
    assert schedule([0, 100, 64_000], "linear") == {0: TICKS, 64_000: HELD}, "100 images pass too fast to be seen"


def test_the_parts_of_a_training_last_equally_long_though_they_are_rounded_up_to_steps() -> None:
    lasting = list(schedule(sample_moments(160_000, 64), "linear").values())
    assert lasting.count(2) >= 24 and set(lasting[:-1]) == {1, 2}


def test_places_on_the_clocks() -> None:
    log, linear = scale(MOMENTS, "log"), scale(MOMENTS, "linear")
    assert [log(seen) for seen in MOMENTS] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert [linear(seen) for seen in (0, 256, 512, 1_024)] == [0, 0.25, 0.5, 1]
    assert scale([64, 128, 256], "log")(128) == 0.5, "a record without a start"
    assert scale([7], "log")(7) == scale([0], "linear")(0) == 0


@given(st.sets(st.integers(0, 10**9), min_size=1, max_size=300), st.sampled_from(CLOCKS))
def test_a_grid_comes_within_half_a_tick_of_its_time(moments: set[int], clock: Any) -> None:
    shown = schedule(moments, clock)
    assert sum(shown.values()) == (TICKS if len(moments) > 1 else 0) + HELD
    assert len(shown) <= TICKS + 1
    assert min(shown.values()) >= 1
    assert list(shown) == sorted(shown)
    assert min(moments) in shown and max(moments) in shown
    now, place = 0, scale(moments, clock)
    for seen, ticks in shown.items():
        assert abs(now - place(seen) * TICKS) <= 0.5 + 1e-9
        now += ticks


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_picture_is_animated_as_scheduled_and_equal_each_time(
    clock: Any, grids: Mapping[int, Path], tmp_path: Path
) -> None:
    one, two = tmp_path / "one.gif", tmp_path / "two.gif"
    write_replay(grids, clock, one)
    write_replay(dict(reversed(grids.items())), clock, two)
    assert one.read_bytes() == two.read_bytes()
    shown = schedule(grids, clock)
    with Image.open(one) as picture:
        assert picture.format == "GIF" and picture.info["loop"] == 0
        pages = [(page.convert("RGB"), page.info["duration"]) for page in ImageSequence.Iterator(picture)]
    assert [milliseconds for _, milliseconds in pages] == [ticks * TICK_MS for ticks in shown.values()]
    assert 8_000 <= sum(milliseconds for _, milliseconds in pages) <= 12_000
    shades = [page.getpixel((page.width // 2 - 40, HEAD + 40))[0] for page, _ in pages]
    assert shades == [40 * MOMENTS.index(seen) for seen in shown]


def test_a_page_in_few_colours_is_close_and_its_paper_white() -> None:
    noise = torch.randint(0, 256, (640, 640, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    page = Image.new("RGB", (640, HEAD + 640), "white")
    page.paste(Image.fromarray(noise.numpy()), (0, HEAD))
    page.paste("#fcfbfa", (0, HEAD, 640, HEAD + 200))  # nearly white, as often in photographs
    few = replay._reduced(page).convert("RGB")
    assert few.crop((0, 0, 640, HEAD)).getextrema() == ((255, 255),) * 3, "or it would flicker"
    assert max(ImageStat.Stat(ImageChops.difference(page, few)).mean) < 20, "all of 16.7 million colours in 256"


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_time_is_written_above_the_images_and_never_over_them(clock: Any, grids: Mapping[int, Path]) -> None:
    pages = list(frames(grids, clock))
    for seen, page in zip(schedule(grids, clock), pages, strict=True):
        with Image.open(grids[seen]) as grid:
            left = (page.width - grid.width) // 2
            below = page.crop((left, HEAD, left + grid.width, HEAD + grid.height))
            assert ImageChops.difference(below, grid.convert("RGB")).getbbox() is None
    words = [page.crop((0, 0, page.width // 2, 34)) for page in pages]
    for before, after in itertools.pairwise(words):
        box = ImageChops.difference(before, after).getbbox()
        assert box is not None and box[3] - box[1] >= 10, "the images seen are written, large enough to read"


def test_the_line_reaches_as_far_as_the_clock(grids: Mapping[int, Path]) -> None:
    for clock, far in (("log", [0, 0.2, 0.4, 0.6, 0.8, 1]), ("linear", [0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])):
        reached = []
        for page in frames(grids, clock):  # type: ignore[arg-type]
            line = [page.getpixel((x, 42))[0] < 100 for x in range(page.width)]
            reached.append((sum(line) - 5 - 6) / (page.width - 24))  # less half the knob on either side
        assert reached == pytest.approx(far, abs=0.02)


def test_large_grids_are_shrunk_and_small_ones_get_room_for_the_words(tmp_path: Path) -> None:
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    Image.new("RGB", (2_066, 2_066), "teal").save(large)
    Image.new("RGB", (9, 9), "teal").save(small)
    assert [page.size for page in frames({0: large}, "log")] == [(640, HEAD + 640)]
    assert [page.size for page in frames({0: small}, "log")] == [(360, HEAD + 9)]


def test_a_single_grid_is_a_picture_that_stands(tmp_path: Path, grids: Mapping[int, Path]) -> None:
    write_replay({0: grids[0]}, "log", tmp_path / "still.gif")
    with Image.open(tmp_path / "still.gif") as picture:
        assert getattr(picture, "n_frames", 1) == 1


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10))
def test_ticks_are_few_and_in_range(low: float, span: float, most: int) -> None:
    ticks = round_numbers(low, low + span, most)
    assert len(ticks) <= most + 1
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)


def test_ticks_worked_by_hand() -> None:
    assert round_numbers(0, 160_000, 4) == [0, 50_000, 100_000, 150_000]
    assert round_numbers(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert round_numbers(-3, 3, 3) == [-2, 0, 2]
