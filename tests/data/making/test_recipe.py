"""A recipe says what decides a block's pixels, and a block's leaves nothing open."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.data.imaging.resize import resize
from genmodel.data.making import make as making
from genmodel.data.making.recipe import Recipe
from genmodel.data.making.update import update
from genmodel.errors import BlockError, ConfigError

Files = dict[str, bytes]
Make = Callable[..., Block]
Pack = Callable[[str, Files], str]
Tree = Callable[[Path], Files]
Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]


@pytest.fixture
def grey(picture: Picture, encode: Encode) -> Files:
    """Grey images as L, as RGB, and as a palette; 30 of them."""
    files = {}
    for i in range(30):
        image = picture(i, 40, 30, "L").convert(["L", "RGB", "P"][i % 3])
        files[f"{'ab'[i % 2]}/{i:02d}.png"] = encode(image, "PNG")
    return files


@pytest.fixture
def coloured(picture: Picture, encode: Encode) -> Files:
    return {"b/99.png": encode(picture(99, 40, 30), "PNG")}


@pytest.mark.parametrize(
    "bad",
    [
        {"resize": "adm-2"},
        {"orient": "yes"},
        {"background": "blue"},
        {"background": "#12345"},
        {"channels": 2},
        {"bits": 8},
        {"max_pixels": 0},
        {"duplicates": "maybe"},
        {"channels": 4, "background": "checker"},
    ],
)
def test_what_is_no_choice(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^--") as caught:
        Recipe.from_dict(bad)
    assert "must be" in str(caught.value) or "leave out" in str(caught.value)


def test_a_block_keeps_it_with_nothing_left_open(make: Make, images: Files, packed: Pack, tmp_path: Path) -> None:
    kept = make(packed("tar", images), tmp_path / "data").facts["recipe"]
    assert kept == {
        "resize": "adm-1",
        "orient": True,
        "background": "white",
        "channels": 3,
        "luma": False,
        "bits": "declared",
        "max_pixels": 89_478_485,
        "duplicates": "keep",
    }


def test_only_imagenets_images_are_left_as_they_are_stored(
    make: Make, picture: Picture, encode: Encode, packed: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    image = picture(1, 30, 20)
    turned = encode(image, "PNG", exif=tags)
    upright = resize(image.transpose(Image.Transpose.ROTATE_270), 16)
    for name, orient, said, expected in (
        ("n01440764/1.png", None, "left as stored", resize(image, 16)),
        ("n01440764/1.png", True, "turned upright", upright),
        ("photos/1.png", None, "turned upright", upright),
        ("photos/1.png", False, "left as stored", resize(image, 16)),
        ("n014407641/1.png", None, "turned upright", upright),  # nine digits
    ):
        out, option = tmp_path / "data", {None: [], True: ["--orient"], False: ["--no-orient"]}[orient]
        assert main(["prepare", packed("tar", {name: turned}), "--out", str(out), "--sizes", "16", *option]) == 0
        assert capsys.readouterr().out.splitlines()[0].endswith(f"at 16 px, RGB; 1 rotated by EXIF, {said}")
        block = Block.open(out)
        np.testing.assert_array_equal(block.gather(16, np.arange(1))[0], expected)
        assert block.facts["recipe"]["orient"] == (said == "turned upright")
        main(["census", str(out)])
        assert f"rotated by EXIF, {said}" + 10 * " " in capsys.readouterr().out.replace(
            f"{said}  ", f"{said}{10 * ' '}"
        )


def test_one_channel_where_all_images_are_grey(
    make: Make, grey: Files, packed: Pack, tree: Tree, tmp_path: Path, small_shards: None
) -> None:
    block = make(packed("tar", grey), tmp_path / "data")
    assert (block.channels, block.facts["channels"], block.facts["recipe"]["luma"]) == (1, 1, False)
    colour = make(packed("tar", grey), tmp_path / "colour", recipe=Recipe(channels=3))
    everything = np.arange(len(block))
    for size in (8, 16):
        one, three = block.gather(size, everything), colour.gather(size, everything)
        assert one.shape == (30, size, size, 1)
        np.testing.assert_array_equal(np.repeat(one, 3, -1), three)
        np.testing.assert_array_equal(np.load(block.path / f"{size}/shard-00000.npy"), block.shards(size)[0])
    assert block.verify(watch=False) == []


@pytest.mark.slow
@pytest.mark.parametrize("looked_at", [256, 1])
@pytest.mark.parametrize("kind", ["tar", "shuffled tar.gz", "folder"])
def test_a_single_coloured_image_makes_three(
    kind: str,
    looked_at: int,
    make: Make,
    grey: Files,
    coloured: Files,
    packed: Pack,
    tree: Tree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small_shards: None,
) -> None:
    """Found at a first look, or while they are made: the same block."""
    expected = tree(make(packed("tar", grey | coloured), tmp_path / "a", recipe=Recipe(channels=3)).path)
    monkeypatch.setattr(making, "_LOOKED_AT", looked_at)
    for workers in (1, 2):
        block = make(packed(kind, grey | coloured), tmp_path / str(workers), workers=workers)
        assert block.channels == 3 and tree(block.path) == expected
        assert ("b/99.png has colours" in capsys.readouterr().err) == (looked_at == 1)


@pytest.mark.slow
def test_killed_at_any_write_it_is_the_same(
    make: Make,
    grey: Files,
    coloured: Files,
    packed: Pack,
    tree: Tree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: Callable[..., int],
    small_shards: None,
) -> None:
    """Also while it begins again in colour."""
    monkeypatch.setattr(making, "_LOOKED_AT", 1)
    source, out = packed("tar", grey | coloured), tmp_path / "data"
    expected = tree(make(source, tmp_path / "expected").path)
    kills = 0
    for write in range(1, 400, 9):
        code = killed_at(write, write % 2 == 0, lambda out=out: make(source, out))
        kills += code != 0
        if code == 0:
            break
        assert tree(make(source, out).path) == expected
        out = tmp_path / str(write)
    assert kills >= 5 and code == 0


def test_channels_that_are_asked_for(
    make: Make, images: Files, picture: Picture, encode: Encode, packed: Pack, tmp_path: Path
) -> None:
    source = packed("tar", {"a/1.png": encode(picture(1, 16, 16), "PNG")})
    block = make(source, tmp_path / "one", recipe=Recipe(channels=1), sizes=[16])
    luma = np.asarray(picture(1, 16, 16).convert("L"))
    np.testing.assert_array_equal(block.gather(16, np.arange(1))[0, ..., 0], luma)
    assert block.facts["recipe"]["luma"]
    clear = picture(1, 16, 16)
    clear.putalpha(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)))
    source = packed("tar", {"a/1.png": encode(clear, "PNG"), "a/2.png": encode(picture(2, 16, 16), "PNG")})
    block = make(source, tmp_path / "four", recipe=Recipe(channels=4), sizes=["16", "32x8"])
    first, second = block.gather(16, np.arange(2))
    np.testing.assert_array_equal(first[..., 3], np.asarray(clear)[..., 3])
    assert (first[0, 0] == [255, 255, 255, 0]).all() and (second[..., 3] == 255).all()
    np.testing.assert_array_equal(second[..., :3], np.asarray(picture(2, 16, 16)))
    assert block.gather("32x8", np.arange(2)).shape == (2, 8, 32, 4) and block.verify(watch=False) == []


@pytest.mark.slow
def test_an_update_of_a_grey_block(
    make: Make, grey: Files, coloured: Files, packed: Pack, tree: Tree, tmp_path: Path
) -> None:
    first = dict(list(grey.items())[:20])
    block = make(packed("tar", first), tmp_path / "data")
    before = tree(block.path)
    with pytest.raises(
        BlockError, match=r"b/99.png has colours, but all images of .*data are grey: prepare .*--channels"
    ):
        update(packed("tar", grey | coloured), block.path)
    assert tree(block.path) == before
    made = update(packed("tar", grey), block.path)
    assert made.added == 10 and made.block.channels == 1 and made.block.verify(watch=False) == []
    luma = make(packed("tar", first), tmp_path / "luma", recipe=Recipe(channels=1))
    assert update(packed("tar", coloured), luma.path).added == 1


def test_an_update_keeps_the_recipe(make: Make, picture: Picture, encode: Encode, packed: Pack, tmp_path: Path) -> None:
    recipe = Recipe("fast-1", orient=False, background="#102030", channels=4, bits=12, max_pixels=5000)
    block = make(packed("tar", {"a/1.png": encode(picture(1, 40, 30), "PNG")}), tmp_path / "data", recipe=recipe)
    new = {
        "a/2.jpg": encode(picture(2, 80, 60), "JPEG"),
        "a/3.png": encode(Image.new("RGBA", (20, 20)), "PNG"),
        "a/4.png": encode(picture(4, 100, 60), "PNG"),
    }
    made = update(packed("tar", new), block.path, 1, 0.5)
    assert made.block.facts["recipe"] == block.facts["recipe"]
    assert made.block.rejects()["reason"] == ["more than 5,000 pixels"]
    assert made.block.gather(16, np.array([2]))[0, 0, 0].tolist() == [0x10, 0x20, 0x30, 0]


def test_the_option_of_pixels(images: Files, packed: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "data")
    assert main(["prepare", packed("tar", images), "--out", out, "--max-pixels", "900", "--allow-rejects", "1"]) == 0
    facts = json.loads((tmp_path / "data/block.json").read_text())
    assert facts["rejected"] > 5 and facts["recipe"]["max_pixels"] == 900
    with pytest.raises(SystemExit):
        main(["prepare", packed("tar", images), "--out", out, "--channels", "2"])
    assert "--channels: must be 1, 3 or 4, not 2" in capsys.readouterr().err
