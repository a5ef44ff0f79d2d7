from pathlib import Path

import torch
from PIL import Image

from genmodel.showing.grids import grid, save_grid, timeline
from genmodel.sizes import Size


def test_grid_shows_each_image_in_its_place(tmp_path: Path) -> None:
    shades = torch.tensor([10, 20, 30, 40, 50], dtype=torch.uint8).view(5, 1, 1, 1).repeat(1, 8, 8, 3)
    path = tmp_path / "grid.png"
    save_grid(path, shades, columns=3)
    with Image.open(path) as picture:
        tile = 8 * 8 + 2  # enlarged eight times, a gap of two
        assert picture.size == (3 * tile + 2, 2 * tile + 2)
        centres = [(2 + 32 + column * tile, 2 + 32 + row * tile) for row in (0, 1) for column in (0, 1, 2)]
        assert [picture.getpixel(place)[0] for place in centres] == [10, 20, 30, 40, 50, 255]


def test_grey_images_make_a_grey_grid_and_what_is_transparent_lies_on_a_checker() -> None:
    grey = torch.full((2, 8, 16, 1), 77, dtype=torch.uint8)
    page = grid(grey, columns=2)
    assert page.mode == "L" and page.size == (2 * 18 + 2, 8 + 4) and page.getpixel((2, 2)) == 77
    clear = torch.tensor([9, 9, 9, 0], dtype=torch.uint8).repeat(1, 8, 16, 1)
    clear[..., :8, 3] = 255
    page = grid(clear)
    assert page.mode == "RGB" and page.getpixel((2, 2)) == (9, 9, 9)
    assert {page.getpixel((2 + 8 + x, 2)) for x in range(8)} == {(255, 255, 255), (191, 191, 191)}


def test_the_timeline_of_rectangles_has_whole_rows() -> None:
    for height, width in ((32, 64), (64, 32)):
        images = torch.full((6, height, width, 1), 90, dtype=torch.uint8)
        page = timeline({5: grid(images, columns=3)}, columns=3, size=Size(height, width))
        assert (page.mode, page.height, page.width) == ("L", height + 2, 96 + 3 * (width + 2) + 2)
        assert page.getpixel((96 + 2 + width // 2, 2 + height - 1)) == 90


def test_timeline_puts_the_first_row_of_each_grid_behind_its_moment() -> None:
    grids = {}
    for seen, shade in ((2_000, 200), (10, 90)):
        images = torch.full((9, 64, 64, 3), shade, dtype=torch.uint8)
        images[3:] = 0  # the rows below the first
        grids[seen] = grid(images)
    page = timeline(grids, columns=3, size=Size(64, 64))
    height = page.height // 2
    middle = [page.getpixel((page.width - 40, row * height + height // 2))[0] for row in (0, 1)]
    assert middle == [90, 200], "in the order of images seen"
    left = page.crop((0, 0, 90, page.height)).convert("L").getextrema()
    assert left[0] < 100, "the moment is written"
    assert page.width == 96 + 3 * 66 + 2
