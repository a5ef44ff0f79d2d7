"""Pictures of a finished model's noise on request: a walk between two samples, and codes swept over their range.

Each is a PNG with the frames side by side, and a GIF of the same name, which goes there and back.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from genmodel.errors import ConfigError
from genmodel.files import durable
from genmodel.models.contract import Family
from genmodel.models.noise import image_seeds
from genmodel.sampling.draw import Networks
from genmodel.sampling.load import load_model
from genmodel.sampling.sweeps import Code, Meaning, codes_of
from genmodel.sampling.walks import between
from genmodel.showing.grids import grid, save_grid, zoom_of
from genmodel.showing.pictures import label_of
from genmodel.showing.samples import CLASSES

_FRAME_MS = 80  # of a GIF
_MOST = 1000  # frames
_CODES = 10  # that are swept if none is asked for
_MEASURED = 32  # images that a code's meaning is the mean of
_MARGIN = 72  # pixels, for a code's number


def save_walk(
    folder: Path, out: Path, ends: tuple[int, int], frames: int, seed: int, label: str | None, device: str
) -> str:
    """Draw the walk between two samples of the model in `folder`, numbers `ends` of `seed`; returns what it shows.

    `label` is a class by name or number; without it a conditional model draws a row for each of the first CLASSES.
    """
    _check(out, frames)
    for name, number in zip(("--from", "--to"), ends, strict=True):
        if not 0 <= number < 2**53:
            bound = "at least 0" if number < 0 else "below 2**53"
            raise ConfigError(f"{name}: is the number of a sample, {bound}, not {number}")
    model, about = _walkable(folder, device)
    names = [str(name) for name in about["classes"]] if model.classes else []
    labels = [label_of(folder, names, label)] if label is not None else list(range(len(names[:CLASSES])))
    images = walk(model, ends, frames, seed, labels)
    save_grid(out, images, frames)
    gif = _save_gif(out, images.unflatten(0, (-1, frames)).transpose(0, 1))
    return f"{out}, {gif}: {frames} frames from sample {ends[0]} to sample {ends[1]} of seed {seed}"


def walk(model: Family, ends: tuple[int, int], frames: int, seed: int, labels: Sequence[int] = ()) -> Tensor:
    """The frames of a walk between two samples of `seed`, uint8 [frames, H, W, C], once for each of `labels`."""
    start, end = (torch.from_numpy(model.space.draw(image_seeds(seed, 1, number)))[0] for number in ends)
    codes = between(model.space, start, end, frames)
    if labels:
        codes = torch.cat([torch.cat([codes, torch.full((frames, 1), float(each))], dim=1) for each in labels])
    return Networks(model, "", "").draw(codes)[0].cpu()


def save_sweeps(
    folder: Path, out: Path, asked: Sequence[int], n: int, frames: int, seed: int, label: str | None, device: str
) -> list[str]:
    """Draw codes of the model in `folder`, each swept in the first `n` samples of `seed`; returns a table of them."""
    _check(out, frames)
    if not 1 <= n <= 64:
        raise ConfigError(f"-n: must be between 1 and 64, not {n}")
    model, about = _walkable(folder, device)
    known = codes_of(model.space)
    for number in asked:
        if not 0 <= number < len(known):
            raise ConfigError(f"--code: {folder}: it has no code {number}: its {len(known)} are numbered from 0")
    names = [str(name) for name in about["classes"]] if model.classes else []
    labels = None if label is None else label_of(folder, names, label)
    chosen = [known[number] for number in asked] or known[:_CODES]
    swept, lines = [], [f"{'code':>4}  {'kind':<11}  {'change':>6}  {'evenness':>8}"]
    for code, images, meaning in sweeps(model, chosen, frames, seed, labels, max(n, _MEASURED)):
        swept.append(images[:n])
        lines.append(f"{code.column:>4}  {code.part.kind:<11}  {meaning.change:>6.1f}  {meaning.evenness:>8.2f}")
    page = _page(chosen, swept)
    durable.write_with(out, lambda handle: page.save(handle, format="PNG"))
    ticks = [torch.cat([images[:, place * images.shape[1] // frames] for images in swept]) for place in range(frames)]
    gif = _save_gif(out, torch.stack(ticks), columns=n)
    return [*lines, f"{out}, {gif}: a code below the other, each in {n} samples of seed {seed}"]


def sweeps(
    model: Family, chosen: Sequence[Code], frames: int, seed: int, label: int | None = None, n: int = _MEASURED
) -> list[tuple[Code, Tensor, Meaning]]:
    """Codes, each with the images of its sweep in `n` samples, uint8 [n, F, H, W, C], and what it does to them."""
    source = Networks(model, "", "", [1.0] * model.classes)
    base, found = source.codes(n, seed, label), []
    for code in chosen:
        codes = code.sweep(base, frames)
        images = source.draw(codes.flatten(0, 1))[0].cpu().unflatten(0, codes.shape[:2])
        found.append((code, images, Meaning.of(code.steps(images))))
    return found


def _walkable(folder: Path, device: str) -> tuple[Family, dict[str, Any]]:
    model, about = load_model(folder, device)
    if not model.space.meaningful:
        raise ConfigError(f"{folder}: it draws pixel after pixel, so that there is nothing between two of its images")
    return model, about


def _check(out: Path, frames: int) -> None:
    if out.suffix.lower() == ".gif":
        raise ConfigError(f"--out: {out}: the picture is a PNG, and the GIF of that name is written beside it")
    if not 2 <= frames <= _MOST:
        raise ConfigError(f"--frames: must be between 2 and {_MOST}, not {frames}")


def _page(chosen: Sequence[Code], swept: Sequence[Tensor]) -> Image.Image:
    """The sweeps below each other, each a row a sample, with the number of its code before it."""
    rows = [grid(images.flatten(0, 1), images.shape[1], zoom=zoom_of(images)) for images in swept]
    size = _MARGIN + max(row.width for row in rows), sum(row.height for row in rows)
    page, top = Image.new(rows[0].mode, size, "white"), 0
    pen = ImageDraw.Draw(page)
    for code, row in zip(chosen, rows, strict=True):
        page.paste(row, (_MARGIN, top))
        middle = (_MARGIN - 8, top + row.height / 2)
        pen.text(middle, f"code {code.column}", fill="black", anchor="rm", font_size=15)
        top += row.height
    return page


def _save_gif(out: Path, images: Tensor, columns: int | None = None) -> Path:
    """Write uint8 [frames, N, H, W, C] as an animation there and back, beside `out`; returns its path."""
    pages = [grid(some, columns, zoom=zoom_of(some)).convert("P") for some in images]
    path, (first, *rest) = out.with_suffix(".gif"), [*pages, *pages[-2:0:-1]]
    animated = {"save_all": True, "append_images": rest, "duration": _FRAME_MS, "loop": 0}
    durable.write_with(path, lambda handle: first.save(handle, format="GIF", **animated))
    return path
