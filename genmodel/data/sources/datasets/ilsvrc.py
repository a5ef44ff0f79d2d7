"""ImageNet's validation images, ILSVRC2012_img_val.tar, with the labels of ILSVRC2012_devkit_t12.tar.gz.

The devkit numbers the classes by ILSVRC2012_ID, in an order of its own, listed in synsets.py. The synset is the class's
name, as in ILSVRC2012_img_train.tar, so that both give a class the same label.
"""

import re
from pathlib import Path

from genmodel.data.sources.archives.entries import open_bytes, stamp_of, tar_entries
from genmodel.data.sources.archives.packed import Packed
from genmodel.data.sources.datasets.synsets import SYNSETS
from genmodel.data.sources.members import Collector, Found, is_image
from genmodel.errors import SourceError
from genmodel.output.counting import counted

VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_MAX_BYTES = 64 << 20  # of that file


class Validation(Packed):
    """The images by class: n01440764/ILSVRC2012_val_00000293.JPEG, say."""

    def __init__(self, path: Path, devkit: Path | None, room: Path | None = None) -> None:
        super().__init__([([path], "")], path.name, room)
        self._path, self._devkit = path, devkit or path.with_name(DEVKIT)
        if not self._devkit.is_file():
            raise SourceError(f"{path} has no labels: put {DEVKIT} beside it, or say where it is with --devkit")
        self.files = [path, self._devkit]
        self.stamp = stamp_of(self.files)

    def scan(self) -> Found:
        synsets = validation_synsets(self._devkit)
        found = Collector()
        stream = self._streams.unpacked(0)
        content = self._streams.open(stream)
        for entry in tar_entries(content, 0, content.length, str(self._path)):
            match = VALIDATION_NAME.fullmatch(entry.name.removeprefix("./"))
            number = int(match[1]) if match else 0
            if number > len(synsets):
                raise SourceError(
                    f"{self._devkit} has {counted(len(synsets), 'label')} but none for {entry.name}: fetch it again"
                )
            label = synsets[number - 1] if number else None
            special = entry.special or ("" if number or not is_image(entry.name) else "has no label in the devkit")
            found.add(entry.name, (stream, entry.offset, entry.size), entry.size, special, label=label)
        return found.found()


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
