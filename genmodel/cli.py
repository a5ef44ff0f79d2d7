"""The command line: the same core that the stages call, usable on a bare GPU machine with only torch."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from genmodel.devices import choose_device
from genmodel.errors import ConfigError, is_main_process, user_errors
from genmodel.output.counting import counted
from genmodel.output.printable import printable


def main(argv: list[str] | None = None) -> int:
    """Run a command; a user's mistake is one line and exit code 2."""
    with user_errors():
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
    return 0


def prepare(arguments: argparse.Namespace) -> None:
    from genmodel.data.contact import beside
    from genmodel.data.making.account import account
    from genmodel.data.making.make import prepare
    from genmodel.data.making.options import layout_of, recipe_of
    from genmodel.data.making.recipe import Recipe
    from genmodel.data.sources.meaning.layout import Layout
    from genmodel.data.telling import class_lines, in_a_line

    if arguments.list:
        _overview(arguments)
        return
    if arguments.update:
        _update(arguments)
        return
    block = prepare(
        arguments.source,
        arguments.out,
        arguments.sizes or [64],
        workers=arguments.workers,
        val_fraction=0.1 if arguments.val_fraction is None else arguments.val_fraction,
        max_reject_share=arguments.allow_rejects,
        devkit=arguments.devkit,
        layout=layout_of(arguments) or Layout(),
        recipe=recipe_of(arguments) or Recipe(),
    )
    print(printable(f"{arguments.out}: {in_a_line(block)}"))
    print("\n".join(map(printable, [*class_lines(block), *account(block), f"contact sheet: {beside(block)}"])))


def _overview(arguments: argparse.Namespace) -> None:
    from genmodel.data.block import Block
    from genmodel.data.making.account import overview
    from genmodel.data.making.options import layout_of
    from genmodel.data.sources.meaning.layout import Layout

    block = Block.open(arguments.out) if arguments.update else None
    lines = overview(arguments.source, layout_of(arguments) or Layout(), arguments.devkit, block)
    print("\n".join(map(printable, lines)))


def _update(arguments: argparse.Namespace) -> None:
    from genmodel.data.making.options import layout_of, recipe_of
    from genmodel.data.making.update import update
    from genmodel.data.sources.meaning.layout import Layout

    if arguments.sizes or arguments.val_fraction is not None:
        raise ConfigError("--update keeps the block's sizes and val fraction: leave out --sizes and --val-fraction")
    if recipe_of(arguments):
        raise ConfigError("--update keeps the block's recipe: leave out options under 'how an image becomes pixels'")
    made = update(
        arguments.source,
        arguments.out,
        workers=arguments.workers,
        max_reject_share=arguments.allow_rejects,
        devkit=arguments.devkit,
        layout=layout_of(arguments) or Layout(),
    )
    print("\n".join(map(printable, [f"{arguments.out}: {made.lines()[0]}", *made.lines()[1:]])))


def verify(arguments: argparse.Namespace) -> None:
    from genmodel.data.verify import whole_block

    block = whole_block(arguments.data)
    print(f"{arguments.data}: {counted(len(block), 'image')}, every file is intact")


def census(arguments: argparse.Namespace) -> None:
    from genmodel.data.block import Block
    from genmodel.data.census import as_csv, as_table, count

    print((as_csv if arguments.csv else as_table)(count(Block.open(arguments.data))), end="")


def train(arguments: argparse.Namespace) -> None:
    from genmodel.data.block import Block
    from genmodel.params import read_params, run_config
    from genmodel.showing.display import train
    from genmodel.training.identify import identify

    if arguments.params:
        models = read_params(arguments.params).models
        if arguments.model not in models:
            raise ConfigError(f"{arguments.params} has no model {arguments.model!r}, only {', '.join(models)}")
        values = models[arguments.model].as_dict()
    else:
        values = {"family": arguments.model}
    config = run_config(values, arguments.model, arguments.set)
    out, device = arguments.out or Path("models") / arguments.model, choose_device(arguments.device)
    block = Block.open(arguments.data)
    identity = identify(arguments.model, config, block)
    train(identity, block, out, arguments.runs, device, arguments.fresh, arguments.profile)
    if is_main_process():
        print(f"{out}: weights.safetensors, config.json, history.csv, timeline.png, replay.gif, samples/")


def batch(arguments: argparse.Namespace) -> None:
    from genmodel.data.block import Block
    from genmodel.showing.grids import save_grid
    from genmodel.training.past_batches import past_batch

    images, seen, order = past_batch(arguments.run_folder, Block.open(arguments.data), arguments.step)
    save_grid(arguments.out, images)
    print(f"{arguments.out}: the batch after {seen:,} images; digest of their order {order}")


def sample(arguments: argparse.Namespace) -> None:
    from genmodel.showing.options import check_seed
    from genmodel.showing.pictures import classes_of, save_samples

    if arguments.n is not None and arguments.n < 1:
        raise ConfigError(f"-n: must be at least 1, not {arguments.n}")
    check_seed(arguments.seed)
    model, device = arguments.model, choose_device(arguments.device)
    if arguments.classes:
        print("\n".join(f"{number} {printable(name)}" for number, name in enumerate(classes_of(model))))
    else:
        print(printable(save_samples(model, arguments.out, arguments.n, arguments.seed, arguments.label, device)))


def interpolate(arguments: argparse.Namespace) -> None:
    from genmodel.showing.options import check_seed
    from genmodel.showing.walks import save_walk

    check_seed(arguments.seed)
    ends, device = (arguments.start, arguments.end), choose_device(arguments.device)
    said = save_walk(arguments.model, arguments.out, ends, arguments.frames, arguments.seed, arguments.label, device)
    print(printable(said))


def traverse(arguments: argparse.Namespace) -> None:
    from genmodel.showing.options import check_seed
    from genmodel.showing.walks import save_sweeps

    check_seed(arguments.seed)
    codes, n, seed, device = arguments.code, arguments.n, arguments.seed, choose_device(arguments.device)
    said = save_sweeps(arguments.model, arguments.out, codes, n, arguments.frames, seed, arguments.label, device)
    print("\n".join(map(printable, said)))


def export(arguments: argparse.Namespace) -> None:
    from genmodel.sampling.export import export_onnx
    from genmodel.sampling.load import load_model

    export_onnx(load_model(arguments.model)[0], arguments.onnx)
    print(f"{arguments.onnx}: takes codes, returns images, in batches of any size")


def evaluate(arguments: argparse.Namespace) -> None:
    import json

    from genmodel.data.block import Block
    from genmodel.evaluation.evaluate import evaluate
    from genmodel.evaluation.reference import Reference, make_reference
    from genmodel.params import read_params
    from genmodel.sampling.load import load_model
    from genmodel.settings.config import EvaluationConfig

    config = read_params(arguments.params).evaluation if arguments.params else EvaluationConfig()
    block = Block.open(arguments.data)
    if not arguments.reference.exists():
        model, _ = load_model(arguments.model)
        make_reference(block, model.image_size, config, arguments.reference, choose_device(arguments.device))
    report, timing = evaluate(
        arguments.model, block, Reference.open(arguments.reference), config, choose_device(arguments.device)
    )
    if doubt := report.conditions.extractor.doubt:
        print(f"warning: {doubt}", file=sys.stderr)
    print(json.dumps(report.as_dict() | {"timing": timing.as_dict()}, indent=2))


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the default of each option that has one, and the example as written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = action.default in (None, []) or action.nargs == 0  # a flag
        return action.help if none else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    from genmodel.applications.commands import add_applications
    from genmodel.compression.commands import add_compression
    from genmodel.data.making.options import add_prepare
    from genmodel.data_report.commands import add_report
    from genmodel.exploring.commands import add_explore
    from genmodel.showing.options import add_device, add_interpolate, add_traverse

    parser = argparse.ArgumentParser(prog="genmodel", description="Retraining image generators, one step at a time.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], None], what: str, example: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            run.__name__, help=what, description=what, epilog=f"example:\n  genmodel {example}", formatter_class=_Help
        )
        added.set_defaults(run=run)
        return added

    def add_data(to: argparse.ArgumentParser) -> None:
        to.add_argument("--data", type=Path, default=Path("data"), help="the block's folder")

    add_prepare(
        command(prepare, "Turn raw images into a block.", "prepare ILSVRC2012_img_train.tar --out data --sizes 64,256")
    )

    add = command(census, "Count what was odd about the raw images of a block.", "census data --csv")
    add.add_argument("data", type=Path, nargs="?", default=Path("data"), help="the block's folder")
    add.add_argument("--csv", action="store_true", help="print it as CSV")

    add = command(verify, "Check every file of a block against its digest.", "verify data")
    add.add_argument("data", type=Path, nargs="?", default=Path("data"), help="the block's folder")

    add_report(command)

    add = command(
        train, "Train a model on a block.", "train dcgan --data data --set images=500000 --set batch_size=128"
    )
    add.add_argument("model", help="a family, such as dcgan, or the name of a model in --params")
    add_data(add)
    add.add_argument("--out", type=Path, default=None, help="the finished model's folder (default: models/MODEL)")
    add.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting (repeatable)")
    add.add_argument("--params", type=Path, default=None, help="read MODEL's settings from this params.yaml")
    add.add_argument("--runs", type=Path, default=Path("runs"), help="where checkpoints and records are kept")
    add.add_argument("--fresh", action="store_true", help="delete the checkpoints of an earlier try and start over")
    add.add_argument("--profile", action="store_true", help="write a trace and a table of ten steps to the run folder")
    add_device(add)

    add = command(batch, "Show the batch of a step of a run.", "batch --run runs/0123456789abcdef --step 1000")
    add.add_argument("--run", dest="run_folder", type=Path, required=True, help="the run's folder")
    add.add_argument("--step", type=int, required=True, help="the step, counted from 1")
    add_data(add)
    add.add_argument("--out", type=Path, default=Path("grid.png"), help="the PNG to write")

    add = command(
        sample, "Draw samples and save them as a picture.", "sample models/dcgan -n 64 --seed 0 --out grid.png"
    )
    add.add_argument("model", type=Path, help="a finished model's folder")
    add.add_argument("-n", type=int, help="number of images (default: 64; for a conditional model, 8 per class)")
    add.add_argument("--seed", type=int, default=0, help="seed of the noise; image i is the same for any -n")
    add.add_argument("--class", dest="label", help="draw only this class of a conditional model, by name or number")
    add.add_argument("--classes", action="store_true", help="list the classes to choose from and draw nothing")
    add.add_argument("--out", type=Path, default=Path("grid.png"), help="the PNG to write")
    add_device(add)

    add_interpolate(
        command(
            interpolate, "Draw the images between two samples.", "interpolate models/vae --from 3 --to 7 --frames 24"
        )
    )
    add_traverse(command(traverse, "Sweep numbers of the noise, one at a time.", "traverse models/vae --code 2"))

    add_explore(command)

    add_applications(command)
    add_compression(command)

    add = command(export, "Export a finished model to ONNX.", "export models/dcgan --onnx dcgan.onnx")
    add.add_argument("model", type=Path, help="a finished model's folder")
    add.add_argument("--onnx", type=Path, required=True, help="the file to write")

    add = command(evaluate, "Judge a finished model.", "evaluate models/vae --data data")
    add.add_argument("model", type=Path, help="a finished model's folder")
    add_data(add)
    add.add_argument(
        "--reference",
        type=Path,
        default=Path("reference"),
        help="features of the real images; made if missing",
    )
    add.add_argument("--params", type=Path, default=None, help="read the evaluation settings from this params.yaml")
    add_device(add)
    return parser


if __name__ == "__main__":
    sys.exit(main())
