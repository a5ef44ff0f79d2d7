"""Well-known archives, and the MD5 by which an intact copy is recognised.

The MD5s are those that the publishers and torchvision give. Python's tarfile and every image decoder accept many
flipped bits: only the archive's checksum finds them.
"""

import contextlib
import fnmatch
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from genmodel.data.sources.stalls import reading
from genmodel.errors import SourceError

_CHUNK = 1 << 20
_FIX = "fetch it again, or rename it if it is not meant to be the archive of that name"
# the file's name, its bytes (None: not confirmed), its MD5
_KNOWN: tuple[tuple[str, int | None, str], ...] = (
    ("ILSVRC2012_img_train.tar", 147_897_477_120, "1d675b47d978889d74fa0da5fadfb00e"),
    ("ILSVRC2012_img_val.tar", 6_744_924_160, "29b22e2961454d5413ddabcf34fc5622"),
    ("ILSVRC2012_devkit_t12.tar.gz", None, "fa75699e90414af021442c21a62c3abf"),
    ("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a"),
    ("cifar-10-binary.tar.gz", 170_052_171, "c32a1d4ab5d03f1284b67883e8d87530"),
    ("cifar-100-python.tar.gz", 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85"),
    ("cifar-100-binary.tar.gz", 168_513_733, "03b5dce01913d631647c71ecec9e9cb8"),
    ("*images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),  # MNIST, train
    ("*labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
    ("*images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),  # MNIST, t10k
    ("*labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
)


def known_md5(path: Path) -> str:
    """The MD5 required of a file named like a known archive; empty for any other.

    With a suffix, as in "ILSVRC2012_img_val (1).tar", a file is a known archive only if its size is the same.
    SourceError if it has the exact name and another size.
    """
    size = path.stat().st_size
    for name, length, md5 in _KNOWN:
        if path.name == name:
            if length not in (None, size):
                raise SourceError(f"{path} is not the whole archive: it has {size:,} bytes, not {length:,}; {_FIX}")
            return md5
        stem, dot, ending = name.partition(".")
        if length == size and fnmatch.fnmatch(path.name, f"{stem}*{dot}{ending}"):
            return md5
    return ""


@contextlib.contextmanager
def checking(paths: Sequence[Path]) -> Iterator[Callable[[], None]]:
    """Compute the MD5 of the known archives among `paths` in a thread, while the `with` block runs.

    Yields a function that waits for it; it raises SourceError if one of them is not what its name promises. A wrong
    size is reported at once.
    """
    todo = [(path, md5) for path in paths if (md5 := known_md5(path))]
    problems: list[str] = []
    stop = threading.Event()

    def check() -> None:
        for path, expected in todo:
            try:
                found = _md5(path, stop)
            except OSError as error:
                problems.append(f"{path} cannot be read: {error.strerror}")
                continue
            if found != expected:
                problems.append(f"{path} is damaged: its MD5 is {found}, not {expected}; {_FIX}")

    def finish() -> None:
        thread.join()
        if problems:
            raise SourceError(problems[0])

    thread = threading.Thread(target=check, daemon=True)
    thread.start()
    try:
        yield finish
    finally:
        stop.set()
        thread.join()


def _md5(path: Path, stop: threading.Event) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as handle:
        while not stop.is_set():
            with reading(path):
                chunk = handle.read(_CHUNK)
            if not chunk:
                break
            digest.update(chunk)
    return digest.hexdigest()
