"""Adds new images to a block as a generation, with shards and ledgers of its own; existing files never change.

An image is new if the block does not have its bytes (by sha256). First the whole source is read for its digests, then
new images are converted as in a preparation; both are resumable. The new files are moved into the block and block.json
is replaced last: a kill at any time leaves the old block valid, and the same command continues.
"""

from dataclasses import dataclass
from pathlib import Path

from genmodel.data.block import Block
from genmodel.data.making import same
from genmodel.data.making.account import account, known_of, new_classes, scan
from genmodel.data.making.finish import write_generation
from genmodel.data.making.make import (
    ColouredError,
    Maker,
    check_settings,
    convert,
    outcomes_of,
    plan,
    shard_rows,
    workplace,
)
from genmodel.data.making.pool import make_shards
from genmodel.data.making.recipe import Recipe
from genmodel.data.making.shards import Job
from genmodel.data.sources.checksums import checking
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.members import Listing, Member
from genmodel.data.sources.opening import open_source
from genmodel.errors import BlockError, SourceError
from genmodel.files import durable
from genmodel.output.counting import counted

_NOT_GREY = (
    "{image} has colours, but all images of {out} are grey: prepare the block again from all of its sources, with "
    "--channels 3, or with --channels 1 to turn colours grey"
)
_SHOWN = 10  # new classes that an error names
_READ_ROWS = 1 << 13  # members whose digests are kept in one file


@dataclass(frozen=True)
class Findings:
    """A source compared with a block."""

    new: list[Member]
    known: int  # members whose bytes the block has, or has rejected
    elsewhere: int  # of these, images that the block has under another class
    changed: int  # new members whose name the block has with other bytes
    absent: int  # images of the block whose bytes are not in the source


@dataclass(frozen=True)
class Update:
    """What an update did."""

    block: Block
    findings: Findings
    added: int
    rejected: int
    new_files: dict[str, int]  # bytes by name, block.json among them; nothing if nothing was new
    new_classes: list[str]

    def lines(self) -> list[str]:
        """The update in words, as lines."""
        found = self.findings
        lines = [
            f"{counted(self.added, 'new image')}, {self.rejected:,} rejected, {found.known:,} already in the block"
        ]
        if self.new_classes:
            lines.append(f"new classes: {', '.join(self.new_classes)}")
        if found.elsewhere:
            lines.append(f"in the block under another class, left there: {counted(found.elsewhere, 'image')}")
        if found.changed:
            lines.append(f"new bytes under a name that the block has, both kept: {counted(found.changed, 'image')}")
        if found.absent:
            lines.append(f"in the block but not in the source, kept: {counted(found.absent, 'image')}")
        if not self.new_files:
            return [*lines, "nothing to push"]
        lines += account(self.block)
        size = sum(self.new_files.values())
        lines.append(
            f"to push: {counted(len(self.new_files), 'new file')}, {size:,} bytes, and the list of the folder:"
        )
        return lines + [f"  {name}  {size:,}" for name, size in self.new_files.items()]


def update(
    source: str,
    out: Path,
    workers: int = 0,
    max_reject_share: float = 0.01,
    devkit: Path | None = None,
    layout: Layout = Layout(),  # noqa: B008
    make: Maker = make_shards,
) -> Update:
    """Add to the block `out` what is new in `source`, at the block's own sizes and val fraction.

    Errors are those of `prepare`, also if more than `max_reject_share` of the source is new but unusable.
    """
    base = Block.open(out)
    check_settings(base.facts["val_fraction"], max_reject_share, base.sizes)
    recipe = Recipe.of_block(base.facts)
    origin, rows = open_source(source, devkit, out.parent), shard_rows(base.sizes, recipe)
    with checking(origin.files) as finish_checking:
        listing = scan(origin, source, layout, known_of(base))
        new = new_classes(listing, base)
        if new and not layout.allow_new_classes:
            raise SourceError(_refusal(source, listing, new))
        with workplace(out, plan(source, origin, listing, base.sizes, rows, layout, recipe, base.digest)) as place:
            digests: dict[Member, str] = {}
            reading = Job(origin, place / "seen", sizes=())
            for members, outcomes in outcomes_of(reading, listing.members, _READ_ROWS, workers, make, "compare"):
                digests |= {member: str(outcome[0]) for member, outcome in zip(members, outcomes, strict=True)}
            found = _compare(base, listing.members, digests)
            job = Job(origin, place, base.sizes, recipe, base.shard_count())
            if found.new and not (place / "block/block.json").exists():  # otherwise only the move was cut short
                try:
                    convert(job, found.new, rows, workers, max_reject_share * len(listing.members), make)
                except ColouredError as error:
                    raise BlockError(_NOT_GREY.format(image=error, out=out)) from None
                finish_checking()
                if recipe.duplicates == "drop":
                    same.leave_out(job, found.new, rows, base)
                write_generation(job, found.new, rows, base.facts["val_fraction"], listing, base)
            if found.new:
                _move(place / "block", out)
    block = Block.open(out)
    names = [name for name in block.facts["files"] if name not in base.facts["files"]]
    new_files = {name: (out / name).stat().st_size for name in [*names, "block.json"] if names}
    added, rejected = len(block) - len(base), block.facts["rejected"] - base.facts["rejected"]
    return Update(block, found, added, rejected, new_files, block.classes[len(base.classes) :])


def _refusal(source: str, listing: Listing, new: list[str]) -> str:
    shown = ", ".join(new[:_SHOWN]) + (f" and {len(new) - _SHOWN:,} more" if len(new) > _SHOWN else "")
    example = next(member.name for member in listing.members if member.class_name == new[0])
    return (
        f"{source} has classes that the block does not have: {shown} ({example}): use --allow-new-classes to add them, "
        "or --classes to say what the folders mean"
    )


def _compare(base: Block, members: list[Member], digests: dict[Member, str]) -> Findings:
    ledger, rejects = base.ledger(["name", "class", "sha256"]), base.rejects()
    classes: dict[str, set[str]] = {}
    for digest, class_name in zip(ledger["sha256"], ledger["class"], strict=True):
        classes.setdefault(digest, set()).add(class_name)
    names, refused = set(ledger["name"]), set(rejects["sha256"]) - {""}
    unread = {name for name, digest in zip(rejects["name"], rejects["sha256"], strict=True) if not digest}

    def is_known(member: Member) -> bool:
        digest = digests[member]
        return digest in classes or digest in refused or (not digest and member.name in unread)

    new = [member for member in members if not is_known(member)]
    there = set(digests.values())
    return Findings(
        new,
        known=len(members) - len(new),
        elsewhere=sum(m.class_name not in classes.get(digests[m], [m.class_name]) for m in members),
        changed=sum(member.name in names for member in new),
        absent=sum(digest not in there for digest in ledger["sha256"]),
    )


def _move(made: Path, out: Path) -> None:
    """Move the new files into the block, block.json last; what an earlier try has moved is there already."""
    with durable.storage_errors(out):
        for path in sorted(made.rglob("*")):
            target = out / path.relative_to(made)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            elif path.name != "block.json":
                path.replace(target)
        for folder in (path for path in out.iterdir() if path.is_dir()):
            durable.sync_folder(folder)
        durable.sync_folder(out)
        (made / "block.json").replace(out / "block.json")
        durable.sync_folder(out)
