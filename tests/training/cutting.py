"""A training that ends before its budget, as its process would leave it."""

from pathlib import Path

from genmodel.data.block import Block
from genmodel.showing.display import Display
from genmodel.training.identity import Identity
from genmodel.training.trainer import Training, run_folder


def cut_short(identity: Identity, block: Block, runs: Path, at: int) -> Training:
    """A training in `runs` after `at` images, at the step that reaches them; its checkpoints are on disk."""
    cut = Training(identity, block, run_folder(identity, runs), "cpu", fresh=False, watcher=Display())
    while cut.images_seen < at:
        cut.step()
        cut.record_and_save()
    cut.checkpoints.wait()  # as the end of its process would
    return cut
