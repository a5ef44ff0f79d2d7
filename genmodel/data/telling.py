"""A block in words: what it holds, and what was done to the images to make them fit."""

from collections.abc import Mapping

import numpy as np

from genmodel.data.block import UNLABELLED, Block
from genmodel.output.counting import counted

CLASSES = 20  # listed one by one, at most
_CHANNELS = {1: "grey", 3: "RGB", 4: "RGBA"}


def in_a_line(block: Block) -> str:
    """How many images in how many classes, at which sizes; then what is special about this block."""
    classes, sizes = counted(len(block.classes), "class"), ", ".join(map(str, block.sizes))
    line = f"{counted(len(block), 'image')} in {classes} at {sizes} px, {_CHANNELS[block.channels]}"
    facts = {"by-exif": 0, "same": 0, "transparent": 0}
    for generation in block.facts["generations"]:
        facts = {what: count + generation.get(what, 0) for what, count in facts.items()}
    recipe = block.facts.get("recipe", {})
    upright = "turned upright" if recipe.get("orient") else "left as stored"
    shown = "with alpha" if block.channels == 4 else f"composited on {recipe.get('background')}"
    kept = "kept, all in one split" if recipe.get("duplicates") != "drop" else "dropped"
    told = {
        f"rotated by EXIF, {upright}": facts["by-exif"],
        f"transparent, {shown}": facts["transparent"],
        f"identical to another, {kept}": facts["same"],
    }
    return "; ".join([line, *(f"{count:,} {what}" for what, count in told.items() if count)])


def class_lines(block: Block) -> list[str]:
    """A line for each class with its number of images, in the order of their labels."""
    numbers = np.bincount(block.labels[block.labels != UNLABELLED], minlength=len(block.classes))
    return listed(dict(zip(block.classes, numbers.tolist(), strict=True)), int((block.labels == UNLABELLED).sum()))


def listed(counts: Mapping[str, int], unlabelled: int) -> list[str]:
    """Classes with their numbers of images, the first CLASSES one by one."""
    names = list(counts)
    lines = [f"  {name}  {counts[name]:,}" for name in names[:CLASSES]]
    if len(names) > CLASSES:
        rest = [counts[name] for name in names[CLASSES:]]
        lines.append(f"  and {counted(len(rest), 'more class')} of {min(rest):,} to {counted(max(rest), 'image')}")
    return [*lines, *([f"  without a label  {unlabelled:,}"] if unlabelled else [])]
