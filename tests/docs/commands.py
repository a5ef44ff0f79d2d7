"""The commands that README.md, CONTRIBUTING.md and docs/ show, in the order in which a reader meets them."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_PROGRAM = (
    r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:genmodel|python|torchrun|make|dvc|prefect|mlflow|dask|git|pip|export|set"
    r"|cd|cp|curl|createdb|docker|apt-get)\s"
)


@dataclass(frozen=True)
class Block:
    """A block of code; a blank line ends it."""

    page: str
    line: int
    text: str

    @property
    def is_python(self) -> bool:
        try:
            return any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(self.text).body)
        except SyntaxError:
            return False

    @property
    def is_shell(self) -> bool:
        return re.match(_PROGRAM, self.text) is not None


@dataclass(frozen=True)
class Shown:
    """A command as it is shown: its text on one line without its comment, the comment, and where."""

    page: str
    line: int
    text: str
    comment: str = ""
    mentioned: bool = False  # in a sentence, which may leave arguments out

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def parts(self) -> list[list[str]]:
        """The words of each command of the line (`a && b`), without variables that are set before it."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        found: list[list[str]] = [[]]
        for word in lexer:
            if set(word) <= set(";&|"):
                found.append([])
            elif found[-1] or not re.match(r"[A-Z_]+=", word):
                found[-1].append(word)
        return [words for words in found if words]


def blocks() -> Iterator[Block]:
    """All blocks of code that are indented by four spaces or stand between ```."""
    for page in PAGES:
        fenced, begun, lines = False, 0, list[str]()
        before = ""
        for number, line in enumerate([*page.read_text().splitlines(), ""], start=1):
            inside = fenced or (line.startswith("    ") and (bool(lines) or not before.strip()))
            if line.startswith("```") or not inside or not line.strip():
                if lines:
                    yield Block(page.name, begun, "\n".join(lines))
                lines = []
                fenced ^= line.startswith("```")
            else:
                begun = begun if lines else number
                lines.append(line if fenced else line[4:])
            before = line


def shown() -> Iterator[Shown]:
    """All commands: the lines of blocks, and what stands between ` in sentences."""
    for page in PAGES:
        here = [block for block in blocks() if block.page == page.name]
        found = [each for block in here if block.is_shell for each in _lines(block)]
        lines = page.read_text().splitlines()
        for block in here:
            count = block.text.count("\n") + 1
            lines[block.line - 1 : block.line - 1 + count] = [""] * count
        prose = "\n".join(lines)
        for quoted in re.finditer(r"`([^`]+)`", prose):
            text = " ".join(quoted[1].split())
            if re.match(_PROGRAM, text):
                found.append(Shown(page.name, prose.count("\n", 0, quoted.start()) + 1, text, mentioned=True))
        yield from sorted(found, key=lambda each: each.line)


def _lines(block: Block) -> Iterator[Shown]:
    """The commands of a block: all of its lines, or where one begins with `$ ` these alone, as the rest is printed."""
    line = block.line
    for text in re.split(r"(?<!\\)\n", block.text):
        taken = "\n$ " not in f"\n{block.text}" or text.startswith("$ ")
        command, _, comment = text.removeprefix("$ ").replace("\\\n", " ").partition(" # ")
        if taken:
            yield Shown(block.page, line, " ".join(command.split()), comment.strip())
        line += text.count("\n") + 1
