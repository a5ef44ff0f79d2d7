"""Sample grids in MLflow."""

import os
from pathlib import Path

from PIL import Image

from flows.tracking.drawings import sample_grids, write_logged_images


def test_sample_grids_are_named_by_images_seen(tmp_path: Path) -> None:
    for name in ("0000000128.png", "0000000064.png", ".0000000256.png.7.partial", "notes.png"):
        (tmp_path / name).touch()
    assert list(sample_grids(tmp_path)) == [64, 128]
    assert sample_grids(tmp_path / "absent") == {}


def test_a_logged_image_keeps_its_name_wherever_it_is_copied_to(tmp_path: Path) -> None:
    path, folder = tmp_path / "0000000064.png", tmp_path / "images"
    Image.new("RGB", (600, 300), "red").save(path)
    folder.mkdir()
    write_logged_images({64: path}, "run", folder)
    os.utime(path, (1, 1))
    write_logged_images({64: path}, "run", folder)
    thumbnail, picture = sorted(folder.glob("samples+*"))
    assert len(list(folder.glob("latest+*"))) == 2
    assert picture.read_bytes() == path.read_bytes()
    assert Image.open(thumbnail).size == (256, 128)
