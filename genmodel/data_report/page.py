"""The report as one self-contained HTML page, light and dark: limits, findings, classes, images, colours, originals."""

import base64
import importlib.resources
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genmodel.data_report import words
from genmodel.data_report.drift import BINS
from genmodel.files import durable
from genmodel.output.printable import printable
from genmodel.showing.grids import grid, zoom_of

_SHOWN = 40  # images of each side
_COLUMNS = 8
_ROWS = 40  # classes that are shown at once, those with most new images; the others are folded
_SIDE = 96  # pixels: larger images are thinned out
_WIDTH, _HEIGHT = 320, 110  # of a histogram


def write_page(
    path: Path,
    told: Mapping[str, Any],
    old: NDArray[np.uint8] | None,
    new: NDArray[np.uint8],
    exceeded: Sequence[str] = (),
) -> None:
    """Write the page of a report, with some of the images uint8 [N, H, W, C] of both sides.

    `exceeded` are limits, from words.exceeded. Equal arguments give equal bytes.
    """
    from jinja2 import Environment  # torch installs it

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        importlib.resources.files(__package__).joinpath("page.html.j2").read_text("utf-8")
    )
    rows = [each | {"name": printable(each["name"])} for each in told["classes"]]
    rows.sort(key=lambda each: -each["new"])
    shown = template.render(
        told=told,
        what=printable(words.what(told)),
        exceeded=[printable(each) for each in exceeded],
        findings=[printable(each) for each in words.findings(told)],
        classes=rows[:_ROWS],
        more_classes=rows[_ROWS:],
        largest=max((max(each["old"], each["new"]) for each in rows), default=0),
        pictures={name: _picture(images) for name, images in (("before", old), ("new", new)) if _some(images)},
        histograms=[(row["channel"], *_outlines(row["histogram"])) for row in told["colours"]],
        chart=(_WIDTH, _HEIGHT),
        originals=list(_originals(told["old"], told["new"])),
        duplicates=words.duplicates_in_words(told["duplicates"]),
        words=words,
        plain=printable,
    )
    durable.write_text(path, shown)


def _originals(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What is known of the originals, before (empty without old images) and new."""
    rows = {"images": "images", "val": "of these in the val split", "smaller": "smaller than the largest size"}
    for key, name in rows.items():
        yield name, f"{old[key]:,}" if old else "", f"{new[key]:,}"
    for side in ("width", "height"):
        before, after = (", ".join(map(str, each[side])) if each else "" for each in (old, new))
        yield f"{side} in pixels: smallest, quartiles, largest", before, after
    for kind in ("modes", "formats"):
        counts, fresh = old[kind] if old else {}, new[kind]
        for name in {**fresh, **counts}:
            yield f"{kind[:-1]} {printable(name)}", f"{counts.get(name, 0):,}", f"{fresh.get(name, 0):,}"


def _some(images: NDArray[np.uint8] | None) -> bool:
    return images is not None and len(images) > 0


def _picture(images: NDArray[np.uint8] | None) -> str:
    """Some of the images, evenly spaced, as a PNG in base64."""
    assert images is not None
    count = min(_SHOWN, len(images))
    chosen = torch.from_numpy(images[np.arange(count) * len(images) // count])
    step = max(1, max(chosen.shape[1:3]) // _SIDE)
    chosen = chosen[:, ::step, ::step]
    buffer = io.BytesIO()
    grid(chosen, min(_COLUMNS, count), zoom=zoom_of(chosen)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _outlines(histogram: Mapping[str, Sequence[float]]) -> list[str]:
    """The steps of both histograms, to one scale, as the points of polylines."""
    top = max(max(shares) for shares in histogram.values()) or 1
    return [_outline([share / top for share in histogram[side]]) for side in ("old", "new")]


def _outline(heights: Sequence[float]) -> str:
    ends = [(place + side, _HEIGHT * (1 - height)) for place, height in enumerate(heights) for side in (0, 1)]
    return " ".join(f"{_WIDTH * x / BINS:.1f},{y:.1f}" for x, y in ends)
