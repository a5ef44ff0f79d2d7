"""Whether a program would take a command's words: they are parsed by its own parser, and nothing is run."""

import argparse
import contextlib
import importlib
import inspect
import io
import re
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any
from unittest import mock

from tests.docs.commands import ROOT

SYSTEM = {"git", "pip", "export", "set", "cd", ".", "cp", "curl", "createdb", "docker", "apt-get"}
_REQUIRED = "the following arguments are required"


class _Parsed(Exception):
    """A main was stopped where it had read its arguments."""


def refused(words: list[str], mentioned: bool) -> str:
    """Why the program would refuse the words; empty if it takes them. A mention may leave required arguments out."""
    match words:
        case ["genmodel", *rest]:
            return _argparse("genmodel.cli", rest, mentioned)
        case ["python", "-m", module, *rest]:
            return _argparse(module, rest, mentioned)
        case ["torchrun", *rest]:
            options = importlib.import_module("torch.distributed.run").get_args_parser().parse_args(rest)
            return _argparse(options.training_script, options.training_script_args, mentioned)
        case ["make", *targets]:
            known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            return "".join(f"no target {name}" for name in targets if "=" not in name and name not in known)
        case ["dvc", *rest]:
            parser = importlib.import_module("dvc.cli.parser").get_main_parser()
            return _told(lambda: parser.parse_args([*rest, "--help"] if mentioned else rest), mentioned)
        case ["prefect", *rest]:
            app = importlib.import_module("prefect.cli._app")._app
            return _told(lambda: app.parse_args(rest, exit_on_error=False, print_error=False), mentioned)
        case ["mlflow", *rest]:
            return _told(lambda: _click(importlib.import_module("mlflow.cli").cli, rest), mentioned)
        case ["dask", command, *rest]:
            (entry,) = entry_points(group="dask_cli", name=command)
            return _told(lambda: entry.load().make_context(command, rest), mentioned)
        case [program, *_] if program in SYSTEM:
            return ""
    return "no rule says how to check it: add one to tests/docs/accepting.py"


def _argparse(module: str, words: list[str], mentioned: bool) -> str:
    try:
        main = _main(module)
    except ModuleNotFoundError as error:
        return str(error)
    if "argparse" not in vars(inspect.getmodule(main)):  # takes names alone
        return "".join(f"{module} has no option {word}" for word in words if word.startswith("-"))
    return _told(lambda: _stopped(main, words), mentioned)


def _main(module: str) -> Callable[[list[str]], Any]:
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    return found.main  # type: ignore[no-any-return]


def _stopped(main: Callable[[list[str]], Any], words: list[str]) -> None:
    with _parsers(), contextlib.suppress(_Parsed):
        main(words)


@contextlib.contextmanager
def _parsers() -> Iterator[None]:
    """Every main stops once it has read its arguments."""
    real = argparse.ArgumentParser.parse_args

    def parse(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        real(parser, *arguments)
        raise _Parsed

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse):
        yield


def _told(parse: Callable[[], object], mentioned: bool) -> str:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parse()
    except SystemExit as end:
        if not end.code:  # --help
            return ""
        last = said.getvalue().strip().splitlines()[-1]
        return "" if mentioned and _REQUIRED in last else last
    except Exception as error:  # noqa: BLE001  # each library has its own for words that it does not take
        missing = "Missing" in type(error).__name__
        return "" if mentioned and missing else f"{type(error).__name__}: {error}"
    return ""


def _click(command: Any, words: list[str]) -> None:
    context = command.make_context(command.name, words)
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
