"""Folders that are classes, and those that are not: buckets of numbered images, masks beside images."""

import itertools
import re
from collections.abc import Collection, Sequence
from typing import Any

from genmodel.data.sources.meaning.accounting import Account, Image, Known, Parts, shortened
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.meaning.splits import canonical, shared_folders
from genmodel.data.sources.members import FLAT_CLASS
from genmodel.errors import SourceError
from genmodel.output.printable import printable

_IMAGES = frozenset(["images", "image", "imgs", "img", "jpegimages", "rgb"])
_MASKS = frozenset(
    ["mask", "masks", "annotation", "annotations", "label", "labels", "gt", "groundtruth", "ground_truth", "trimaps"]
) | {"segmentation", "segmentations", "segmentationclass", "segmentationobject"}
_BUCKET = 5  # the fewest digits in a bucket's name


def without_masks(images: list[Image], account: Account) -> list[Image]:
    """The images that are not in a folder of masks."""
    masks = mask_folders({image.path[:-1] for image in images})
    if not masks:
        return images
    rest: list[Image] = []
    left_out: dict[str, list[str]] = {}
    for image in images:
        mask = next((image.path[:n] for n in range(1, len(image.path)) if image.path[:n] in masks), None)
        if mask is None:
            rest.append(image)
        else:
            left_out.setdefault(mask[-1], []).append(image.entry.path)
    for name, paths in left_out.items():
        account.ignore(paths, f"masks beside the images ({name})")
    return rest


def mask_folders(folders: Collection[Parts]) -> set[Parts]:
    """The folders that hold masks: one called masks with images beside it, or train_masks beside train."""
    found: set[Parts] = set()
    every = {folder[:depth] for folder in folders for depth in range(1, len(folder) + 1)}
    for _, group in itertools.groupby(sorted(every, key=lambda path: path[:-1]), key=lambda path: path[:-1]):
        siblings = {path[-1].lower(): path for path in group}
        plain = siblings.keys() - _MASKS
        if plain and plain <= _IMAGES:
            found |= {path for name, path in siblings.items() if name in _MASKS}
        found |= {path for name, path in siblings.items() if _belongs(name, siblings)}
    return found


def _belongs(name: str, siblings: Collection[str]) -> bool:
    base, _, last = re.sub(r"[\W_]+", "_", name).rpartition("_")
    return bool(base) and last in ("mask", "masks") and base in siblings


def by_folder(
    images: list[Image], val: str, layout: Layout, known: Known | None, account: Account
) -> tuple[list[Image], dict[str, Any]]:
    """The images with the classes that their folders name, and how these were determined; a known class stays.

    SourceError where that is not certain.
    """
    if layout.way == "none" or (known and layout.way == "auto" and known.read.get("classes") == "none"):
        return [image._replace(label=FLAT_CLASS, missing="") for image in images], {"classes": "none"}
    rest = [image for image in images if image.label is None and not image.missing]
    if not rest:
        return images, {"classes": "labels"}
    if layout.way == "depth":
        return [_in_folder(image, image.path, layout.depth - 1) for image in images], {"classes": layout.classes}
    trained = [image for image in rest if not val or image.split != val] or rest
    level = _level([image.parts for image in trained], layout, known, account)
    if level is None or (layout.way == "auto" and not known and _are_buckets(trained, level, account)):
        return [_flat(image) for image in images], {"classes": "none"}
    below = {len(image.parts) - 2 - level for image in trained}
    way = {"classes": "folder"} | ({"below": below.pop()} if len(below) == 1 else {})
    return [_in_folder(image, image.parts, level) for image in images], way


def _flat(image: Image) -> Image:
    return image._replace(label=FLAT_CLASS) if image.label is None and not image.missing else image


def _in_folder(image: Image, parts: Parts, level: int) -> Image:
    """The image with the folder at a level of `parts` as its class, unless it has one."""
    if image.label is not None or image.missing:
        return image
    if len(parts) < level + 2:
        return image._replace(missing="is not in a class folder")
    removed = len(image.path) - len(parts) if 0 <= image.split_at <= level else 0
    return image._replace(label=parts[level], class_at=level + removed)


def _level(paths: Collection[Parts], layout: Layout, known: Known | None, account: Account) -> int | None:
    """The level of the class folders, the first below those that all images share; None if there are none.

    In an update it is the level of one of the block's classes, else as many levels above the images as in the block.
    """
    depths, shared = {len(path) - 1 for path in paths}, shared_folders(paths)
    deepest = max(depths)
    if known:
        for level in range(deepest):
            if any(len(path) > level + 1 and path[level] in known.classes for path in paths):
                return level
        if not deepest:
            raise SourceError(
                f"{account.where}: {shortened('/'.join(min(paths)))} is not in a class folder, as the block's "
                f"images are: use --classes FILE with a file of labels, or --classes none for one class, {FLAT_CLASS}"
            )
        level = deepest - 1 - int(known.read.get("below", deepest))
        if len(depths) == 1 and level >= 0:
            return level
    if not deepest:
        return None
    if depths == {shared}:  # all in one folder
        last = next(iter(paths))[shared - 1]
        is_class = layout.way == "folder" or not (canonical(last) or last.lower() in _IMAGES)
        return shared - 1 if is_class else None
    if layout.way == "auto" and len(depths) > 1:
        _refuse_depths(paths, shared, account.where)
    return shared


def _refuse_depths(paths: Collection[Parts], shared: int, where: str) -> None:
    shallow, deep = (pick(paths, key=lambda path: (len(path), path)) for pick in (min, max))
    names = " and ".join(printable(shortened("/".join(path))) for path in (shallow, deep))
    if len(shallow) - 1 == shared:
        raise SourceError(
            f"{where}: images lie beside class folders and inside them ({names}): use --classes folder to reject "
            "those beside, or --classes none if the folders are not classes"
        )
    raise SourceError(
        f"{where}: images lie {len(shallow) - 1} and {len(deep) - 1} folders deep ({names}): use --classes folder if "
        f"{shallow[shared]} and {deep[shared]} are classes, --classes 'depth N' if the N-th folder of each is, or "
        "--classes none"
    )


def _are_buckets(images: Sequence[Image], level: int, account: Account) -> bool:
    """Whether the folders at a level hold consecutively numbered images: 00000/00000.png (FFHQ), 00000/img00000000.png.

    SourceError if the images are numbered across all folders, but not as these tools do it: classes may be, too.
    """
    names = {image.parts[level] for image in images}
    if not all(name.isascii() and name.isdecimal() and len(name) >= _BUCKET for name in names):
        return False
    numbers = [re.findall(r"\d+", image.parts[-1].rpartition(".")[0] or image.parts[-1]) for image in images]
    if not all(numbers):
        return False
    pairs = sorted((image.parts[level], found[-1]) for image, found in zip(images, numbers, strict=True))
    step = min((b - a for a, b in itertools.pairwise(sorted(map(int, names)))), default=1000)
    as_ffhq = step > 1 and all(int(bucket) <= int(number) < int(bucket) + step for bucket, number in pairs)
    if as_ffhq or all(len(number) > len(bucket) and number.startswith(bucket) for bucket, number in pairs):
        shown = ", ".join(sorted(names)[:2])
        account.notes.append(
            f"folders called {shown} hold numbered images and are not classes (--classes folder if they are)"
        )
        return True
    spans = [[int(number) for _, number in group] for _, group in itertools.groupby(pairs, lambda pair: pair[0])]
    if len(spans) > 1 and all(max(one) < min(other) for one, other in itertools.pairwise(spans)):
        raise SourceError(
            f"{account.where}: image numbers run on from folder to folder ({'/'.join(images[0].path)}): use --classes "
            "none if the folders only split up the images, or --classes folder if they are classes"
        )
    return False
