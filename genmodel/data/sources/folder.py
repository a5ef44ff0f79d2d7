"""A folder of images on disk, with the links in it."""

import os
import re
from pathlib import Path

from genmodel.data.sources.archives.kinds import ARCHIVES, HEAD, kind_of
from genmodel.data.sources.archives.packed import BESIDE, ENDING, special_mode
from genmodel.data.sources.members import Collector, Found, Locator, Member, Reject, Source, is_hidden
from genmodel.data.sources.stalls import each_read, reading
from genmodel.errors import SourceError

_FOLDER_LINKS = 10_000  # the most that are followed
# Stores of contents by digest: DVC's cache, the hub's, git-annex's. A link into one only avoids a second copy, and
# cannot lead to another file than the one meant.
_STORE = re.compile(
    rb"/(files/md5|cache|tmp)/[0-9a-f]{2}/[0-9a-f]{30}$|/blobs/([0-9a-f]{40}|[0-9a-f]{64})$|/\.git/annex/objects/"
)

Chain = tuple[bytes, ...]  # a folder's path from the source down, folder by folder, links resolved


class Folder(Source):
    """A folder of class folders, or of images.

    Links are followed if they lead into the folder or a store of contents by digest, but not in circles.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self.name = self._path.name

    def scan(self) -> Found:
        found = Collector(self.head)
        folders: list[tuple[str, Chain]] = [("", (os.fsencode(self._path),))]
        followed = 0
        while folders:
            folder, chain = folders.pop()
            try:
                with reading(self._path / folder), os.scandir(self._raw(folder)) as entries:
                    for entry in each_read(self._path / folder, entries):
                        path = folder + entry.name.decode("utf-8", "surrogateescape")
                        special, target = self._link(entry, path, chain) if entry.is_symlink() else ("", b"")
                        if not special and entry.is_dir():
                            own = os.path.join(chain[-1], entry.name)  # noqa: PTH118
                            folders.append((path + "/", (*chain, target or own)))
                            followed += bool(target)
                        else:
                            facts = entry.stat(follow_symlinks=not special)
                            locator = (path, facts.st_size, facts.st_mtime_ns)
                            special = special or special_mode(facts.st_mode)
                            if not special and ENDING.search(path) and kind_of(self._head(path, HEAD)) in ARCHIVES:
                                found.ignore(path, BESIDE)
                            else:
                                found.add(path, locator, facts.st_size, special)
            except OSError as error:
                raise SourceError(f"cannot read {self._path / folder}: {error.strerror}") from error
            if followed > _FOLDER_LINKS:
                raise SourceError(
                    f"{self._path} leads through more than {_FOLDER_LINKS:,} links to folders: remove some"
                )
        return found.found()

    def _link(self, link: os.DirEntry[bytes], path: str, chain: Chain) -> tuple[str, bytes]:
        """Why a link is not followed, or empty, and its target; SourceError for a folder outside."""
        target = os.path.realpath(link.path)
        if not os.path.exists(target):  # noqa: PTH110
            return "a broken link", target
        if target in chain:
            return "a link to a folder that it is in", target
        inside = target.startswith(os.path.join(chain[0], b""))  # noqa: PTH118
        if inside or (_STORE.search(target) and not link.is_dir()):
            return "", target
        if link.is_dir() and not is_hidden(path):  # it may be a whole class, and would count as one reject
            raise SourceError(
                f"{self._path / path} is a link to a folder outside the source ({os.fsdecode(target)}): put the "
                "folder itself there, or remove the link"
            )
        return "a link out of the source", target

    def _raw(self, path: str) -> bytes:
        """A path inside, as bytes. Names are UTF-8 in any locale, as in a tar, or classes would depend on it."""
        return os.path.join(os.fsencode(self._path), path.encode("utf-8", "surrogateescape"))  # noqa: PTH118

    def head(self, locator: Locator) -> bytes:
        return self._head(str(locator[0]), 32)

    def _head(self, path: str, size: int) -> bytes:
        try:
            with reading(self._path / path), open(self._raw(path), "rb", buffering=0) as handle:  # noqa: PTH123
                return handle.read(size)
        except OSError:
            return b""

    def read(self, member: Member) -> bytes:
        try:
            place = str(member.locator[0])
            with reading(self._path / place), open(self._raw(place), "rb", buffering=0) as handle:  # noqa: PTH123
                return handle.read()
        except FileNotFoundError as error:
            raise SourceError(f"{self._path} changed while it was read: {member.name} is gone") from error
        except OSError as error:
            raise Reject(f"cannot be read: {error.strerror}") from error
