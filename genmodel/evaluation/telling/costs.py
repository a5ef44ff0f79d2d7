"""What a training cost, for the leaderboard. Needs neither torch nor pandas."""

from collections.abc import Mapping
from typing import Any

NOT_APPLICABLE = "n/a"
COSTS = ("seconds", "gpu_hours", "kwh", "parameters", "bytes", "device")  # of the training, and of the model


def taken(cost: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a training from the cost.json of its record, which may be empty: "n/a" for what is not known.

    Seconds over all resumes; hours of all its GPUs, 0 on a CPU; kWh of the GPUs if they report it; the device.
    """
    told = {
        "seconds": cost.get("seconds"),
        "gpu_hours": _gpu_hours(cost),
        "kwh": cost.get("energy_kwh"),
        "device": cost.get("device"),
    }
    return {name: NOT_APPLICABLE if value is None else value for name, value in told.items()}


def _gpu_hours(cost: Mapping[str, Any]) -> float | None:
    if not cost:
        return None
    return 0.0 if cost["device"] == "cpu" else cost["seconds"] * cost["processes"] / 3600


def with_taken(row: Mapping[str, Any], cost: Mapping[str, Any]) -> dict[str, Any]:
    """A leaderboard row with COSTS in place of its `parameters` and `bytes`, which are two of them."""
    names = list(row)
    first = names.index("parameters") if "parameters" in row else len(names)
    known = {**row, **taken(cost)}
    order = [*names[:first], *COSTS, *names[first + 2 :]]
    return {name: known.get(name, NOT_APPLICABLE) for name in order}
