"""What becomes of a file's bytes by a recipe: upright, of every format, within its limits, at a reduced scale."""

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from genmodel.data.imaging.decode import decode, known, versions
from genmodel.data.imaging.resize import resize
from genmodel.data.making.recipe import Recipe
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.members import Reject
from genmodel.data.sources.opening import open_source
from genmodel.sizes import Size

Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]

UPRIGHT, STORED = Recipe(orient=True), Recipe(orient=False)
FAST = Recipe("fast-1", orient=True)


def tagged(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def reason(content: bytes, recipe: Recipe = UPRIGHT) -> str:
    with pytest.raises(Reject) as caught:
        decode(content, recipe)
    return str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_is_turned_upright(turn: int, form: str, picture: Picture, encode: Encode) -> None:
    content = encode(picture(1, 30, 20), form, exif=tagged(turn))
    image, facts = decode(content, UPRIGHT)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert image.size == ((30, 20) if turn < 5 else (20, 30))
    assert image.tobytes() == expected.tobytes()
    assert (facts.width, facts.height, facts.repairs) == (30, 20, "exif-upright" if turn > 1 else "")
    stored, facts = decode(content, STORED)
    assert stored.tobytes() == Image.open(io.BytesIO(content)).tobytes()
    assert facts.repairs == ("exif-rotated" if turn > 1 else "")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_modes_are_turned_too(mode: str, picture: Picture, encode: Encode) -> None:
    form = "TIFF" if mode == "CMYK" else "PNG"
    whole = picture(1, 30, 20).convert(mode)
    turned, plain = (encode(whole, form, exif=tagged(turn)) for turn in (6, 1))
    expected = decode(plain, UPRIGHT)[0].transpose(Image.Transpose.ROTATE_270)
    assert decode(turned, UPRIGHT)[0].tobytes() == expected.tobytes()


def test_a_tiff_is_upright_in_any_case(picture: Picture, encode: Encode) -> None:
    """Its orientation says how it is stored, and Pillow turns it."""
    content = encode(picture(1, 30, 20), "TIFF", tiffinfo={0x0112: 6})
    for recipe in (UPRIGHT, STORED):
        image, facts = decode(content, recipe)
        assert image.size == (20, 30) and facts.repairs == "exif-upright"


def test_sixteen_bits_are_turned(encode: Encode) -> None:
    levels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    turned, _ = decode(encode(Image.fromarray(levels), "PNG", exif=tagged(8)), UPRIGHT)
    expected = np.rint(np.rot90(levels) / 257).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(turned)[..., 0], expected)


@pytest.mark.parametrize(("form", "options"), [("AVIF", {"quality": 90}), ("JPEG2000", {"irreversible": False})])
def test_newer_formats(form: str, options: dict[str, object], picture: Picture, encode: Encode) -> None:
    content = encode(picture(1, 30, 20), form, **options)
    image, facts = decode(content, UPRIGHT)
    assert (image.size, facts.format, facts.repairs) == ((30, 20), form, "")
    assert image.tobytes() == Image.open(io.BytesIO(content)).convert("RGB").tobytes()
    assert {"AVIF": "libavif", "JPEG2000": "openjpeg"}[form] in versions([form])
    assert set(versions(["JPEG"])) == {"pillow", "libjpeg"}
    assert reason(content[: len(content) // 2]).startswith(("cannot be decoded", "not in a format"))


@pytest.mark.skipif("HEIF" in known(), reason="pillow-heif is installed")
@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_a_heic_file_names_what_to_install(brand: bytes) -> None:
    content = struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1heic" + bytes(99)
    assert reason(content) == "a HEIC file: pip install pillow-heif"


@pytest.mark.skipif("JXL" in known(), reason="pillow-jxl-plugin is installed")
@pytest.mark.parametrize("start", [b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"])
def test_a_jpeg_xl_file_names_what_to_install(start: bytes) -> None:
    assert reason(start + bytes(99)) == "a JPEG XL file: pip install pillow-jxl-plugin"


def test_the_limit_of_pixels_is_the_recipes(picture: Picture, encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # as another library may set it
    for form in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "AVIF", "JPEG2000"):
        content = encode(picture(1, 30, 20), form)
        assert decode(content, Recipe(max_pixels=600))[0].size == (30, 20)
        assert reason(content, Recipe(max_pixels=599)) == "more than 599 pixels"
        assert reason(content, Recipe(max_pixels=250)) == "more than 250 pixels"
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"exif": tagged(6)}])
@pytest.mark.parametrize(("size", "reduced"), [(40, (63, 47)), (64, (125, 94)), (94, (250, 188)), (200, (500, 375))])
def test_fast_decodes_at_the_scale_of_pillows_draft(
    size: int, reduced: tuple[int, int], options: dict[str, object], picture: Picture, encode: Encode
) -> None:
    """No further than ADM halves: its own resize goes on from there."""
    content = encode(picture(1, 500, 375), "JPEG", **options)
    image, facts = decode(content, FAST, [Size(size, size)])
    expected = Image.open(io.BytesIO(content))
    expected.draft("RGB", (size, size))
    assert expected.size == reduced and (facts.width, facts.height) == (500, 375)
    assert image.tobytes() == ImageOps.exif_transpose(expected).tobytes()
    assert min(image.size) >= size and (facts.extent is None) == (reduced == (500, 375))


def test_fast_turns_what_it_needs_before_it_reduces(picture: Picture, encode: Encode) -> None:
    content = encode(picture(1, 500, 250), "JPEG", exif=tagged(6))
    image, facts = decode(content, FAST, [Size(height=200, width=100)])
    assert image.size == facts.extent == (125, 250)


def test_fast_keeps_the_place_of_every_pixel(encode: Encode) -> None:
    """375 rows at a quarter are 94, of which the last is there by a quarter alone."""
    ramp = np.linspace(0, 255, 375).astype(np.uint8)
    content = encode(Image.fromarray(np.repeat(ramp[:, None], 500, 1)).convert("RGB"), "JPEG", quality=95)
    image, facts = decode(content, FAST, [Size(64, 64)])
    assert image.size == (125, 94) and facts.extent == (125, 93.75)
    true = ((np.arange(64) + 0.5) / 64 * 375 - 0.5) / 374 * 255
    errors = [(resize(image, 64, extent)[:, 0, 0] - true)[8:-8] for extent in (facts.extent, None)]
    stretched, whole = (np.polyfit(np.arange(48), error, 1)[0] * 64 for error in errors)
    assert abs(stretched) < 0.5 and whole > 0.8, "levels over the height of the image"


def test_fast_is_adm_for_what_is_no_jpeg(picture: Picture, encode: Encode) -> None:
    content = encode(picture(1, 500, 375), "PNG")
    assert decode(content, FAST, [Size(16, 16)])[0].tobytes() == decode(content, UPRIGHT)[0].tobytes()


def test_fast_is_near_to_adm_on_real_images(shared: Callable[[str], str]) -> None:
    source = open_source(shared("ILSVRC2012_img_train.sample.tar"))
    apart = []
    for member in listing_of(source).members[::40]:
        content, square = source.read(member), Size(64, 64)
        (image, facts), (whole, _) = (decode(content, recipe, [square]) for recipe in (FAST, UPRIGHT))
        apart.append(np.abs(resize(image, square, facts.extent).astype(int) - resize(whole, square)).mean())
    assert 0 < np.mean(apart) < 5, apart  # of 255 levels; BICUBIC at once from the whole image is at 4.2
