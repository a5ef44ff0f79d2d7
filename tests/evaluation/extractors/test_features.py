from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genmodel.data.block import UNLABELLED, Block
from genmodel.errors import BlockError, EvaluationError
from genmodel.evaluation import table
from genmodel.evaluation.extractors import choice as extractors
from genmodel.evaluation.extractors.choice import EXTRACTORS, Inception, Pixels
from genmodel.evaluation.extractors.classifier import Classifier
from genmodel.evaluation.extractors.features import Extractor, extract, image_batches, spread
from genmodel.files import durable
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

CONFIG = EvaluationConfig(samples=100, classifier_images=1280)


def noise(n: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (n, size, size, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def classifier(block: Block) -> Classifier:
    return Classifier.make(block, Size(16, 16), CONFIG, "cpu")


def test_the_table_and_the_settings_know_the_same_extractors() -> None:
    assert {name: extractor.name for name, extractor in EXTRACTORS.items()} == {name: name for name in EXTRACTORS}
    assert set(EXTRACTORS) == set(EvaluationConfig.__annotations__["extractor"].__args__)


def test_only_inception_gives_figures_their_published_names() -> None:
    def names(extractor: str) -> list[str]:
        return [figure.called(extractor) for figure in table.FIGURES if figure.is_own]

    assert names("inception")[:4] == ["fid", "fid_infinity", "kid", "inception_score"]
    assert names("classifier")[:4] == ["fd_classifier", "fd_classifier_infinity", "kd_classifier", "is_classifier"]
    assert not set(names("inception")) & set(names("classifier"))


@given(st.integers(0, 50), st.integers(1, 60))
def test_spread_keeps_order_ends_and_shares(rows: int, n: int) -> None:
    chosen = spread(np.arange(rows), n)
    assert len(chosen) == min(n, rows) == len(set(chosen.tolist()))
    assert (np.diff(chosen) > 0).all()
    if 0 < n < rows:
        assert chosen[0] == 0 and np.diff([*chosen, rows]).max() <= rows // n + 1


def test_images_come_in_the_order_of_the_rows(block: Block) -> None:
    rows = block.rows("train")[::-1].copy()
    images = torch.cat(list(image_batches(block, 16, rows)))
    assert torch.equal(images, torch.from_numpy(block.gather(16, rows)))


def test_pixels_are_mean_colours_in_model_range() -> None:
    images = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    images[0, :2, 2:4, 1] = 255  # raster cell (0, 1), green
    values, logits = extract(Pixels(), [images])
    cells = values.view(3, 8, 8)
    assert logits is None and values.dtype == torch.float32 and values.shape == (1, 192)
    assert cells[1, 0, 1] == 1 and cells.sum() == 1 - 191


def test_the_classifier_learns_the_labels_and_says_how_well(block: Block, classifier: Classifier) -> None:
    assert classifier.val_accuracy > 0.9
    about = classifier.about()
    assert about["class_names"] == block.classes == list(classifier.classes)
    assert about["classes"] == 3 and about["dim"] == 64 and about["val_accuracy"] == classifier.val_accuracy
    assert (
        about["chance"] == pytest.approx(np.bincount(block.labels[block.rows("val")]).max() / 27, abs=1e-6)
        and about["version"] == Classifier.version
    )
    values, logits = extract(classifier, [noise(3, 16)])
    assert values.shape == (3, 64) and logits is not None and logits.shape == (3, 3)


def test_training_again_gives_the_same_classifier_and_leaves_the_callers_generator_alone(
    block: Block, classifier: Classifier
) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = Classifier.make(block, Size(16, 16), CONFIG, "cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert again.fingerprint == classifier.fingerprint


@pytest.mark.slow
def test_images_without_a_label_teach_the_classifier_nothing(block: Block) -> None:
    some = Block.open(block.path)
    some.labels = some.labels.copy()
    some.labels[::2] = UNLABELLED
    made = Classifier.make(some, Size(16, 16), CONFIG, "cpu")
    assert all(bool(torch.isfinite(weights).all()) for weights in made.weights().values())
    assert made.val_accuracy > 0.9
    some.labels[:] = UNLABELLED
    with pytest.raises(BlockError, match="no labelled images in split train"):
        Classifier.make(some, Size(16, 16), CONFIG, "cpu")


def test_the_fingerprint_follows_every_weight(block: Block, classifier: Classifier) -> None:
    other = Classifier(Size(16, 16), 3, classes=3)
    other.load_state_dict(classifier.state_dict())
    assert other.fingerprint == classifier.fingerprint
    with torch.no_grad():
        other.head.bias[0] += 1e-6
    assert other.fingerprint != classifier.fingerprint


@pytest.mark.parametrize("name", ["classifier", "pixels"])
def test_features_do_not_depend_on_the_batch(name: str, classifier: Classifier) -> None:
    extractor: Extractor = classifier if name == "classifier" else Pixels()
    images = noise(20, 16)
    whole, pieces = extract(extractor, [images]), extract(extractor, images.split(3))
    torch.testing.assert_close(pieces.values, whole.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [8, 16, 32, 48, 64, 100, 256])
def test_the_classifier_takes_images_of_every_size(size: int) -> None:
    classifier = Classifier(Size(size, size), 3, classes=2)
    values, _ = extract(classifier, [noise(2, size)])
    assert values.shape == (2, 64)
    assert classifier.trunk(torch.zeros(1, 3, size, size)).shape[2:] in {(3, 3), (4, 4)}


def test_a_block_of_one_class_is_pointed_to_pixels(single_class_block: Block) -> None:
    with pytest.raises(EvaluationError, match=r"set evaluation.extractor: pixels"):
        Classifier.make(single_class_block, Size(16, 16), CONFIG, "cpu")


def test_inception_without_its_weights_names_file_source_and_ways_offline(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    (tmp_path / "other.pth").write_bytes(b"other weights")
    for path, words in ((tmp_path / "missing.pth", "needs its reference weights"), (tmp_path / "other.pth", "is not")):
        with pytest.raises(EvaluationError, match=words) as caught:
            Inception(path)
        for part in ("weights-inception-2015-12-05-6726825d.pth", "torch-fidelity/releases", "classifier and pixels"):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_inception_runs_the_given_weights_and_unpickles_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is missing")
    path = tmp_path / "weights.pth"
    state = inception_state(library)
    torch.save(state, path)
    monkeypatch.setattr(extractors, "INCEPTION_SHA256", durable.digest_file(path))
    images = noise(2, 16)
    values, logits = extract(Inception(path), [images])
    network = library.FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
    )
    expected = network(images.permute(0, 3, 1, 2))
    assert values.shape == (2, Inception.dim) and values.std() > 0
    assert logits is not None
    for found, theirs in zip((values, logits), expected, strict=True):
        assert (found - theirs).norm() < 1e-5 * theirs.norm()  # another layout in memory, another order of sums

    torch.save({"weights": Path("anything but tensors")}, path)
    monkeypatch.setattr(extractors, "INCEPTION_SHA256", durable.digest_file(path))
    with pytest.raises(Exception, match="Weights only load failed"):
        Inception(path)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """A folder that a server serves as the release, and what was asked of it."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            asked.append(self.path)

    folder = tmp_path / "release"
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(extractors, "INCEPTION_URL", f"http://127.0.0.1:{server.server_port}/weights.pth")
        yield folder, asked
        server.shutdown()


DOWNLOAD = replace(CONFIG, extractor="inception", extractor_weights="download")


def test_the_weights_are_fetched_once_and_again_where_they_are_damaged(
    shelf: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = shelf
    (folder / "weights.pth").write_bytes(b"weights")
    monkeypatch.setattr(extractors, "INCEPTION_SHA256", durable.digest_bytes(b"weights"))
    place = extractors._inception_weights(DOWNLOAD)
    assert place.read_bytes() == b"weights" and place == extractors._inception_weights(DOWNLOAD)
    assert asked == ["/weights.pth"]
    place.write_bytes(b"weightz")
    assert extractors._inception_weights(DOWNLOAD).read_bytes() == b"weights"


@pytest.mark.parametrize(("served", "words"), [(b"other weights", "sha256"), (None, "404")])
def test_what_cannot_be_fetched_whole_is_one_line_and_leaves_nothing(
    served: bytes | None, words: str, shelf: tuple[Path, list[str]], tmp_path: Path
) -> None:
    if served is not None:
        (shelf[0] / "weights.pth").write_bytes(served)
    with pytest.raises(EvaluationError, match=words) as caught:
        Inception.make(None, 16, DOWNLOAD, "cpu")  # type: ignore[arg-type]
    for part in ("weights-inception-2015-12-05-6726825d.pth", "torch-fidelity/releases", "classifier and pixels"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "torch").rglob("*") if path.is_file()]


def test_without_a_network_it_is_one_line_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(extractors, "INCEPTION_URL", "http://127.0.0.1:9/weights.pth")
    with pytest.raises(EvaluationError, match="cannot be downloaded"):
        extractors._inception_weights(DOWNLOAD)


def test_the_address_is_that_of_the_library() -> None:
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is missing")
    assert library.URL_INCEPTION_V3 == extractors.INCEPTION_URL


def inception_state(library: object) -> dict[str, torch.Tensor]:
    """Random weights in the shapes of the reference network, whose constructor insists on a file."""
    base = library.FeatureExtractorInceptionV3  # type: ignore[attr-defined]

    class Untrained(base):  # type: ignore[misc, valid-type]
        def load_state_dict(self, state: object) -> None:
            pass

    nothing = Path(__file__).with_name("never.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: {})
        return dict(Untrained("untrained", ["2048"], feature_extractor_weights_path=str(nothing)).state_dict())
