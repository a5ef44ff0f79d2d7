"""ImageNet's validation images, with the labels of ILSVRC2012_devkit_t12.tar.gz.

The devkit numbers the classes by ILSVRC2012_ID, in an order of its own, listed in synsets.py. The synset is the class's
name, as in ILSVRC2012_img_train.tar, so that both give a class the same label.
"""

from collections.abc import Sequence
from pathlib import Path

from genmodel.data.sources.archives.content import stamp_of
from genmodel.data.sources.archives.entries import tar_entries
from genmodel.data.sources.archives.gzipped import open_bytes
from genmodel.data.sources.archives.packed import BESIDE
from genmodel.data.sources.datasets.synsets import SYNSETS
from genmodel.data.sources.members import VALIDATION_NAME, Entry, Found, Locator, Member, Source
from genmodel.errors import SourceError
from genmodel.output.counting import counted

_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_MAX_BYTES = 64 << 20  # of that file


class Validation(Source):
    """A source whose images named ILSVRC2012_val_00000293.JPEG get the devkit's classes.

    `only`: all of its images must be such. `asked`: the devkit was given, not only found; one that was found gives
    classes only to images that are all in one folder, since others may have been sorted in another way.
    """

    def __init__(self, source: Source, devkit: Path, only: bool = False, asked: bool = True) -> None:
        if not devkit.is_file():
            raise SourceError(f"--devkit: there is no file {devkit}")
        self._source, self._devkit, self._only, self._asked = source, devkit, only, asked
        self.name, self.files = source.name, [*source.files, devkit]
        self.stamp = f"{source.stamp} {stamp_of([devkit])}".strip()

    def scan(self) -> Found:
        found = self._source.scan()
        folders = {entry.path.rpartition("/")[0] for entry in found.entries if _number(entry)}
        if not self._asked and len(folders) != 1:
            return found
        if not folders and not self._only:
            raise SourceError(f"{self.name} has no images such as ILSVRC2012_val_00000001.JPEG: leave --devkit out")
        synsets = validation_synsets(self._devkit)
        if found.ignored.get(BESIDE) == (1, self._devkit.name):
            found.ignored["read for labels"] = found.ignored.pop(BESIDE)
        return found._replace(entries=[self._labelled(entry, synsets) for entry in found.entries])

    def _labelled(self, entry: Entry, synsets: Sequence[str]) -> Entry:
        number = _number(entry)
        if number > len(synsets):
            raise SourceError(
                f"{self._devkit} has {counted(len(synsets), 'label')} but none for {entry.path}: fetch it again"
            )
        if number:
            return entry._replace(label=synsets[number - 1])
        return entry._replace(refused=entry.refused or "has no label in the devkit") if self._only else entry

    def read(self, member: Member) -> bytes:
        return self._source.read(member)

    def head(self, locator: Locator) -> bytes:
        return self._source.head(locator)

    def unit(self, member: Member) -> object:
        return self._source.unit(member)


def _number(entry: Entry) -> int:
    """A validation image's number, from 1 on; 0 for any other image."""
    match = VALIDATION_NAME.fullmatch(entry.path.rpartition("/")[2])
    return int(match[1]) if match else 0


def validation_synsets(devkit: Path) -> list[str]:
    """The synset (n01440764, say) of every validation image, the first image's first; SourceError for a bad devkit."""
    truth = None
    content = open_bytes(devkit)
    for entry in tar_entries(content, 0, content.length, str(devkit)):
        if entry.name.rpartition("/")[2] == _TRUTH and not entry.special and entry.size <= _MAX_BYTES:
            truth = content.read_at(entry.offset, entry.size)
    if truth is None:
        raise SourceError(f"{devkit} is not the devkit of ILSVRC2012 (it has no {_TRUTH}): fetch it again")
    known = {str(number): synset for number, synset in enumerate(SYNSETS, 1)}
    try:
        return [known[number] for number in truth.decode().split()]
    except (KeyError, ValueError) as error:
        raise SourceError(f"{devkit} is not the devkit of ILSVRC2012 ({error!r}): fetch it again") from error
