"""Labels, as the files beside the images give them."""

from typing import Any

from genmodel.output.printable import is_printable

_MAX_CLASS = 200  # characters of a class's name
UNLABELLED = "-1"


def class_name(label: Any) -> str | None:
    """A label, a whole number or a name, as a class's name; "" for -1, no label; None if it is neither."""
    if isinstance(label, bool) or not isinstance(label, int | str):
        return None
    if isinstance(label, str) and len(label) > 10 * _MAX_CLASS:
        return None
    text = " ".join(str(label).split()).replace("/", "_")
    if text == UNLABELLED:
        return ""
    if not text or text.startswith("-") or text in (".", "..") or len(text) > _MAX_CLASS or not is_printable(text):
        return None
    return str(int(text)) if text.lstrip("+").isdecimal() else text  # 07 and 7 are one class
