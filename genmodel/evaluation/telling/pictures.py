"""A model's pictures as the page shows them: small WebP files in an allotted number of bytes, kept in a cache."""

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageSequence

from genmodel.files import durable

SIDE, MOVING_SIDE = 640, 360  # pixels, of a still picture and of a replay at most
_ROOM = 2_600_000  # bytes of all pictures: as base64 they take a third more, and the page is to stay below 4 MB
_SHARES = {"grid": 0.3, "neighbours": 0.15, "walk": 0.05, "replay": 0.5}  # of a model's part
_MOST = 400_000  # bytes of one picture, however few models there are
_MOVING = [(360, 1, 50), (300, 1, 45), (260, 2, 45), (220, 2, 40), (200, 3, 35), (160, 4, 30), (120, 6, 25)]
_STILL = [(640, 80), (512, 70), (400, 60), (320, 50), (240, 40)]
_FIRST = 1200  # ms for which a replay shows its end before it starts

Frame = tuple[Image.Image, int]  # a picture and how long it is shown, in ms


class Room(NamedTuple):
    """How many bytes each kind of picture of one of `models` may take."""

    models: int

    def of(self, kind: str) -> int:
        return min(_MOST, int(_ROOM * _SHARES[kind] / (self.models + 1)))


def embedded(path: Path, room: int, cache: Path | None, used: set[Path]) -> str:
    """The picture at `path` as base64 of a WebP, or nothing if there is none; `used` learns which file of the cache
    it is."""
    if not path.exists():
        return ""
    kept = cache / f"{durable.digest_file(path)[:32]}-{room}.webp" if cache else None
    if kept is None:
        return base64.b64encode(_smaller(path, room)).decode()
    used.add(kept)
    try:
        made = kept.read_bytes()
    except FileNotFoundError:
        made = _smaller(path, room)
        durable.write_bytes(kept, made)
    return base64.b64encode(made).decode()


def prune(cache: Path, used: set[Path]) -> None:
    """Delete from the cache what no picture of the page came from."""
    for path in set(cache.glob("*.webp")) - used:
        path.unlink(missing_ok=True)


def _smaller(path: Path, room: int) -> bytes:
    """A PNG or GIF as WebP of at most `room` bytes, if any way of making it smaller gets there."""
    with Image.open(path) as picture:
        frames = [(frame.convert("RGB"), frame.info.get("duration", 0)) for frame in ImageSequence.Iterator(picture)]
    made = b""
    for made in _moving(frames, room) if len(frames) > 1 else _still(frames[0][0]):
        if len(made) <= room:
            break
    return made


def _still(picture: Image.Image) -> Iterator[bytes]:
    if max(picture.size) < SIDE:
        yield _webp([(picture, 0)], lossless=True, quality=80)
    for side, quality in _STILL:
        yield _webp([(_fitted(picture, side), 0)], quality=quality)


def _moving(frames: Sequence[Frame], room: int) -> Iterator[bytes]:
    """Each way gives about as many bytes as it has pixels: those that are far too large by the first are left out."""
    *_, (last, _) = frames
    bytes_per_pixel = 0.0
    for side, step, quality in _MOVING:
        thinned = _thinned(frames, step)
        pixels = min(side / max(last.size), 1) ** 2 * last.width * last.height * len(thinned)
        if bytes_per_pixel * pixels > 1.3 * room:
            continue
        shown = [(_fitted(picture, side), lasting) for picture, lasting in thinned]
        made = _webp([(shown[-1][0], _FIRST), *shown], quality=quality)
        bytes_per_pixel = bytes_per_pixel or len(made) / pixels
        yield made


def _thinned(frames: Sequence[Frame], step: int) -> list[Frame]:
    """Every `step`-th frame and the last, each shown for as long as those that it stands for."""
    kept = [
        (frames[at][0], sum(lasting for _, lasting in frames[at : at + step])) for at in range(0, len(frames), step)
    ]
    return [*kept[:-1], (frames[-1][0], kept[-1][1])]


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    smaller = picture.copy()
    smaller.thumbnail((side, side))
    return smaller


def _webp(frames: Sequence[Frame], quality: int, lossless: bool = False) -> bytes:
    (first, lasting), *rest = frames
    moving = {
        "save_all": True,
        "append_images": [picture for picture, _ in rest],
        "duration": [lasting, *(lasting for _, lasting in rest)],
        "loop": 0,
    }
    buffer = io.BytesIO()
    first.save(buffer, format="WEBP", lossless=lossless, quality=quality, **(moving if rest else {}))
    return buffer.getvalue()
