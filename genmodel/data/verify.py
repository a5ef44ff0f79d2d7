"""Checks every byte of a block and reports what is wrong."""

from pathlib import Path

from genmodel.data.block import Block
from genmodel.errors import BlockError
from genmodel.output.printable import printable


def whole_block(path: Path) -> Block:
    """Open a block and check every byte of it; prints each problem, and raises BlockError with the first."""
    block = Block.open(path)
    problems = [printable(problem) for problem in block.verify()]
    if problems:
        print("\n".join(problems))
        more = f" and {len(problems) - 1:,} other troubles" if len(problems) > 1 else ""
        raise BlockError(f"{path}/{problems[0]}{more}; prepare the block again or pull it anew")
    return block
