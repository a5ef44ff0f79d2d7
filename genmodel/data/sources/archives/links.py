"""Hard and symbolic links inside a tar: each stands for its target, if that is in the same tar."""

import posixpath
from collections.abc import Callable, Iterable, Iterator

from genmodel.data.sources.archives.entries import Entry

_LONGEST = 8  # links in a chain
_ADDED = 1 << 20  # entries that links to folders may add


def followed(entries: Callable[[], Iterable[Entry]]) -> Iterator[Entry]:
    """The entries of a tar, then its links as their targets; `entries` iterates over the tar, again if needed.

    Links that leave the tar, point to nothing or form a circle stay links, with a reason.
    """
    links: list[Entry] = []
    for entry in entries():
        if entry.link:
            links.append(entry)
        else:
            yield entry
    if not links:
        return
    targets = {_target(link) for link in links}
    files: dict[str, Entry] = {}  # by path, those that links may point to
    folders: dict[str, list[Entry]] = {}
    for entry in entries():
        path = posixpath.normpath(entry.name)
        if path in targets and not entry.special:
            files[path] = entry
        above = posixpath.dirname(path)
        while above and above != "/" and not entry.special:
            if above in targets:
                folders.setdefault(above, []).append(entry)
            above = posixpath.dirname(above)
    leads = {posixpath.normpath(link.name): _target(link) for link in links}
    added = 0
    for link in links:
        target = _target(link)
        for _ in range(_LONGEST):
            target = leads.get(target, target)
        if target.startswith(("/", "..")):
            yield link._replace(special="a link out of the archive", link="")
        elif target in files:
            yield link._replace(offset=files[target].offset, size=files[target].size, special="", link="")
        elif target in folders and added < _ADDED:
            for entry in folders[target]:
                added += 1
                inside = posixpath.relpath(posixpath.normpath(entry.name), target)
                yield entry._replace(name=f"{link.name.rstrip('/')}/{inside}")
        else:
            yield link._replace(special="a link to something that is not in the archive", link="")


def _target(link: Entry) -> str:
    """A link's target, as a path from the archive's root."""
    folder = "" if link.hard else posixpath.dirname(link.name)
    return posixpath.normpath(posixpath.join(folder, link.link))
