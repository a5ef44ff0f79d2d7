"""Which data set a block belongs to, over all its generations (--update)."""

import json
from pathlib import Path
from typing import Any

from genmodel.files import durable
from genmodel.output.counting import counted

TAG = "genmodel.dataset"  # of a version


def tag(block: Path) -> str:
    """What a version keeps of the data set of the block in the folder `block`, as JSON."""
    facts = json.loads((block / "block.json").read_text())
    first = facts["generations"][0]["source"]
    classes = facts["classes"]
    ledger = facts["files"].get("ledger-000.parquet", {}).get("sha256", "")
    told = {"source": first, "classes": len(classes), "names": durable.digest_json(classes)[:16], "first": ledger[:16]}
    return json.dumps(told, sort_keys=True)


def unlike(theirs: str | None, mine: str) -> str:
    """In words, how the data set of a champion differs from that of today; empty where it is the same, or not known.

    A block that grew (--update, new classes or not) begins with the same images. One that was prepared anew is the same
    data set if it has the same classes from a source of the same name.
    """
    if theirs is None:
        return ""
    old, new = json.loads(theirs), json.loads(mine)
    if _same(old, new, "first") or (_same(old, new, "source") and _same(old, new, "names")):
        return ""
    return (
        f"it was trained on another data set ({old['source']}, {counted(old['classes'], 'class')}),"
        f" and today's is {new['source']}, {counted(new['classes'], 'class')}"
    )


def _same(old: dict[str, Any], new: dict[str, Any], key: str) -> bool:
    return bool(old[key]) and old[key] == new[key]
