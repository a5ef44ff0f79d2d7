"""From an image's bytes to square uint8 pixels, by the resize of ADM (guided diffusion), the field's usual one.

RGB; halve with BOX while the short side is at least twice the target; BICUBIC to the target; integer centre crop.
Dhariwal and Nichol 2021, https://arxiv.org/abs/2105.05233. EXIF orientation is not applied, as there.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, features

from genmodel.data.making import jpeg
from genmodel.data.making.resample import bicubic, halve
from genmodel.data.sources.members import Reject
from genmodel.output.printable import printable

RECIPE = "adm-1"
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP")
MAX_RESIZED_PIXELS = 1 << 26  # 64 Mpx between the resize and the crop: a 1x40000 image would need more
_ORIENTATION = 0x0112  # EXIF's tag
_TILE = 322, 323  # TIFF's tags: a tile's width and height
_MAX_TILE = 1 << 22  # pixels, in an image that is smaller


@dataclass(frozen=True)
class Facts:
    """What an image was before it was resized."""

    width: int
    height: int
    mode: str  # Pillow's: L, RGB, CMYK, P, RGBA, I;16, ...
    format: str
    repairs: str  # of "16-bit" (scaled to 8), "corrupt-exif", "exif-rotated" (left as stored), "first-frame"; by commas


def versions() -> dict[str, str]:
    """The decoders whose change may change pixels."""
    import PIL

    libjpeg = features.version("libjpeg_turbo") or features.version("jpg") or "none"
    return {"pillow": PIL.__version__, "libjpeg": libjpeg}


def decode(content: bytes) -> tuple[Image.Image, Facts]:
    """The RGB image of a file's bytes, and its facts; Reject with the reason if it cannot be used whole."""
    if not content:
        raise Reject("an empty file")
    if usual := jpeg.decoded(content):
        return usual, Facts(*usual.size, usual.mode, "JPEG", "")
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # a cut image is a reject, whatever another library has set
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                rotated, animated = _is_rotated(image), getattr(image, "is_animated", False)
                width, height, mode = *image.size, image.mode
                _check_tiles(image)
                image.load()
                rgb, deep = _to_rgb(image)
    except Reject:
        raise
    except UnidentifiedImageError as error:
        raise Reject(f"none of {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Reject(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except Exception as error:  # decoders raise nearly every kind of exception on damaged bytes
        raise Reject(_reason(error)) from error
    corrupt = any("EXIF" in str(warning.message) for warning in said)
    notes = {"16-bit": deep, "corrupt-exif": corrupt, "exif-rotated": rotated, "first-frame": animated}
    repairs = ",".join(note for note, applies in notes.items() if applies)
    return rgb, Facts(width, height, mode, image.format or "", repairs)


def _check_tiles(image: Image.Image) -> None:
    """Reject a TIFF whose decoder would take memory for tiles of any size that its header claims."""
    tags: Mapping[int, int] = getattr(image, "tag_v2", {})
    width, height = (tags.get(tag, 0) for tag in _TILE)
    if width * height > max(image.width * image.height, _MAX_TILE):
        raise Reject(f"tiles of {width}x{height} pixels in an image of {image.width}x{image.height}")


def _is_rotated(image: Image.Image) -> bool:
    return "exif" in image.info and image.getexif().get(_ORIENTATION, 1) not in (0, 1)


def _to_rgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """Pillow's convert("RGB"), which drops alpha; but 16 bits are scaled to 8, where it would clip them."""
    if image.mode == "RGB":
        return image, False  # convert would copy it
    if image.mode == "F":
        raise Reject("floating-point pixels, whose range is not known")
    if not image.mode.startswith("I"):
        return image.convert("RGB"), False
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 0xFFFF:
        raise Reject("32-bit pixels, whose range is not known")
    return Image.fromarray(((levels * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8)).convert("RGB"), True


def _reason(error: Exception) -> str:
    """An exception's text without addresses in memory, on one line, so that it is the same in every run."""
    text = re.sub(r"<[^>]* at 0x[0-9a-f]+>|0x[0-9a-f]{6,}", "...", f"{error}")
    return f"cannot be decoded: {printable(' '.join(text.split()))[:200] or type(error).__name__}"


def resize(image: Image.Image, target: int) -> np.ndarray:
    """ADM's resize of an RGB image: uint8 [target, target, 3]; Reject for an absurd aspect ratio."""
    return resize_all(image, [target])[target]


def resize_all(image: Image.Image, targets: Sequence[int]) -> dict[int, np.ndarray]:
    """`resize` to several sizes, each from the original; they share the halvings, which changes no pixel.

    The horizontal pass comes first and the vertical one after it, as in every call of a Pillow before 13; a later one
    begins with the vertical pass of some tall images, which rounds differently.
    """
    result = {}
    for target in sorted(targets, reverse=True):
        while min(image.size) >= 2 * target:
            image = halve(image)
        scale = target / min(image.size)
        width, height = round(image.width * scale), round(image.height * scale)
        if width * height > MAX_RESIZED_PIXELS:
            raise Reject(f"too long and narrow: {width}x{height} at {target} px")
        result[target] = bicubic(image, (width, height), target)
    return result
