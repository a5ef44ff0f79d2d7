"""What a retraining would run, and why; and how long each stage took the last time.

python -m flows.retrain --plan
python -m flows.retrain --why train@vae
"""

from collections.abc import Collection
from pathlib import Path

from flows.costs import budget, ledger
from flows.settings import Settings
from flows.versioning import closures
from flows.versioning import dvc as versioning
from flows.versioning.dvc import Stage
from flows.versioning.reasons import reasons
from genmodel.errors import ConfigError
from genmodel.output.counting import counted


def plan(root: Path) -> list[tuple[Stage, list[str]]]:
    """All stages in order, each with why it would run; an empty list where it would not.

    It brings closures/ up to date, by which DVC knows what code has changed, and changes nothing else.
    """
    closures.refresh(root)
    found, stages = reasons(root), versioning.graph(root)
    told: dict[str, list[str]] = {}
    for stage in stages:
        after = [f"it follows {need}" for need in stage.needs if told[need] and not _only_asked(told[need])]
        told[stage.name] = [*found.get(stage.name, []), *after]
    return [(stage, told[stage.name]) for stage in stages]


def in_short(names: Collection[str]) -> str:
    """What a run of the stages of these names does, in a few words: "2 models changed"."""
    trained, judged = (sum(name.startswith(f"{stage}@") for name in names) for stage in ("train", "evaluate"))
    if trained:
        return f"{counted(trained, 'model')} changed"
    if judged:
        return f"{counted(judged, 'model')} judged again"
    return f"{', '.join(sorted(names))} changed" if names else "nothing changed"


def _only_asked(reasons: list[str]) -> bool:
    return reasons == ["it is always asked"]


def show(settings: Settings) -> None:
    """A table of all stages, the sum of what those that would run took last time, and what this month has used."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stage", "runs", "why", "took"):
        table.add_column(heading, justify="right" if heading == "took" else "left", overflow="fold")
    root, lines = settings.root, ledger.read(settings.root)
    planned, took = plan(root), ledger.last(lines)
    for stage, why in planned:
        more = f" (and {len(why) - 1} more: --why {stage.name})" if len(why) > 1 else ""
        table.add_row(
            stage.name,
            "yes" if why else "no",
            f"{why[0]}{more}" if why else "",
            ledger.duration(took[stage.name].seconds) if stage.name in took else "",
        )
    console = Console(width=None if Console().is_terminal else 120, markup=False, highlight=False)
    console.print(table)
    running = [stage for stage, why in planned if why]
    known = [took[stage.name] for stage in running if stage.name in took]
    needed = ledger.total(known)
    unknown = f", and {len(running) - len(known)} of unknown length" if len(known) < len(running) else ""
    on_gpu = f" and {needed.gpu_hours:.4g} GPU hours" if needed.gpu_hours else ""
    print(
        f"\n{len(running)} of {len(planned)} stages would run; they took {ledger.duration(needed.seconds)}{on_gpu} "
        f"last time{unknown}"
    )
    print(budget.line(settings, lines))


def explain(root: Path, name: str) -> None:
    """Every reason for one stage, a line each. ConfigError for a stage that does not exist."""
    planned = {stage.name: why for stage, why in plan(root)}
    if name not in planned:
        raise ConfigError(f"there is no stage {name}; there are {', '.join(planned)}")
    print("\n".join(planned[name]) or f"{name} would not run: nothing that it depends on has changed")
