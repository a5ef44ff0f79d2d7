"""The options of a preparation, the same ones for `genmodel prepare` and `python -m flows.prepare`."""

import argparse
from dataclasses import fields
from pathlib import Path

from genmodel.data.making.recipe import ADM, FAST, MAX_PIXELS, Recipe
from genmodel.data.sources.meaning.layout import Layout
from genmodel.errors import ConfigError
from genmodel.sizes import Size


def add_prepare(to: argparse.ArgumentParser) -> None:
    """All that `genmodel prepare` takes."""
    to.add_argument(
        "source",
        help="a folder of images or archives, a tar or zip (also compressed with gzip, bzip2, xz or zstd, split, or "
        "nested), ImageNet's train or val tar, WebDataset shards or Parquet files (a folder, or a pattern such as "
        "train-{000..146}.tar), a folder written by save_to_disk, an LMDB, an npz, CIFAR's batches, MNIST's "
        "images-idx3-ubyte, or digits (scikit-learn's)",
    )
    to.add_argument("--out", type=Path, default=Path("data"), help="the block's folder")
    to.add_argument("--sizes", type=sizes, help="in pixels, such as 64,128x64 (width x height; default: 64)")
    to.add_argument("--workers", type=int, default=0, help="worker processes; 0: one more than there are cores")
    to.add_argument("--val-fraction", type=float, help="share of the images held out for validation (default: 0.1)")
    to.add_argument(
        "--allow-rejects", type=float, default=0.01, help="largest share of unusable images that is not an error"
    )
    to.add_argument("--update", action="store_true", help="add what is new in the source to the existing block")
    to.add_argument("--list", action="store_true", help="show what would be done without doing it")
    to.add_argument("--devkit", type=Path, help="ILSVRC2012_devkit_t12.tar.gz (default: the one beside the val tar)")
    add_layout(to)
    add_recipe(to)


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Options for what a source means."""
    add = parser.add_argument_group("what the source means").add_argument
    add("--classes", help="none, folder, 'depth N', or a file of labels (default: detected; an error where unclear)")
    add("--split", metavar="NAME", help="read this split of a source that has several")
    add("--val-split", metavar="NAME", help="hold out this split instead of a share of the images")
    add(
        "--allow-new-classes",
        action="store_true",
        default=None,
        help="with --update: add classes that are new to it",
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Options for how an image becomes pixels."""
    add = parser.add_argument_group("how an image becomes pixels").add_argument
    add(
        "--recipe",
        dest="resize",
        metavar="NAME",
        help=f"{ADM}, or {FAST}, which decodes at a reduced scale (default: {ADM})",
    )
    add(
        "--orient",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="rotate images as EXIF says (default: yes, except ImageNet's)",
    )
    add(
        "--background",
        metavar="COLOUR",
        help="behind what is transparent: white, black, #rrggbb or checker (default: white)",
    )
    add("--channels", type=int, help="1 (colours become grey), 3, or 4 with alpha (default: 1 if all are grey, else 3)")
    add("--bits", type=int, help="significant bits of 16-bit files (default: as each file declares)")
    add(
        "--max-pixels",
        type=int,
        help=f"reject larger images; decoding takes 4 to 20 bytes per pixel (default: {MAX_PIXELS:,})",
    )
    add("--duplicates", metavar="HOW", help="keep, or drop all but the first of equal images (default: keep)")


def layout_of(options: argparse.Namespace) -> Layout | None:
    """The layout in the options; None if none is given."""
    said = {name: getattr(options, name) for name in ("classes", "split", "val_split", "allow_new_classes")}
    said = {name: value for name, value in said.items() if value is not None}
    return Layout(**said) if said else None


def recipe_of(options: argparse.Namespace) -> Recipe | None:
    """The recipe in the options; None if none is given."""
    said = {field.name: getattr(options, field.name, None) for field in fields(Recipe)}
    said = {name: value for name, value in said.items() if value is not None}
    return Recipe.from_dict(said) if said else None


def sizes(text: str) -> list[Size]:
    """The type of --sizes: 64,128x64; ConfigError for anything else."""
    try:
        return sorted({Size.of(part.strip()) for part in text.split(",")})
    except ValueError as error:
        raise ConfigError(f"--sizes: {error}") from None
