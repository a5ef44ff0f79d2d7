import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genmodel.data.block import Block
from genmodel.errors import EvaluationError, IncomparableError, ModelError
from genmodel.evaluation.extractors.features import extract, image_batches, spread
from genmodel.evaluation.extractors.wavelets import wavelets
from genmodel.evaluation.figures.real import Real
from genmodel.evaluation.reference import Reference, make_reference
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

CLASSIFIER = EvaluationConfig(samples=50, classifier_images=640)
PIXELS = EvaluationConfig(samples=50, extractor="pixels")


@pytest.fixture(scope="module")
def reference(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return make_reference(block, Size(16, 16), CLASSIFIER, tmp_path_factory.mktemp("made") / "reference")


def test_it_describes_itself(block: Block, reference: Reference) -> None:
    about = json.loads((reference.path / "reference.json").read_text())
    assert about["block"] == block.digest and about["resize"] == block.resize
    assert (about["image_size"], about["split"], about["n"]) == (16, "train", 50)
    assert about["extractor"]["name"] == "classifier" and len(about["extractor"]["fingerprint"]) == 64
    assert set(about["files"]) == {"statistics.safetensors", "extractor.safetensors"}


def test_it_holds_all_that_is_known_of_the_train_images(block: Block, reference: Reference) -> None:
    extractor = reference.extractor(CLASSIFIER)
    rows = spread(block.rows("train"), 50)
    values = extract(extractor, image_batches(block, 16, rows)).values
    control = extract(extractor, image_batches(block, 16, block.rows("val"))).values
    assert reference.about["n_held_out"] == len(control) and reference.about["of"] == len(block.rows("train"))
    plain = torch.cat([wavelets(images) for images in image_batches(block, 16, rows)])
    for name, expected in Real.of(values, control, plain)._asdict().items():
        torch.testing.assert_close(getattr(reference.real, name), expected)
    images = torch.from_numpy(block.gather(16, rows)).double()
    assert reference.levels.mean == pytest.approx(float(images.mean()))
    assert reference.levels.deviation == pytest.approx(float(images.std(correction=0)))
    assert reference.levels.variance == pytest.approx(float(images.var(dim=0, correction=0).mean()))
    assert (reference.levels.low, reference.levels.high) == (int(images.min()), int(images.max()))


def test_making_it_again_gives_the_same_bytes_and_replaces_the_old(
    block: Block, reference: Reference, tmp_path: Path
) -> None:
    out = tmp_path / "reference"
    make_reference(block, Size(16, 16), PIXELS, out)
    assert not (out / "extractor.safetensors").exists()
    make_reference(block, Size(16, 16), CLASSIFIER, out)
    names = ["extractor.safetensors", "reference.json", "statistics.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert all((out / name).read_bytes() == (reference.path / name).read_bytes() for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]


def test_all_images_are_taken_where_there_are_fewer_than_asked_for(block: Block, tmp_path: Path) -> None:
    many = EvaluationConfig(samples=100_000, extractor="pixels")
    assert make_reference(block, Size(16, 16), many, tmp_path / "reference").about["n"] == len(block.rows("train"))


def test_another_block_is_refused(block: Block, single_class_block: Block, reference: Reference) -> None:
    reference.check(block, CLASSIFIER)
    with pytest.raises(IncomparableError, match=r"was made for block .* make it again"):
        reference.check(single_class_block, CLASSIFIER)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("resize", "nearest-1", "for resize nearest-1"),
        ("image_size", 64, "at 64 px, but .* holds 16"),
        ("split", "all", "for split all, but .* now give train"),
        ("n", 49, "for number of images 49, but .* now give 50"),
    ],
)
def test_another_recipe_size_split_or_number_is_refused(
    block: Block, reference: Reference, key: str, value: object, words: str
) -> None:
    other = Reference(reference.path, {**reference.about, key: value}, reference.real)
    with pytest.raises(IncomparableError, match=words):
        other.check(block, CLASSIFIER)


def test_another_number_of_images_in_the_settings_is_refused(block: Block, reference: Reference) -> None:
    with pytest.raises(IncomparableError, match=r"for number of images 50, but .* now give 60"):
        reference.check(block, EvaluationConfig(samples=60))


def test_another_extractor_is_refused(reference: Reference) -> None:
    with pytest.raises(IncomparableError, match=r"with extractor classifier, but evaluation.extractor is pixels"):
        reference.extractor(PIXELS)
    entry = {**reference.about["extractor"], "fingerprint": "0" * 64}
    other = Reference(reference.path, {**reference.about, "extractor": entry}, reference.real)
    with pytest.raises(IncomparableError, match="another classifier"):
        other.extractor(CLASSIFIER)


def test_what_is_missing_or_damaged_is_named(block: Block, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"reference.json is missing"):
        Reference.open(tmp_path / "reference")
    make_reference(block, Size(16, 16), PIXELS, tmp_path / "reference")
    statistics = tmp_path / "reference" / "statistics.safetensors"
    content = bytearray(statistics.read_bytes())
    content[-1] ^= 1
    statistics.write_bytes(content)
    with pytest.raises(ModelError, match=r"statistics.safetensors is damaged"):
        Reference.open(tmp_path / "reference")
    (tmp_path / "reference" / "reference.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"reference.json has no checksum"):
        Reference.open(tmp_path / "reference")


@pytest.mark.slow
def test_the_extractor_stays_when_the_data_change_and_is_renewed_by_settings_or_on_request(
    block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.evaluation.conftest import make_block

    config = EvaluationConfig(samples=40, seed=5, classifier_images=640)
    out = tmp_path / "reference"
    first = make_reference(block, Size(16, 16), config, out).about
    other = make_block(tmp_path / "other", ["ash", "birch"], seed=9)
    second = make_reference(other, Size(16, 16), config, out).about
    assert second["extractor"] == first["extractor"] and second["block"] != first["block"]
    assert capsys.readouterr().out == ""

    renewed = make_reference(other, Size(16, 16), config, out, renew=True).about
    assert capsys.readouterr().out.startswith("extractor renewed, as asked")
    assert renewed["extractor"]["fingerprint"] != first["extractor"]["fingerprint"]
    again = make_reference(other, Size(16, 16), replace(config, classifier_images=128), out).about
    assert again["extractor"]["fingerprint"] != renewed["extractor"]["fingerprint"]
    assert capsys.readouterr().out == "extractor renewed: evaluation.classifier_images 640 -> 128\n"


def test_an_extractor_of_an_older_version_is_renewed_and_its_reference_refused(
    block: Block, reference: Reference, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version 1 had neither the projections nor, in the statistics, what needs no labels."""
    from genmodel.files import durable, tensors

    out = tmp_path / "reference"
    weights, _ = tensors.load(reference.path / "extractor.safetensors")
    parts, _ = tensors.load(reference.path / "statistics.safetensors")
    files = {
        "extractor.safetensors": tensors.save(
            out / "extractor.safetensors",
            {name: part for name, part in weights.items() if name not in ("mix", "shift")},
        ),
        "statistics.safetensors": tensors.save(
            out / "statistics.safetensors", {name: part for name, part in parts.items() if "wavelet" not in name}
        ),
    }
    entry = {key: value for key, value in reference.about["extractor"].items() if key not in ("version", "chance")}
    about = {key: value for key, value in reference.about.items() if key != "seal"}
    durable.write_sealed(out / "reference.json", {**about, "extractor": entry, "files": files})
    with pytest.raises(EvaluationError, match=r"another version of this code: make the reference again"):
        Reference.open(out)
    older = Reference(out, {**about, "extractor": entry, "files": files}, reference.real)
    with pytest.raises(IncomparableError, match=r"another version of this code: make the reference again"):
        older.extractor(CLASSIFIER)
    made = make_reference(block, Size(16, 16), CLASSIFIER, out)
    assert capsys.readouterr().out == "extractor renewed: this version of the code has another classifier\n"
    assert made.about["extractor"] == reference.about["extractor"]
