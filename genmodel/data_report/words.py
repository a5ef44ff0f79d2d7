"""What a report says, in sentences: what stands out, and which limits are exceeded. Plain text: callers escape it."""

from collections.abc import Mapping, Sequence
from typing import Any

from genmodel.output.counting import counted
from genmodel.settings.config import DataConfig

_NAMED = 5  # classes, at most, in a sentence


def what(told: Mapping[str, Any]) -> str:
    """What is compared with what."""
    new, old = counted(told["new"]["images"], "image"), told["old"]
    if old is None:
        return f"{new} from {told['source']}; there are none to compare them with"
    before = counted(old["images"], "image")
    if told["remade"]:
        return f"{new} made anew from {told['source']}, against the {before} that they replace"
    return f"{counted(told['new']['images'], 'new image')} from {told['source']}, against the {before} before them"


def findings(told: Mapping[str, Any]) -> list[str]:
    """What stands out, as sentences; an empty list where nothing does."""
    old, new, said = told["old"], told["new"], []
    if old:
        fresh = [each["name"] for each in told["classes"] if each["name"] and not each["old"]]
        said += [f"{counted(len(fresh), 'new class')}: {_listed(fresh)}."] if fresh else []
        if absent := missing(told):
            said.append(f"{counted(len(absent), 'class')} without a new image: {_listed(absent)}.")
        for row in told["colours"]:
            if row["distance"]["low"] > row["distance"]["chance"]:
                said.append(f"{row['channel'].capitalize()} has moved: {distance_in_words(row['distance'])}.")
        found = told["features"]
        if found and found["low"] > found["chance"]:
            said.append(f"The images have drifted: {drift_in_words(found)}.")
    twice = told["duplicates"]
    if twice["within"] + twice["across"] + twice["left_out"]:
        said.append(f"Duplicates: {duplicates_in_words(twice)}.")
    if twice["leaked"]:
        said.append(f"{counted(twice['leaked'], 'train image')} equal to an image of the val split.")
    if told["rejects"]["files"]:
        first = told["rejects"]["reasons"][0]
        share = f"{told['rejects']['share']:.2%}"
        said.append(f"{counted(told['rejects']['files'], 'reject')} ({share}), mostly: {first['reason']}.")
    if new["smaller"]:
        said.append(f"{new['smaller']:,} smaller than {told['largest']} px, and enlarged.")
    return said


def missing(told: Mapping[str, Any]) -> list[str]:
    """The classes that have old images and no new ones."""
    return [each["name"] for each in told["classes"] if each["name"] and each["old"] and not each["new"]]


def distance_in_words(found: Mapping[str, float]) -> str:
    return (
        f"histograms {found['difference']:.2f} levels apart ({found['low']:.2f} to {found['high']:.2f}), by chance "
        f"up to {found['chance']:.2f}"
    )


def drift_in_words(found: Mapping[str, Any]) -> str:
    return f"{found['drift']:.3f} ({found['low']:.3f} to {found['high']:.3f}), by chance up to {found['chance']:.3f}"


def duplicates_in_words(twice: Mapping[str, Any]) -> str:
    parts = {
        "equal to an older image": twice["across"],
        "of these to one of the val split": twice["of_val"],
        "equal to another new one": twice["within"],
        "left out as duplicates": twice["left_out"],
    }
    return ", ".join(f"{count:,} {words}" for words, count in parts.items() if count) or "none"


def exceeded(told: Mapping[str, Any], limits: DataConfig, allowed: float = 0.0) -> list[str]:
    """The limits that the new images exceed, each as a phrase with its setting. `allowed`: the share of rejects that
    the preparation was told to allow (--allow-rejects), which counts if it is larger."""
    said = []
    most = max(limits.max_rejects, allowed)
    if (share := told["rejects"]["share"]) > most and told["rejects"]["files"] > 1:
        said.append(f"{share:.2%} of the new files were rejected (data.max_rejects is {most:g})")
    if (share := told["duplicates"]["share"]) > limits.max_duplicates:
        said.append(f"{share:.2%} of the new images are duplicates (data.max_duplicates is {limits.max_duplicates:g})")
    if told["old"] and (gone := missing(told)):
        if told["remade"] and limits.keep_classes:
            said.append(f"{counted(len(gone), 'class')} gone: {_listed(gone)} (data.keep_classes is true)")
        if not told["remade"] and limits.every_class:
            said.append(
                f"{counted(len(gone), 'class')} without a new image: {_listed(gone)} (data.every_class is true)"
            )
    found, bound = told["features"], limits.max_drift
    if bound is not None and found and found["low"] > bound:
        said.append(f"the images have drifted by {drift_in_words(found)} (data.max_drift is {bound:g})")
    return said


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest
