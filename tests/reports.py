"""Reports for tests that need no model."""

from typing import Any

from genmodel.evaluation.report import Report

Numbers = dict[str, float | str | None]


def made_report(
    name: str,
    figures: Numbers,
    intervals: Any = None,
    extractor: str = "classifier",
    conditions: Any = None,
    **facts: Any,
) -> Report:
    """A report as one is read back; what is not given is the same in all."""
    told = {
        "name": name,
        "family": "vae",
        "fingerprint": "f" * 64,
        "weights": name[0] * 64,
        "recipe": name,
        "seed": 0,
        "code": "c" * 64,
        "parameters": 1234567,
        "size": 4938268,
        "conditions": {
            "extractor": {"name": extractor, "fingerprint": "e" * 64},
            "block": "b" * 64,
            "split": "train",
            "image_size": 16,
            "resize": "adm-1",
            "n_real": 1600,
            "n_held_out": 0,
            "n_samples": 1000,
            "importance_samples": 64,
            "seed": 0,
            **(conditions or {}),
        },
        "figures": figures,
        "intervals": intervals or {},
        "memorisation": None,
        "health": [],
        **facts,
    }
    return Report.from_dict(told, name)
