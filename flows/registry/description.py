"""The card of a registered version: a file in its package and in its run, and its description in MLflow's UI."""

import base64
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from genmodel.evaluation.report import Report
from genmodel.evaluation.table import FRECHET
from genmodel.evaluation.telling.card import model_card
from genmodel.files import durable
from genmodel.output.printable import markdown_text

DESCRIPTION = """Draws images. A version is one trained model; `champion` is the one in use.

```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{name}@champion")
images = model.predict({{"n": 16, "seed": 3}})  # uint8, NHWC; image i of a seed is the same for any n
images = model.predict({{"n": 16, "seed": 3, "class": "7"}})  # of a conditional model, by name or number
model.model_config["classes"]  # that can be asked for; none where the model is not conditional
```

`mlflow models serve -m models:/{name}@champion --env-manager local` answers
`{{"inputs": {{"n": 16, "seed": 3}}}}` at `/invocations`. Codes of your own, `{{"inputs": [[...], ...]}}`, are rows of
what `model.model_config["space"]` says, and for a conditional model the number of the class as the last one.
It needs no pickle: set `MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false`. The weights lie beside it as safetensors.
"""
_CHAMPION = "**Champion:"
_LONGEST = 5000  # characters of a description that MLflow's database can hold


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything that the card of a version shows; see genmodel/evaluation/telling/card.py."""

    about: Mapping[str, Any]  # config.json
    report: Report
    data: Mapping[str, Any]
    cost: Mapping[str, Any]
    licence: str | None = None
    grid: Path | None = None  # a picture of samples
    tags: Mapping[str, str] = field(default_factory=dict)  # of the version, besides those that every version has

    def write(self, folder: Path) -> list[Path]:
        """Write card.md, whole with its picture, and samples.png where there is one."""
        picture = None
        if self.grid is not None:
            picture = f"data:image/png;base64,{base64.b64encode(self.grid.read_bytes()).decode()}"
        durable.write_text(folder / "card.md", self._text(picture))
        if self.grid is not None:
            shutil.copyfile(self.grid, folder / "samples.png")
        return sorted(folder.iterdir())

    def described(self, run_id: str) -> str:
        """The card for MLflow's UI: the picture is fetched from the run, where it lies under card/."""
        link = f"get-artifact?path=card%2Fsamples.png&run_uuid={run_id}" if self.grid is not None else None
        text = self._text(link)
        return text if len(text) <= _LONGEST else text[: _LONGEST - 30] + "\n\n... the rest is in card.md"

    def _text(self, picture: str | None) -> str:
        return model_card(
            self.about, self.report, data=self.data, cost=self.cost, licence=self.licence, picture=picture
        )


def version_tags(described: Mapping[str, Any], report: Report, run: Mapping[str, str]) -> dict[str, str]:
    """The tags of a version: what it is, where it comes from (so that this needs no run), and its figures."""
    origin = {
        "genmodel.commit": run.get("mlflow.source.git.commit"),
        "genmodel.git_changed": run.get("genmodel.git_changed"),
        "genmodel.git": run.get("genmodel.git"),
    }
    figures = {f"eval.{name}": f"{value:.6g}" for name, value in report.figures.items() if value is not None}
    return {
        "genmodel.name": described["name"],
        "genmodel.fingerprint": described["fingerprint"],
        "genmodel.weights": described["weights"],
        "genmodel.family": described["config"]["family"],
        "genmodel.data": run["genmodel.data"],
        **{key: value for key, value in origin.items() if value is not None},
        **figures,
    }


def with_champion(told: str, model: str, champion: tuple[str, Mapping[str, str]] | None) -> str:
    """The description `told` of the registered `model`, beginning with the champion: its number and tags, or nobody."""
    rest = told.partition("\n\n")[2] if told.startswith(_CHAMPION) else told
    if champion is None:
        return f"{_CHAMPION} nobody.**\n\n{rest}"
    number, tags = champion
    figures = {key.removeprefix("eval."): value for key, value in tags.items() if key.startswith("eval.")}
    figure = next((f", {name} {value}" for name, value in figures.items() if FRECHET.is_called(name)), "")
    link = f"[version {number}](#/models/{quote(model, safe='')}/versions/{number})"
    name = markdown_text(tags.get("genmodel.name", "?"))
    return f"{_CHAMPION} {link}, {name}{markdown_text(figure)}.**\n\n{rest}"
