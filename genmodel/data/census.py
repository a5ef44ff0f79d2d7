"""The census of a block's raw images: how many were CMYK, actually PNG, rotated, ..., counted from its ledger."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from genmodel.data.block import Block
from genmodel.output.printable import printable

# the format that an extension promises; any other promises nothing
_PROMISED = {"jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP"}
_PROMISED |= {"tif": "TIFF", "tiff": "TIFF", "webp": "WEBP", "ppm": "PPM", "pgm": "PPM", "pbm": "PPM", "pnm": "PPM"}
_MODES = {
    "greyscale": {"L", "LA", "1", "I", "I;16", "I;16B", "I;16L"},
    "CMYK": {"CMYK"},
    "other colour spaces (YCbCr, Lab, HSV)": {"YCbCr", "LAB", "HSV"},
    "palette": {"P", "PA"},
}
_ALPHA = {"RGBA", "LA", "PA", "La", "RGBa"}
_REPAIRS = {
    "16-bit, scaled to 8": "16-bit",
    "16-bit, with fewer significant bits, scaled to 8": "declared-bits",
    "corrupt EXIF": "corrupt-exif",
    "rotated by EXIF, left as stored": "exif-rotated",
    "rotated by EXIF, turned upright": "exif-upright",
    "transparent, composited on the background": "composed",
    "transparent, kept as alpha": "alpha",
    "animated, first frame used": "first-frame",
}


class Count(NamedTuple):
    """A line of the census."""

    what: str
    images: int
    share: float  # of all images, rejected ones included; for ignored files: of all files
    example: str  # the first such image's name


def count(block: Block) -> list[Count]:
    """The census, in a fixed order: what was accepted as it was or repaired, the sizes, what was rejected and why."""
    ledger, rejects = block.ledger(), block.rejects()
    names = ledger["name"]
    total = max(1, len(names) + len(rejects["name"]))

    def line(what: str, places: Sequence[int] | np.ndarray, among: Sequence[str] = names) -> Count:
        return Count(
            printable(what), len(places), len(places) / total, printable(among[places[0]]) if len(places) else ""
        )

    def where(column: str, values: set[str]) -> list[int]:
        return [place for place, value in enumerate(ledger[column]) if value in values]

    lines = [line("accepted", range(len(names)))]
    lines += [line(f"format {form}", where("format", {form})) for form in sorted(set(ledger["format"]))]
    lines += [line(what, places) for what, places in _misnamed(names, ledger["format"]).items()]
    alpha = "alpha" if block.facts["format"] > 2 else "alpha, dropped"
    lines += [line(what, where("mode", modes)) for what, modes in (_MODES | {alpha: _ALPHA}).items()]
    repairs = [set(text.split(",")) for text in ledger["repairs"]]
    for what, repair in _REPAIRS.items():
        lines.append(line(what, [place for place, noted in enumerate(repairs) if repair in noted]))
    lines.append(line("repaired in any way", [place for place, noted in enumerate(repairs) if noted != {""}]))
    lines.append(line("bytes that occur more than once", _repeated(ledger["sha256"])))
    if "pixels" in ledger:
        lines.append(line("pixels that occur more than once", _repeated(ledger["pixels"])))
    width, height = ledger["width"], ledger["height"]
    short = np.minimum(width, height)
    for size in block.sizes:
        what = f"short side below {size} px" if size.is_square else f"smaller than {size} px"
        lines.append(line(what, np.flatnonzero((width < size.width) | (height < size.height))))
    lines.append(line("longer than 3:1", np.flatnonzero(np.maximum(width, height) > 3 * short)))
    lines += [line(f"{width_} x {height_} px", places) for (width_, height_), places in _common(width, height)]
    lines.append(line("rejected", range(len(rejects["name"])), rejects["name"]))
    for reason, places in _grouped([without_numbers(reason) for reason in rejects["reason"]]).items():
        lines.append(line(f"rejected: {reason}", places, rejects["name"]))
    return lines + _accounts(block)


def _accounts(block: Block) -> list[Count]:
    """All files of the sources, and those that are not images, by the rule that left them out."""
    generations = [facts for facts in block.facts["generations"] if "found" in facts]  # format 2 does not have it
    found = max(1, sum(facts["found"] for facts in generations))
    rules: dict[str, tuple[int, str]] = {"already in the block": (sum(facts["known"] for facts in generations), "")}
    for facts in generations:
        for rule, each in facts["ignored"].items():
            before, example = rules.get(f"ignored: {rule}", (0, each["example"]))
            rules[f"ignored: {rule}"] = before + each["files"], example
    lines = [Count("files found", sum(facts["found"] for facts in generations), 1.0, "")]
    lines += [
        Count(printable(rule), files, files / found, example) for rule, (files, example) in rules.items() if files
    ]
    return lines if generations else []


def _misnamed(names: Sequence[str], formats: Sequence[str]) -> dict[str, list[int]]:
    """The indexes of images whose extension promises a different format."""
    found: dict[str, list[int]] = {}
    for place, (name, form) in enumerate(zip(names, formats, strict=True)):
        promised = _PROMISED.get(name.rpartition(".")[2].lower(), form)
        if promised != form:
            found.setdefault(f"{form} named as {promised}", []).append(place)
    return dict(sorted(found.items())) or {"named as another format": []}


def _repeated(digests: Sequence[str]) -> list[int]:
    occurrences = Counter(digests)
    return [place for place, digest in enumerate(digests) if occurrences[digest] > 1]


def _common(width: np.ndarray, height: np.ndarray, most: int = 5) -> list[tuple[tuple[int, int], np.ndarray]]:
    """The most frequent sizes and the indexes of the images that have them."""
    counted = Counter(zip(width.tolist(), height.tolist(), strict=True))
    sizes = sorted(counted, key=lambda size: (-counted[size], size))[:most]
    return [(size, np.flatnonzero((width == size[0]) & (height == size[1]))) for size in sizes]


def _grouped(texts: Sequence[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        groups.setdefault(text, []).append(place)
    return dict(sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])))


def without_numbers(reason: str) -> str:
    """A reason without the numbers or the name of another image in it."""
    reason = re.sub(r"^(the same image as ).*?(, under another class)?$", r"\1another\2", reason)
    return re.sub(r"(?<![A-Z\d])\d[\d,]*", "N", reason)  # JPEG2000 is a name


def as_table(rows: Sequence[Count]) -> str:
    """Aligned columns for reading, one line per row."""
    width = max(len(row.what) for row in rows)
    head = f"{'':{width}}  {'images':>10}  {'share':>8}  for example"
    lines = [f"{row.what:{width}}  {row.images:>10,}  {row.share:>8.3%}  {row.example}" for row in rows]
    return "\n".join(line.rstrip() for line in [head, *lines]) + "\n"


def as_csv(rows: Sequence[Count]) -> str:
    """The columns what, images, share, example."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([Count._fields, *rows])
    return text.getvalue()
