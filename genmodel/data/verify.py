"""Checks every byte of a block and reports what is wrong."""

from pathlib import Path

from genmodel.data.block import Block
from genmodel.errors import BlockError
from genmodel.output.counting import counted
from genmodel.output.printable import printable


def whole_block(path: Path) -> Block:
    """Open a block and check every byte of it; prints each problem, and raises BlockError with the first."""
    block = Block.open(path)
    problems = [printable(problem) for problem in block.verify()]
    if problems:
        print("\n".join(problems))
        more = f" and {counted(len(problems) - 1, 'other problem')}" if len(problems) > 1 else ""
        raise BlockError(f"{path}/{problems[0]}{more}; pull or prepare the block again")
    return block
