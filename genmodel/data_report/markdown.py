"""The report in short, as Markdown: for Prefect's page of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from genmodel.data_report import words
from genmodel.output.printable import markdown_code, markdown_text

_ROWS = 20  # classes, at most


def markdown(told: Mapping[str, Any], exceeded: Sequence[str] = (), page: str = "") -> str:
    """Text from outside is escaped. `exceeded`: limits, from words.exceeded; `page`: the path of the whole report."""
    parts = [f"**{markdown_text(words.what(told))}**"]
    parts += [f"**Stopped: {markdown_text('; '.join(exceeded))}**"] if exceeded else []
    parts += ["\n".join(f"- {markdown_text(each)}" for each in words.findings(told)) or "Nothing stands out."]
    parts += [_classes(told), _colours(told)]
    parts += [f"All of it: {markdown_code(page)}"] if page else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _classes(told: Mapping[str, Any]) -> str:
    rows = ["| class | before | new |", "| --- | ---: | ---: |"]
    for each in told["classes"][:_ROWS]:
        rows.append(f"| {markdown_text(each['name'] or '(none)')} | {each['old']:,} | {each['new']:,} |")
    if len(told["classes"]) > _ROWS:
        rest = told["classes"][_ROWS:]
        old, new = sum(each["old"] for each in rest), sum(each["new"] for each in rest)
        rows.append(f"| {len(rest):,} more | {old:,} | {new:,} |")
    return "\n".join(rows)


def _colours(told: Mapping[str, Any]) -> str:
    if not told["colours"]:
        return ""
    rows = ["| | before | new | difference | 95% interval |", "| --- | ---: | ---: | ---: | --- |"]
    for row in told["colours"]:
        for what in ("mean", "deviation"):
            found = row[what]
            cells = f"{found['old']:.1f} | {found['new']:.1f} | {found['difference']:+.2f}"
            rows.append(f"| {row['channel']}, {what} | {cells} | {found['low']:+.2f} to {found['high']:+.2f} |")
    return "\n".join(rows)
