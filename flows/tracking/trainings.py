"""The record of a training on disk, which a tracker is sent. No tracker is needed to read it."""

import colorsys
import csv
import json
import shlex
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from genmodel.errors import BlockError, ModelError, TrackingError
from genmodel.files import durable
from genmodel.files.model_folder import read_config
from genmodel.output.printable import printable
from genmodel.sizes import Size
from genmodel.training.identity import SHOWING
from genmodel.training.rows import from_line

_SHOWING = {f"training.{name}" for name in SHOWING}


@dataclass(frozen=True, kw_only=True)
class DataVersion:
    """The block that a model was trained on."""

    digest: str  # DVC's: 32 hexadecimal digits and ".dir", as long as an MLflow dataset digest can be
    source: str
    images: int
    classes: int
    sizes: tuple[int | str, ...]  # pixels: 64, or "128x64" (width x height)
    channels: int = 3

    @classmethod
    def read(cls, block: Path, digest: str) -> "DataVersion":
        """The block in the folder `block`, whose DVC digest is `digest`; BlockError without a block.json."""
        described = durable.read_sealed(block / "block.json", BlockError, "pull or prepare the block again")
        return cls(
            digest=digest,
            source=" + ".join(generation["source"] for generation in described["generations"]),
            images=described["images"],
            classes=len(described["classes"]),
            sizes=tuple(described["sizes"]),
            channels=described.get("channels", 3),
        )

    def described(self) -> dict[str, str]:
        """The fields of an MLflow dataset, JSON where its UI expects it."""
        shapes = {size: [-1, *Size.of(size), self.channels] for size in self.sizes}
        specs = [
            {"name": f"{size} px", "type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": shape}}
            for size, shape in shapes.items()
        ]
        return {
            "name": printable(self.source),
            "digest": self.digest,
            "source_type": "dvc",
            "source": json.dumps({"path": "data", "md5": self.digest}),
            "schema": json.dumps({"mlflow_tensorspec": {"features": json.dumps(specs), "targets": None}}),
            "profile": json.dumps({"images": self.images, "classes": self.classes, "sizes": list(self.sizes)}),
        }


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: the fingerprint is its identity, the rest describes it."""

    name: str  # of the model in params.yaml
    family: str
    fingerprint: str  # 64 hexadecimal digits: hash of settings, data and code
    config: Mapping[str, Any]  # RunConfig.as_dict()
    data: DataVersion

    @classmethod
    def of_model(cls, folder: Path, data: DataVersion) -> "Training":
        """The training whose finished model lies in `folder`; ModelError without a config.json."""
        described = read_config(folder)
        config = described["config"]
        return cls(
            name=described["name"],
            family=config["family"],
            fingerprint=described["fingerprint"],
            config=config,
            data=data,
        )

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Training":
        """From what dataclasses.asdict gave, also after JSON."""
        data = DataVersion(**{**told["data"], "sizes": tuple(told["data"]["sizes"])})
        return cls(**{**told, "data": data})

    @property
    def parameters(self) -> dict[str, str]:
        """The settings as MLflow parameters, which cannot change: without those of display, which may."""
        return {name: text for name, text in flatten(self.config).items() if name not in _SHOWING}

    def tags(self, root: Path) -> dict[str, str]:
        """The tags of a run of this training at its start, in the project `root`."""
        tags = {
            "genmodel.fingerprint": self.fingerprint,
            "genmodel.data": self.data.digest,
            "family": self.family,
            "model": self.name,
            "mlflow.runName": f"{self.name}-{self.fingerprint[:8]}",
            "mlflow.source.name": f"genmodel train {self.name}",
            "mlflow.source.type": "LOCAL",
            "mlflow.runColor": _color(self.family, self.fingerprint),
        }
        if state := git_commit(root):
            tags |= {"mlflow.source.git.commit": state[0], "genmodel.git_dirty": json.dumps(state[1])}
            tags["genmodel.git_changed"] = json.dumps(changed_files(root))
        else:
            tags["genmodel.git"] = git_trouble(root)
        return {key: printable(value) for key, value in tags.items()}


def _color(family: str, fingerprint: str) -> str:
    """A hue for the family and a lightness for the training: MLflow's own colours come in pairs of like greys."""
    hue = (zlib.crc32(family.encode()) + 270) % 360 / 360  # the first two families come out orange and violet
    red, green, blue = colorsys.hls_to_rgb(hue, 0.35 + int(fingerprint[:2], 16) / 1024, 0.65)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


class Row(NamedTuple):
    """Figures of one moment; `metrics` of the record's own rows hold images_seen and step, too."""

    images_seen: int
    time_ms: int  # unix milliseconds
    metrics: dict[str, float]


class Mark(NamedTuple):
    """How far metrics.jsonl was read: a position, and the line before it to notice that the file was rewritten."""

    offset: int = 0
    last_line: bytes = b""


def read_rows(path: Path, mark: Mark) -> tuple[list[Row], Mark]:
    """The rows of a metrics.jsonl after `mark`, and the new mark.

    A missing file has no rows; a last line without its end is left for the next time; a file that was rewritten (by
    a training that starts anew) is read from its start. TrackingError for a damaged line.
    """
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        return [], Mark()
    with handle:
        handle.seek(mark.offset - len(mark.last_line))
        if handle.read(len(mark.last_line)) != mark.last_line:
            mark = Mark()
            handle.seek(0)
        lines = handle.read().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    if not lines:
        return [], mark
    rows = [_row(line, path) for line in lines]
    return rows, Mark(mark.offset + sum(map(len, lines)), lines[-1])


def _row(line: bytes, path: Path) -> Row:
    try:
        entry = from_line(line)
        clock = {"images_seen": entry["images_seen"], "step": entry["step"]}
        return Row(entry["images_seen"], entry["time_ms"], entry["metrics"] | clock)
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise TrackingError(
            f"{path} is damaged: it holds the line {line[:80]!r}; move its folder "
            f"{path.parent} away and train again from the start"
        ) from error


def batches(rows: Iterable[Row], limit: int) -> Iterator[list[Row]]:
    """Rows in groups of at most `limit` metrics; a row stays whole."""
    group: list[Row] = []
    size = 0
    for row in rows:
        assert len(row.metrics) <= limit, "a row is sent whole"
        if size + len(row.metrics) > limit:
            yield group
            group, size = [], 0
        group.append(row)
        size += len(row.metrics)
    if group:
        yield group


def read_history(path: Path, time_ms: int) -> list[Row]:
    """The rows of a finished model's history.csv, which has no times: all get `time_ms`."""
    try:
        with path.open(newline="") as handle:
            return [
                Row(int(entry["images_seen"]), time_ms, {name: float(text) for name, text in entry.items() if text})
                for entry in csv.DictReader(handle, strict=True)
            ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        name = path.parent.name
        raise ModelError(
            f"{path} is missing or damaged: run `dvc repro --force --single-item train@{name}`, which does not train "
            "again what is in runs/"
        ) from error


def read_finished(model: Path, runs: Path, training: Training, time_ms: int) -> list[Row]:
    """The rows of a finished model: those of its record if `runs` still has it, with their own times.

    A frozen server may still hold a request with some of them; with other times they would be recorded twice.
    """
    history = {row.images_seen: row for row in read_history(model / "history.csv", time_ms)}
    recorded, _ = read_rows(runs / training.fingerprint[:16] / "metrics.jsonl", Mark())
    rows = history | {row.images_seen: row for row in recorded}
    return [rows[images_seen] for images_seen in sorted(rows)]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as MLflow parameters: {"network": {"latent_dim": 100}} -> {"network.latent_dim": "100"}."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[printable(prefix + key)] = printable(value if isinstance(value, str) else json.dumps(value))
    return flat


def git_commit(root: Path) -> tuple[str, bool] | None:
    """The commit that is checked out in `root`, and whether files differ from it; None outside a git repository.

    dvc.lock does not count: the line itself changes it while it runs.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)dvc.lock")
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git, no repository, no commit
        return None
    return commit, bool(changes)


def changed_files(root: Path) -> list[str]:
    """The names of files in `root` that differ from its commit; the last of a long list is "..."."""
    names = _git(root, "diff", "--name-only", "--relative", "HEAD", "--", ".").splitlines()
    return [*names[:40], "..."] if len(names) > 40 else names


def git_trouble(root: Path) -> str:
    """Why no commit of `root` is known, and what helps; empty where it is known."""
    try:
        _git(root, "rev-parse", "HEAD")
    except FileNotFoundError:
        return "git is not installed"
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split())
        if "dubious ownership" in said:
            cure = f"git config --global --add safe.directory {shlex.quote(str(root))}"
            return f"git refuses {root}, which belongs to another user: {cure}"
        if "not a git repository" in said:
            return f"{root} is not in a git repository: run `git init` and commit"
        return f"{root} has no commit yet: git commit" if "HEAD" in said else said[:300]
    return ""


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
