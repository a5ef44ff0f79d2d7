"""What changed between two comparisons: data, settings, code, figures. Pure: two states in, sentences out."""

from collections.abc import Iterator, Mapping
from typing import Any

from genmodel.evaluation import table
from genmodel.evaluation.report import Report

State = Mapping[str, Any]  # of `state`, as JSON keeps it
_LISTED = 12  # changes of a kind, at most


def state(reports: list[Report], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a comparison was made from, as JSON: `settings` is each model's configuration, by its name."""
    models = {
        report.name: {
            "settings": dict(sorted(_flat(settings.get(report.name, {})))),
            "code": report.code,
            "figure": report.ranks_by,
            "value": str(report.distance),  # it may be NaN, which JSON has not
            "weights": report.weights,
        }
        for report in sorted(reports, key=lambda report: report.name)
    }
    conditions = reports[0].conditions.as_dict()
    return {"data": reports[0].conditions.block, "judged": dict(_flat(conditions)), "models": models}


def changes(before: State, now: State) -> dict[str, list[str]]:
    """What is different, by kind (data, models, settings, judging, code, figures); a kind without changes is left out.

    Figures that were made under other conditions are not compared.
    """
    old, new = before["models"], now["models"]
    both = [name for name in new if name in old]
    found = {
        "data": [f"{before['data'][:8]} → {now['data'][:8]}"] if before["data"] != now["data"] else [],
        "models": [f"{name} is new" for name in new if name not in old]
        + [f"{name} is gone" for name in old if name not in new],
        "settings": [
            f"{name}: {told}" for name in both for told in _differences(old[name]["settings"], new[name]["settings"])
        ],
        "judging": [
            told for told in _differences(before["judged"], now["judged"]) if not told.startswith(("block ", "n_"))
        ],
        "code": [
            f"{name}: {old[name]['code'][:8]} → {new[name]['code'][:8]}"
            for name in both
            if old[name]["code"] != new[name]["code"]
        ],
        "figures": list(_figures(before, now, both)),
    }
    return {kind: _short(told) for kind, told in found.items() if told}


def _figures(before: State, now: State, both: list[str]) -> Iterator[str]:
    old, new = before["models"], now["models"]
    if before["judged"] != now["judged"]:
        yield "those before were made under other conditions, and do not compare"
        return
    for name in both:
        one, other = float(old[name]["value"]), float(new[name]["value"])
        if old[name]["value"] != new[name]["value"]:
            show = table.show_number
            better = "better" if other < one else "worse"
            yield f"{name}: {new[name]['figure']} {show(one)} → {show(other)}, {better}"
        elif old[name]["weights"] != new[name]["weights"]:
            yield f"{name}: other weights, the same {new[name]['figure']}"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *now}):
        one, other = (_word(told.get(key)) for told in (before, now))
        if one != other:
            yield f"{key} {one} → {other}"


def _word(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return f"{text[:8]}…" if len(text) == 64 else text  # a digest


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of nested settings."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _short(told: list[str]) -> list[str]:
    rest = len(told) - _LISTED
    return told if rest <= 0 else [*told[:_LISTED], f"and {rest} more"]
