"""From a file's bytes to the pixels of one image, upright, on its background, with the recipe's channels."""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, features

from genmodel.data.imaging import jpeg, jxl, levels, transparency
from genmodel.data.making.recipe import DROPPED, FAST, Recipe
from genmodel.data.sources.members import Reject
from genmodel.output.printable import printable
from genmodel.sizes import Size

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "HEIF", "JXL")
COLOURED = "has colours, in a block of one channel"  # the reason for rejecting an image where none may have colours
_PLUGINS = {"HEIF": ("pillow_heif", "pillow-heif"), "JXL": ("pillow_jxl", "pillow-jxl-plugin")}
_LIBRARIES = {"AVIF": ("libavif", "avif"), "JPEG2000": ("openjpeg", "jpg_2000")}
_ORIENTATION = 0x0112  # the tag in EXIF and in TIFF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = 5, 6, 7, 8
_HEIF = b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"  # an ISO file's main brands
_AVIF = b"avif", b"avis"
_JXL = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_JPEG2000 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"
_TILE = 322, 323  # TIFF's tags: a tile's width and height
_MAX_TILE = 1 << 22  # pixels of a tile that is larger than its image


@dataclass(frozen=True)
class Facts:
    """What an image was before it was resized."""

    width: int  # as stored
    height: int
    mode: str  # Pillow's: L, RGB, CMYK, P, RGBA, I;16, ...
    format: str
    # by commas: "16-bit" (scaled to 8), "declared-bits" (of these 16), "corrupt-exif", "exif-rotated" (left as stored),
    # "exif-upright" (turned), "first-frame" (of several), "composed" (transparent, on the background), "alpha" (kept)
    repairs: str
    extent: tuple[float, float] | None = None  # width and height, if decoded at a reduced scale


@cache
def _plugins() -> dict[str, str]:
    """The versions of the installed plugins, which add formats to Pillow."""
    found = {}
    for module, package in _PLUGINS.values():
        with contextlib.suppress(ImportError, OSError):
            plugin = import_module(module)
            if hasattr(plugin, "register_heif_opener"):
                plugin.register_heif_opener()
            found[package] = metadata.version(package)
    return found


def versions(formats: Collection[str] = FORMATS) -> dict[str, str]:
    """The versions of the decoders that the pixels of images of the given formats depend on."""
    import PIL

    libjpeg = features.version("libjpeg_turbo") or features.version("jpg") or "none"
    told = {"pillow": PIL.__version__, "libjpeg": libjpeg}
    for form, (library, feature) in _LIBRARIES.items():
        if form in formats and features.check(feature):
            told[library] = str(features.version(feature))
    return told | {package: version for package, version in _plugins().items() if _format_of(package) in formats}


def _format_of(package: str) -> str:
    return next(form for form, (_, name) in _PLUGINS.items() if name == package)


def decode(content: bytes, recipe: Recipe = Recipe(), sizes: Sequence[Size] = ()) -> tuple[Image.Image, Facts]:  # noqa: B008
    """The image in a file's bytes, RGB, or RGBa (premultiplied) for four channels, and its facts.

    What a recipe leaves open is as in ADM's: nothing is rotated, three channels. `sizes` are those that will be made
    from the image: fast-1 decodes a JPEG at the smallest of its scales (1/8, 1/4, 1/2, 1) that covers them. Reject,
    with the reason, if the whole image cannot be used.
    """
    if not content:
        raise Reject("an empty file")
    need = _need(sizes) if recipe.resize == FAST else None
    with _bounded(recipe.max_pixels):
        if usual := jpeg.decoded(content, need):
            image, size = usual
            return _channels(image, recipe)[0], Facts(*size, "RGB", "JPEG", "", _extent(image, *size))
        return _opened(content, recipe, need)


def _need(sizes: Sequence[Size]) -> tuple[int, int] | None:
    """The width and height that a JPEG may be reduced to: no further than ADM's halvings would."""
    return (max(size.width for size in sizes), max(size.height for size in sizes)) if sizes else None


def _extent(image: Image.Image, width: int, height: int) -> tuple[float, float] | None:
    """The extent of an image stored with the given sides, and perhaps decoded at a reduced scale."""
    scale = next(scale for scale in (1, 2, 4, 8) if -(-width // scale) == image.width)
    return (width / scale, height / scale) if scale > 1 else None


@contextlib.contextmanager
def _bounded(max_pixels: int) -> Iterator[None]:
    """Set Pillow's pixel limit, which it checks before allocating, and reject truncated images, whatever others set."""
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = max_pixels, False
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


@cache
def known() -> list[str]:
    """The formats that can be opened here, by Pillow's names."""
    _plugins()
    Image.init()
    return [form for form in FORMATS if form in Image.OPEN]


def _opened(content: bytes, recipe: Recipe, need: tuple[int, int] | None) -> tuple[Image.Image, Facts]:
    """The image by Pillow's decoder for its format, and its facts."""
    if math.prod(jxl.size(content) or ()) > recipe.max_pixels:
        raise Reject(f"more than {recipe.max_pixels:,} pixels")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=known()) as image:
                extent: tuple[float, float] | None = None
                animated, (width, height), mode = getattr(image, "is_animated", False), image.size, image.mode
                _check_tiles(image)
                turn = _turn(image)
                if need:
                    image.draft(image.mode, need[::-1] if recipe.orient and turn in _ON_ITS_SIDE else need)
                    extent = _extent(image, width, height)
                image.load()
                deep, fewer = levels.is_deep(image), False
                transparency.scale_key(image, content)
                plain: Image.Image = image
                if deep:
                    plain, fewer = levels.to_8_bits(image, content, recipe.bits)
                if recipe.orient and turn > 1 and image.format != "TIFF":
                    plain = plain.transpose(_TURNS[turn])
                    extent = extent[::-1] if extent and turn in _ON_ITS_SIDE else extent
                made, clear = _channels(plain, recipe)
    except Reject:
        raise
    except UnidentifiedImageError as error:
        raise Reject(_unknown(content)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Reject(f"more than {recipe.max_pixels:,} pixels") from error
    except Exception as error:  # decoders raise nearly every kind of exception on damaged bytes
        raise Reject(_reason(error)) from error
    corrupt = any("EXIF" in str(warning.message) for warning in said)
    upright = recipe.orient or image.format == "TIFF"
    notes = {"16-bit": deep, "declared-bits": fewer, "corrupt-exif": corrupt}
    notes |= {"exif-upright" if upright else "exif-rotated": turn > 1, "first-frame": animated}
    notes |= {"alpha" if recipe.channels == 4 else "composed": clear}
    repairs = ",".join(note for note, applies in notes.items() if applies)
    return made, Facts(width, height, mode, image.format or "", repairs, extent)


def _check_tiles(image: Image.Image) -> None:
    """Reject a TIFF with huge tiles: its decoder would allocate whatever tile size the header claims."""
    tags: Mapping[int, int] = getattr(image, "tag_v2", {})
    width, height = (tags.get(tag, 0) for tag in _TILE)
    if width * height > max(image.width * image.height, _MAX_TILE):
        raise Reject(f"tiles of {width}x{height} pixels in an image of {image.width}x{image.height}")


def _turn(image: Image.Image) -> int:
    """EXIF's orientation, 1 for upright. A TIFF's is part of how it is stored: Pillow always applies it on loading."""
    tags: Mapping[int, object] = image.tag_v2 if image.format == "TIFF" else image.getexif()  # type: ignore[attr-defined]
    turn = tags.get(_ORIENTATION, 1)
    return turn if isinstance(turn, int) and turn in _TURNS else 1


def _channels(image: Image.Image, recipe: Recipe) -> tuple[Image.Image, bool]:
    """The image in the mode for resizing, and whether it has transparency that is not ignored."""
    if recipe.background == DROPPED:
        return image if image.mode == "RGB" else image.convert("RGB"), False
    if recipe.channels == 4:
        return transparency.premultiplied(image)
    plain, clear = transparency.composed(image, recipe)
    if recipe.channels == 1 and recipe.luma:
        return plain.convert("L").convert("RGB"), clear
    if recipe.channels == 1 and image.mode not in ("L", "1") and _has_colour(plain):
        raise Reject(COLOURED)
    return plain, clear


def _has_colour(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return any(bool((some[..., :1] != some[..., 1:]).any()) for some in (pixels[::16], pixels))  # most show it at once


def _unknown(content: bytes) -> str:
    """Why bytes are not an image that can be opened here."""
    brand = content[8:12] if content[4:8] == b"ftyp" else b""
    if brand in _HEIF and "HEIF" not in known():
        return "a HEIC file: pip install pillow-heif"
    if brand in _AVIF and not features.check("avif"):
        return "an AVIF file, which this build of Pillow cannot read"
    if content.startswith(_JXL) and "JXL" not in known():
        return "a JPEG XL file: pip install pillow-jxl-plugin"
    if content.startswith(_JPEG2000) and not features.check("jpg_2000"):
        return "a JPEG 2000 file, which this build of Pillow cannot read"
    return f"not in a format that can be read ({', '.join(known())})"


def _reason(error: Exception) -> str:
    """An exception's text without addresses in memory, on one line, so that it is the same in every run."""
    text = re.sub(r"<[^>]* at 0x[0-9a-f]+>|0x[0-9a-f]{6,}", "...", f"{error}")
    return f"cannot be decoded: {printable(' '.join(text.split()))[:200] or type(error).__name__}"
