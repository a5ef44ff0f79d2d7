"""The leaderboard as one self-contained HTML page: tables, sample grids inside, light and dark, sortable."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genmodel import durable
from genmodel.evaluation.features import figure_names
from genmodel.evaluation.leaderboard import Reports, leaderboard, show, split_by_conditions

_BITS = "bits per colour value of the val images, an upper bound: lower is better; 8 says nothing, n/a for GANs"
_MEANINGS = {
    "precision": "share of the samples among the real images: higher is better",
    "recall": "share of the real images among the samples: higher is better",
    "density": "how deep samples lie among the real images, about 1 if equal",
    "coverage": "share of the real images with a sample next to them: higher is better",
    "pair_ms_ssim": "MS-SSIM within pairs of samples: high where samples are alike",
    "copied": "share of the samples that copy a training image",
    "bits_per_dim": f"{_BITS}; from one sample of z",
    "bits_per_dim_iw": f"{_BITS}; importance-weighted, not to be set beside the former",
    "psnr": "decibels between the val images and their reconstructions: higher is better",
    "ssim": "structural similarity of the val images and their reconstructions: higher is better",
}


def write_page(reports: Reports, models: Path, out: Path) -> None:
    """Write the page of all `reports`, with the last sample grid of each from models/NAME/samples where there is one.

    Equal reports and pictures give equal bytes.
    """
    from jinja2 import Environment  # torch brings it

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_TEMPLATE)
    groups = [_group(group) for group in split_by_conditions(reports)]
    ranked = [row["model"] for group in groups for row in group["rows"]]
    durable.write_text(out, template.render(groups=groups, pictures=list(_pictures(models, ranked)), show=show))


def _group(reports: Reports) -> dict[str, Any]:
    """What the template needs of reports with equal conditions."""
    conditions = reports[0]["conditions"]
    names = figure_names(conditions["extractor"]["name"])
    figures = {
        names.frechet: "Fréchet distance between the features of samples and real images: lower is better, 0 if equal",
        names.frechet_at_infinity: "the same, extrapolated to infinitely many samples",
        names.kernel: "kernel distance (unbiased MMD²) between the same features: lower is better, about 0 if equal",
        names.inception_score: "Inception score of the extractor's classes, sure and varied: higher is better",
        **_MEANINGS,
    }
    frame = leaderboard(reports)
    figures = {name: meaning for name, meaning in figures.items() if name in frame}
    return {
        "conditions": conditions,
        "figures": figures,
        "columns": ["rank", "model", "family", *figures],
        "rows": [dict(zip(frame, values, strict=True)) for values in frame.itertuples(index=False)],
    }


def _pictures(models: Path, names: list[str]) -> Iterator[dict[str, str]]:
    for name in names:
        grids = sorted((models / name / "samples").glob("*.png"))
        if grids:
            data = base64.b64encode(grids[-1].read_bytes()).decode()
            yield {"name": name, "images_seen": f"{int(grids[-1].stem):,}", "data": data}


_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Leaderboard</title>
<style>
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5d6778; --page: #f6f7f9; --card: #fff; --line: #dfe3ea;
  --best: #0a7d55; --tint: #e8f5ef; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #97a1b3; --page: #12151b; --card: #1a1f28; --line: #2c3340; --best: #53d3a2;
    --tint: #16291f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.75rem; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
section + section { margin-top: 2.5rem; }
p, dl { color: var(--soft); margin: 0 0 1rem; font-size: .9rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .6rem 1rem; text-align: right; border-bottom: 1px solid var(--line); }
th { padding: 0; font-weight: 600; font-size: .85rem; }
th button { all: unset; box-sizing: border-box; width: 100%; padding: .6rem 1rem; cursor: pointer; color: var(--soft); }
th button:focus-visible { outline: 2px solid var(--best); outline-offset: -2px; }
th[aria-sort] button { color: var(--ink); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tr:last-child td { border-bottom: 0; }
tr.best td { background: var(--tint); font-weight: 600; }
tr.best td.model { color: var(--best); }
.model, .family { text-align: left; }
th:first-child, td:first-child { width: 1%; }
.none { color: var(--soft); font-weight: 400; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 1rem 0 0; }
dt { color: var(--ink); font-family: ui-monospace, monospace; }
dd { margin: 0; }
.grids { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
figure { margin: 0; overflow: hidden; }
figure img { display: block; width: 100%; height: auto; image-rendering: pixelated; background: #fff; }
figcaption { padding: .6rem 1rem; font-size: .9rem; color: var(--soft); }
figcaption b { color: var(--ink); }
@media (max-width: 40rem) {
  table { font-size: .9rem; }
  th button, td { padding: .5rem .6rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
}
</style>
</head>
<body>
<h1>Leaderboard</h1>
{% if groups|length > 1 %}
<p>The models below were judged under {{ groups|length }} different conditions: compare within a table only.</p>
{% endif %}
{% for group in groups %}
{% set c = group.conditions %}
<section>
<p>Judged by {{ "{:,}".format(c.n_samples) }} samples against {{ "{:,}".format(c.n_real) }} real images at
{{ c.image_size }} px (resize {{ c.resize }}, block {{ c.block[:8] }}, seed {{ c.seed }}), features of the extractor
{{ c.extractor.name }} {{ c.extractor.fingerprint[:8] }}.</p>
<div class="card wide">
<table>
<thead><tr>
{% for column in group.columns %}
<th class="{{ column }}"{% if column == "rank" %} aria-sort="ascending"{% endif %}>\
<button type="button">{{ column }}</button></th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in group.rows %}
<tr{% if row.rank == 1 %} class="best"{% endif %}>
{% for column in group.columns %}
<td class="{{ column }}{% if row[column] == "n/a" %} none{% endif %}" data-value="{{ row[column] }}">\
{{ show(row[column]) }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
<dl>
{% for name, meaning in group.figures.items() %}
<dt>{{ name }}</dt><dd>{{ meaning }}</dd>
{% endfor %}
</dl>
</section>
{% endfor %}
{% if pictures %}
<h2>Samples</h2>
<div class="grids">
{% for picture in pictures %}
<figure class="card"><img alt="Samples of {{ picture.name }}" src="data:image/png;base64,{{ picture.data }}">
<figcaption><b>{{ picture.name }}</b> after {{ picture.images_seen }} images</figcaption></figure>
{% endfor %}
</div>
{% endif %}
<script>
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.cells[column].dataset.value;
    const compare = (a, b) => {
      const x = Number(value(a)), y = Number(value(b));
      if (Number.isNaN(x) && Number.isNaN(y)) return value(a).localeCompare(value(b)) * (up ? 1 : -1);
      return Number.isNaN(x) - Number.isNaN(y) || (x - y) * (up ? 1 : -1);  // what is no number stays last
    };
    body.append(...[...body.rows].sort(compare));
  }));
}
</script>
</body>
</html>
"""
