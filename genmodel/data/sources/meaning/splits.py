"""Folders that are splits: train, val and test, as data sets call them."""

import re
from collections.abc import Callable, Collection, Sequence

from genmodel.data.sources.meaning.accounting import Account, Image, Parts
from genmodel.data.sources.meaning.layout import Layout
from genmodel.errors import ConfigError, SourceError

_WORDS = {
    **dict.fromkeys(["train", "training", "trn"], "train"),
    **dict.fromkeys(["val", "valid", "validation", "dev"], "val"),
    **dict.fromkeys(["test", "testing"], "test"),
}
_FILLERS = {"set", "images", "image", "imgs", "img", "data", "seg", "split", "ilsvrc"}


def canonical(name: str) -> str:
    """train, val or test for the name of such a split (Training, val2017, test_set); nothing for any other name."""
    tokens = [token for token in re.split(r"[\W_\d]+", name.lower()) if token and token not in _FILLERS]
    return _WORDS.get(tokens[0], "") if len(tokens) == 1 else ""


def shared_folders(paths: Collection[Parts]) -> int:
    """How many leading folders all paths have in common."""
    if not paths:
        return 0
    count, first, last = 0, min(paths), max(paths)
    while count < min(len(first), len(last)) - 1 and first[count] == last[count]:
        count += 1
    return count


def by_split(images: list[Image], layout: Layout, account: Account) -> tuple[list[Image], str]:
    """The images of the splits that are read, and the name of the split that is held out, if the source has one.

    SourceError where splits lie among other folders, or none is the train split; ConfigError for a missing one.
    """
    if not any(image.split for image in images):
        images = _by_folder(images, layout, account.where)
    names = {image.split for image in images} - {""}
    if not names:
        if layout.split or layout.val_split:
            asked = f"--split {layout.split}" if layout.split else f"--val-split {layout.val_split}"
            raise ConfigError(f"{asked}: {account.where} has no such split, judging by its folders")
        return images, ""
    train, val = _chosen(names, layout, account.where)
    for name in sorted(names - {train, val}):
        account.ignore([image.entry.path for image in images if image.split == name], f"split {name}")
    account.ignore([image.entry.path for image in images if not image.split], "beside the splits")
    return [image for image in images if image.split and image.split in (train, val)], val


def _by_folder(images: list[Image], layout: Layout, where: str) -> list[Image]:
    """The images with the splits that their folders name."""
    paths = [image.path for image in images]
    asked = [name for name in (layout.split, layout.val_split) if name]
    level = _find(paths, where, asked, certain=bool(layout.classes))
    if level is None or (layout.way == "depth" and layout.depth == level + 1):
        return images
    result = []
    for image in images:
        parts, split = image.path, ""
        if len(parts) > level + 1:
            split, parts = parts[level], parts[:level] + parts[level + 1 :]
        result.append(image._replace(parts=parts, split=split, split_at=level if split else -1))
    return result


def _find(paths: Collection[Parts], where: str, asked: Sequence[str], certain: bool) -> int | None:
    """The level whose folders are all splits, of two kinds or more, or that has the splits `asked` for.

    Splits among other folders are a SourceError, unless the person has said what is meant and it is `certain`.
    """
    shared = shared_folders(paths)
    for level in range(shared + 2):
        names = {path[level] for path in paths if len(path) > level + 1}
        if asked:
            if any(_same(name, each) for name in names for each in asked):
                return level
            continue
        beside = next((path for path in paths if len(path) == level + 1), None)
        marked = {name for name in names if canonical(name)}
        kinds, others = {canonical(name) for name in marked}, names - marked
        if not others and beside is None:
            if len(kinds) > 1:
                return level
        elif not certain and level == shared and (kinds - {"train"} or _repeats(paths, level, marked)):
            other = min(others) if others else "/".join(beside or ())
            first = min(marked, key=lambda name: (["train", "val", "test"].index(canonical(name)), name))
            raise SourceError(
                f"{where}: {' and '.join(sorted(marked))} may be splits, but {other} lies beside them: use --split "
                f"{first} to read a split, or --classes folder if all of these folders are classes"
            )
    return None


def _same(name: str, asked: str) -> bool:
    return name.lower() == asked.lower() or (bool(canonical(asked)) and canonical(name) == canonical(asked))


def _repeats(paths: Collection[Parts], level: int, marked: Collection[str]) -> bool:
    """Whether a split has folders with the same names as folders beside it: train/bus beside bus."""
    beside = {path[level] for path in paths if len(path) > level + 1}.difference(marked)
    return any(len(path) > level + 2 and path[level] in marked and path[level + 1] in beside for path in paths)


def _chosen(names: set[str], layout: Layout, where: str) -> tuple[str, str]:
    """The split to read, and the one to hold out, or empty."""

    def asked(name: str, option: str) -> str:
        tries: list[Callable[[str], bool]] = [lambda each: each == name, lambda each: _same(each, name)]
        for fits in tries:
            if len(those := sorted(filter(fits, names))) == 1:
                return those[0]
        raise ConfigError(f"{option} {name}: {where} has the splits {', '.join(sorted(names))}")

    def only(kind: str, option: str) -> str:
        those = sorted(name for name in names if canonical(name) == kind)
        if len(those) > 1:
            raise SourceError(
                f"{where} has {' and '.join(those)}: choose one with {option}, such as {option} {those[0]}"
            )
        return those[0] if those else ""

    val = asked(layout.val_split, "--val-split") if layout.val_split else ""
    if layout.split:
        train = asked(layout.split, "--split")
    elif len(names) == 1:
        return min(names), ""
    else:
        train, val = only("train", "--split"), val or only("val", "--val-split")
    if not train or train == val:
        raise SourceError(
            f"{where} has the splits {', '.join(sorted(names))}: choose the one to read with --split NAME"
        )
    return train, val
