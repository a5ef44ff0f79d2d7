"""The model card: what a registered model is for, what it was made from, what is known about it. Pure: text out.

After Mitchell et al. 2019, Model Cards for Model Reporting.
"""

from collections.abc import Mapping
from typing import Any

from genmodel.evaluation import table
from genmodel.evaluation.report import Report
from genmodel.output.printable import markdown_code, markdown_text
from genmodel.sizes import Size, shape_text

_NOT_STATED = "not stated"
_NOT_MEASURED = "Not measured: no images were held out to compare with."
_INTENDED = (
    "Draws images like those in its data, for research into image generators and for comparison with other models of"
    " the same line. Its samples are not photographs and say nothing true about anyone or anything; they share the"
    " gaps and biases of the data."
)


def model_card(
    about: Mapping[str, Any],
    report: Report,
    *,
    data: Mapping[str, Any],
    cost: Mapping[str, Any],
    licence: str | None = None,
    picture: str | None = None,
) -> str:
    """Markdown from a finished model's config.json (`about`) and its report.

    `data` and `cost` are named facts, listed as they are; `picture` is the address of a sample grid, or a data: URI.
    """
    config, conditions, extractor = about["config"], report.conditions, report.conditions.extractor
    shape = shape_text(Size.of(config["image_size"]), about.get("channels", 3))
    learnt = f", {extractor.accuracy_in_words}" if extractor.accuracy_in_words else ""
    judged = f"{conditions.n_samples} samples against {conditions.n_real} real images"
    parts = [
        f"# {markdown_text(about['name'])}: a {config['family']} of {shape}",
        f"Weights `{about['weights'][:16]}`, training `{about['fingerprint'][:16]}`.",
        "## Intended use",
        _INTENDED,
        "## Data",
        _facts({**data, "licence": licence or _NOT_STATED}),
        "## Figures",
        _figures(report),
        f"{judged}, extractor {extractor.name} `{extractor.fingerprint[:8]}`{learnt}.",
        "## Samples",
        f"![samples]({picture})" if picture else "No sample grid was kept.",
        "## Memorisation",
        report.memorisation.verdict if report.memorisation else _NOT_MEASURED,
        *(["## Health", "\n".join(f"- {finding}" for finding in report.health)] if report.health else []),
        "## Cost",
        _facts(cost) if cost else "Not known: the record of its training is on another machine.",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(facts: Mapping[str, Any]) -> str:
    """Text from outside (a source's name, a licence) is shown literally; a digest is shown as code."""
    return "\n".join(
        f"- {name}: {markdown_code(str(value)) if name == 'digest' else markdown_text(_word(value))}"
        for name, value in facts.items()
    )


def _figures(report: Report) -> str:
    """A row per figure: value, the interval if known, which direction is better."""
    rows = ["| figure | value | interval | better |", "| --- | ---: | --- | --- |"]
    for name, figure in table.in_order([report.conditions.extractor.name]).items():
        if name in report.figures:
            value, ends = report.figures[name], report.intervals.get(name)
            span = f"[{', '.join(map(figure.show, ends))}]" if ends else "n/a"
            rows.append(f"| {name} | {'n/a' if value is None else figure.show(value)} | {span} | {figure.better} |")
    return "\n".join(rows)


def _word(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
