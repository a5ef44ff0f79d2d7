"""`genmodel explore`: its options, and what it opens."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from genmodel.devices import choose_device
from genmodel.errors import BlockError
from genmodel.output.counting import counted
from genmodel.showing.options import add_device

if TYPE_CHECKING:
    from genmodel.exploring.nearest import TrainingImages
    from genmodel.exploring.subject import Subject

Command = Callable[[Callable[[argparse.Namespace], None], str, str], argparse.ArgumentParser]
_DATA = Path("data")


def explore(arguments: argparse.Namespace) -> None:
    from genmodel.exploring.subject import Subject

    open_page(Subject.load(arguments.model, choose_device(arguments.device)), arguments.data, arguments.port)


def open_page(subject: "Subject", data: Path | None, port: int) -> None:
    """Serve the page for a model, with its nearest training images in the block `data`, until Ctrl-C.

    Without `data` those in ./data are shown; where that is no block of such images, the page says so.
    """
    from genmodel.exploring.page import Views, serve

    try:
        training, note = training_images(subject, data or _DATA)
    except BlockError as error:
        if data is not None:
            raise
        training, note = None, f"No training images are shown: {error}."
    serve(Views(subject, training, note), port)


def training_images(subject: "Subject", data: Path) -> "tuple[TrainingImages, str]":
    """The training images in a block, and what they are in words. BlockError without images like the model's."""
    from genmodel.data.block import Block
    from genmodel.exploring.nearest import TrainingImages

    block = Block.open(data)
    images = TrainingImages(block, subject.source.image_size, subject.source.channels)
    compared = counted(images.total, "training image")
    if len(images) < images.total:
        compared = f"{len(images):,} of {compared}, evenly spread"
    note = f"Nearest by pixels, of {compared}. A number is the distance: root mean square, in levels of 0 to 255."
    if block.digest != subject.block:
        note += " The model was trained on another version of these data."
    return images, note


def add_explore(command: Command) -> None:
    add = command(explore, "Play with a model in the browser.", "explore models/dcgan --data data")
    add.add_argument("model", type=Path, help="a finished model's folder")
    add_options(add)


def add_options(to: argparse.ArgumentParser) -> None:
    """Those that exploring a registered model has, too."""
    to.add_argument("--data", type=Path, help="the block whose training images are shown (default: data, if it is one)")
    to.add_argument("--port", type=int, default=7860, help="on 127.0.0.1")
    add_device(to)
