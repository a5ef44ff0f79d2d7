"""The image and label columns of a table, as the Hugging Face hub's data sets name them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genmodel.errors import SourceError

_IMAGES = "image", "img", "jpg", "png", "images"
_LABELS = "label", "labels", "cls", "class", "fine_label"


class Columns(NamedTuple):
    """Column names; empty if there is none."""

    image: str
    is_struct: bool  # of bytes and a path
    has_path: bool
    is_list: bool  # of images, any number a row
    label: str
    others: Sequence[str]  # columns of images that are not used

    @property
    def parts(self) -> tuple[str, str]:
        """The columns of bytes and of paths, for images that are not lists, in a table whose structs are flattened."""
        if not self.is_struct:
            return self.image, ""
        return f"{self.image}.bytes", f"{self.image}.path" if self.has_path else ""

    def content(self, row: Any, item: int) -> bytes | None:
        """An image's bytes, from a row as a Python object."""
        value = (row or [])[item] if self.is_list else row
        found = (value or {}).get("bytes") if self.is_struct else value
        return found if isinstance(found, bytes) else None


def columns_of(schema: Any, path: Path) -> Columns:
    """The columns of a pyarrow schema; SourceError if none has images, or labels are neither numbers nor names."""
    import pyarrow as pa

    label = next((name for name in _LABELS if name in schema.names), "")
    if label and pa.types.is_nested(schema.field(label).type):
        raise SourceError(f"{path}: its column {label} holds {schema.field(label).type}, not whole numbers or names")
    found: list[Columns] = []
    for name in dict.fromkeys([*(name for name in _IMAGES if name in schema.names), *schema.names]):
        kind = schema.field(name).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if is_list:
            kind = kind.value_type
        is_struct = pa.types.is_struct(kind)
        inside = {field.name: field.type for field in kind if not pa.types.is_nested(field.type)} if is_struct else {}
        bytes_kind = inside.get("bytes") if is_struct else kind
        if bytes_kind is not None and (pa.types.is_binary(bytes_kind) or pa.types.is_large_binary(bytes_kind)):
            found.append(Columns(name, is_struct, "path" in inside, is_list, label, ()))
    if not found:
        raise SourceError(
            f"{path} has no column of images (bytes, or a struct with bytes), only {', '.join(schema.names)}"
        )
    return found[0]._replace(others=[each.image for each in found[1:]])
