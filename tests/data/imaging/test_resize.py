"""ADM's resize against an implementation in plain numpy; every kind of image file; what is refused and why."""

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from genmodel.data.imaging.decode import decode
from genmodel.data.imaging.resize import resize, resize_all
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.members import Reject
from genmodel.data.sources.opening import open_source
from genmodel.files.durable import digest_bytes
from genmodel.sizes import Size

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]
Kernel = Callable[[float], float]

# A 40x30 JPEG with subsampled colours, as bytes, so that the decoder alone decides on its pixels.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYV"
    "pQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAe"
    "ACgDASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhBy"
    "JxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKT"
    "lJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAA"
    "AAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRom"
    "JygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExc"
    "bHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwDiYrXParcdoO4q/BbfLnFSGLnAFe/VxNKhSU5nNh8Q2yolug6i"
    "pkjQdFzVyGyL8mriW8cfbJrzpYytOPPZQj5nu4fEIoRx56RfpRWvHC7fcTAorn+szlqnJ+kVY9eGI0KyW+IulPt7Te2SOK0DCBEKsxwhIcjvWO"
    "IrKdZc20Vc/LsNiHYo+Uc7EFWY7RYxl+TV2CBVTeeTVmG3Vh5j8+1ccq8pyUpayeq7Jdz3MPiLFKO3dx/dWitaKAS/Mx+UdhRXP7R1Petfzba/"
    "BbI9eGIsj//Z"
)


def box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def cubic(x: float) -> float:
    """Keys' kernel with a = -1/2."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def weights(size: int, target: int, kernel: Kernel, support: float) -> np.ndarray:
    """[target, size] in fixed point of 22 bits, as a resampler of 8-bit pixels uses them."""
    scale = size / target
    stretch = max(scale, 1.0)
    table = np.zeros((target, size), np.int64)
    for i in range(target):
        centre = (i + 0.5) * scale
        first = max(0, int(centre - support * stretch + 0.5))
        last = min(size, int(centre + support * stretch + 0.5))
        row = np.array([kernel((j - centre + 0.5) / stretch) for j in range(first, last)])
        row = row / row.sum() * (1 << 22)
        table[i, first:last] = np.trunc(row + np.where(row < 0, -0.5, 0.5))
    return table


def resample(pixels: np.ndarray, width: int, height: int, kernel: Kernel, support: float) -> np.ndarray:
    """Horizontally, then vertically, rounded to 8 bits in between."""
    values = pixels.astype(np.int64)
    if width != pixels.shape[1]:
        sums = np.einsum("oi,hic->hoc", weights(pixels.shape[1], width, kernel, support), values)
        values = ((sums + (1 << 21)) >> 22).clip(0, 255)
    if height != pixels.shape[0]:
        sums = np.einsum("oi,iwc->owc", weights(pixels.shape[0], height, kernel, support), values)
        values = ((sums + (1 << 21)) >> 22).clip(0, 255)
    return values.astype(np.uint8)


def adm(pixels: np.ndarray, target: int) -> np.ndarray:
    """The recipe of the paper's appendix, in numpy alone."""
    while min(pixels.shape[:2]) >= 2 * target:
        pixels = resample(pixels, pixels.shape[1] // 2, pixels.shape[0] // 2, box, 0.5)
    scale = target / min(pixels.shape[:2])
    height, width = (round(side * scale) for side in pixels.shape[:2])
    pixels = resample(pixels, width, height, cubic, 2.0)
    top, left = (height - target) // 2, (width - target) // 2
    return pixels[top : top + target, left : left + target]


SHAPES = [(50, 37), (37, 50), (64, 64), (16, 16), (9, 13), (1, 1), (3, 40), (131, 65), (33, 200), (15, 31)]


@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_pixels_equal_an_independent_implementation(width: int, height: int, picture: Picture) -> None:
    image = picture(width * height, width, height)
    sizes = resize_all(image, [Size(8, 8), Size(16, 16), Size(32, 32)])
    for (target, _), pixels in sizes.items():
        assert pixels.shape == (target, target, 3) and pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, adm(np.asarray(image), target))
        np.testing.assert_array_equal(pixels, resize(image, target))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.integers(0, 1000))
def test_pixels_equal_for_any_shape(width: int, height: int, target: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(resize(Image.fromarray(pixels), target), adm(pixels, target))


def test_real_images_equal_plain_pillow(shared: Callable[[str], str]) -> None:
    """Each size apart by Pillow's resize alone, and from real files, whatever shortcuts are taken here."""
    source = open_source(shared("ILSVRC2012_img_train.sample.tar"))
    for member in listing_of(source).members[::40]:
        content = source.read(member)
        plain, (image, _) = Image.open(io.BytesIO(content)).convert("RGB"), decode(content)
        assert image.tobytes() == plain.tobytes()
        for (target, _), pixels in resize_all(image, [Size(side, side) for side in (256, 128, 64)]).items():
            whole = plain
            while min(whole.size) >= 2 * target:
                whole = whole.resize((whole.width // 2, whole.height), Image.Resampling.BOX)
                whole = whole.resize((whole.width, whole.height // 2), Image.Resampling.BOX)
            width, height = (round(side * target / min(whole.size)) for side in whole.size)
            whole = whole.resize((width, whole.height), Image.Resampling.BICUBIC)
            whole = whole.resize((width, height), Image.Resampling.BICUBIC)
            left, top = (width - target) // 2, (height - target) // 2
            np.testing.assert_array_equal(pixels, np.asarray(whole)[top : top + target, left : left + target])


def test_golden_pixels() -> None:
    """A Pillow or a libjpeg that changes pixels must be noticed: it would change every block."""
    image, facts = decode(JPEG)
    assert (facts.width, facts.height, facts.mode, facts.format) == (40, 30, "RGB", "JPEG")
    assert digest_bytes(image.tobytes())[:16] == "0316d4a059de5410"
    assert digest_bytes(resize(image, 16).tobytes())[:16] == "038b8382dc34af1c"
    ramp = (np.arange(61 * 47 * 3, dtype=np.uint32) * 2654435761 >> 24).astype(np.uint8).reshape(47, 61, 3)
    assert digest_bytes(resize(Image.fromarray(ramp), 20).tobytes())[:16] == "481e52c7ed1af846"


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *[("L", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("P", "PNG"), ("P", "GIF")],
        *[("1", "PNG"), ("RGB", "BMP"), ("RGB", "TIFF"), ("CMYK", "TIFF"), ("LAB", "TIFF"), ("RGB", "PPM")],
        ("RGB", "WEBP"),
    ],
)
def test_modes_become_rgb_as_pillow_converts_them(mode: str, form: str, picture: Picture, encode: Encode) -> None:
    source = picture(1, 23, 19) if mode == "LAB" else picture(1, 23, 19, mode)
    if mode == "LAB":
        source = Image.frombytes("LAB", source.size, source.tobytes())
    content = encode(source, form)
    image, facts = decode(content)
    expected = Image.open(io.BytesIO(content))
    assert (facts.width, facts.height, facts.mode, facts.format, facts.repairs) == (23, 19, expected.mode, form, "")
    assert image.mode == "RGB" and image.tobytes() == expected.convert("RGB").tobytes()


def test_transparent_palette_drops_its_alpha(picture: Picture, encode: Encode) -> None:
    content = encode(picture(1, 23, 19, "P"), transparency=3)
    image, _ = decode(content)
    assert image.tobytes() == Image.open(io.BytesIO(content)).convert("RGB").tobytes()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_not_clipped(form: str, encode: Encode) -> None:
    levels = np.linspace(0, 0xFFFF, 30 * 20).astype(np.uint16).reshape(20, 30)
    image, facts = decode(encode(Image.fromarray(levels), form))
    assert facts.mode.startswith("I") and facts.repairs == "16-bit"
    expected = np.rint(levels / 257).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(image), np.repeat(expected[..., None], 3, -1))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_exif_rotation_is_noted_and_not_applied(picture: Picture, encode: Encode) -> None:
    plain = encode(picture(1, 30, 20), "JPEG")
    upright, turned = (encode(picture(1, 30, 20), "JPEG", exif=exif(turn)) for turn in (1, 6))
    assert decode(upright)[1].repairs == ""
    assert decode(turned)[1].repairs == "exif-rotated"
    assert decode(turned)[0].tobytes() == decode(plain)[0].tobytes()


def test_corrupt_exif_is_noted(picture: Picture, encode: Encode) -> None:
    content = encode(picture(1, 30, 20), "JPEG", exif=exif(6))
    start = content.index(b"Exif")
    broken = content[: start + 10] + b"\xff\xff\xff\x7f" + content[start + 14 :]  # where the tags begin
    image, facts = decode(broken)
    assert image.size == (30, 20)
    assert "corrupt-exif" in facts.repairs


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame(form: str, picture: Picture, encode: Encode) -> None:
    first, second = picture(1, 30, 20), picture(2, 30, 20)
    options = {"lossless": True} if form == "WEBP" else {}
    content = encode(first, form, save_all=True, append_images=[second], **options)
    image, facts = decode(content)
    assert facts.repairs == "first-frame"
    assert image.tobytes() == Image.open(io.BytesIO(content)).convert("RGB").tobytes()


def rejected(content: bytes, *targets: int) -> str:
    with pytest.raises(Reject) as caught:
        resize_all(decode(content)[0], [Size(side, side) for side in targets])
    return str(caught.value)


def test_rejects_and_their_reasons(picture: Picture, encode: Encode) -> None:
    jpeg = encode(picture(1, 60, 50), "JPEG")
    assert rejected(b"") == "an empty file"
    assert rejected(b"<html>404</html>").startswith("not in a format that can be read (JPEG, PNG")
    assert "truncated" in rejected(jpeg[: len(jpeg) // 2])
    assert rejected(jpeg[:100])
    assert "too long and narrow" in rejected(encode(picture(1, 1, 40_000)), 64)
    assert "floating-point" in rejected(encode(Image.new("F", (9, 9), 0.5), "TIFF"))
    assert "32-bit" in rejected(encode(Image.new("I", (9, 9), 1 << 20), "TIFF"))
    assert "not in a format" in rejected(encode(picture(1, 9, 9), "ICO"))


def test_long_and_narrow_is_fine_while_it_fits(picture: Picture) -> None:
    assert resize(picture(1, 1, 4000), 64).shape == (64, 64, 3)


def test_a_cut_image_is_refused_even_if_a_library_allowed_them(
    picture: Picture, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    jpeg = encode(picture(1, 60, 50), "JPEG")
    assert "truncated" in rejected(jpeg[: len(jpeg) // 2])


def test_reasons_are_the_same_in_every_run(picture: Picture, encode: Encode) -> None:
    content = encode(picture(1, 60, 50), "PNG")
    for cut in range(1, len(content), 211):
        assert rejected(content[:cut]) == rejected(content[:cut])
        assert "0x" not in rejected(content[:cut])


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_damage_is_decoded_or_rejected_never_a_crash(data: Any, picture: Picture, encode: Encode) -> None:
    form = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"]))
    content = bytearray(encode(picture(3, 20, 15), form))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    try:
        image, facts = decode(bytes(content))
        assert image.mode == "RGB" and min(facts.width, facts.height) > 0
        assert math.prod(resize(image, 8).shape) == 192
    except Reject as reject:
        image, reason = None, str(reject)
    assert image or (reason and "\n" not in reason)


def covered(pixels: np.ndarray, target: Size) -> np.ndarray:
    """The recipe of a rectangle, in numpy alone."""
    while pixels.shape[0] >= 2 * target.height and pixels.shape[1] >= 2 * target.width:
        pixels = resample(pixels, pixels.shape[1] // 2, pixels.shape[0] // 2, box, 0.5)
    scale = max(target.height / pixels.shape[0], target.width / pixels.shape[1])
    height, width = (round(side * scale) for side in pixels.shape[:2])
    pixels = resample(pixels, width, height, cubic, 2.0)
    top, left = (height - target.height) // 2, (width - target.width) // 2
    return pixels[top : top + target.height, left : left + target.width]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 140), st.integers(1, 140), st.integers(8, 40), st.integers(8, 40))
def test_rectangles_of_any_shape(width: int, height: int, columns: int, rows: int) -> None:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    targets = [Size(rows, columns), Size(columns, rows), Size(16, 16)]
    for target, found in resize_all(Image.fromarray(pixels), targets).items():
        assert found.shape == (*target, 3)
        np.testing.assert_array_equal(found, covered(pixels, target))
    np.testing.assert_array_equal(covered(pixels, Size(16, 16)), adm(pixels, 16))
