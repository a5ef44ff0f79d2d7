"""The extractors by name. The classifier, which is trained here, and DINOv2 have their own files."""

import io
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from genmodel.data.block import Block
from genmodel.errors import EvaluationError
from genmodel.evaluation.extractors.classifier import Classifier
from genmodel.evaluation.extractors.dinov2 import DINOv2
from genmodel.evaluation.extractors.features import Extractor
from genmodel.files import durable
from genmodel.pixels import to_model, to_rgb
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INCEPTION_RELEASE = "https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
_PATIENCE = 30  # seconds that a server may be silent
_OFFLINE = "evaluation.extractor classifier and pixels work offline"


class Pixels(Extractor):
    """Mean colours of an 8x8 grid: no weights, no classes; sees layout and colour, no shapes.

    All channels count, including transparency; the cells have the image's proportions.
    """

    name = "pixels"

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels, self.dim = channels, 8 * 8 * channels

    @classmethod
    def make(cls, block: Block, image_size: Size, config: EvaluationConfig, device: str) -> Self:
        return cls(block.channels)

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any], config: EvaluationConfig) -> Self:
        return cls(about.get("channels", 3))

    @property
    def fingerprint(self) -> str:
        more = {} if self.channels == 3 else {"channels": self.channels}
        return durable.digest_json({"extractor": self.name, "version": 1, **more})

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return adaptive_avg_pool2d(to_model(images), 8).flatten(1), None


class Inception(Extractor):
    """The network of the published FID, KID and Inception scores, through torch-fidelity, at 299 px.

    It sees squares of three channels: a rectangle is stretched to a square, grey is repeated and RGBA composited on
    white. So figures of other shapes are not comparable with published ones, only with those of the same shape.
    """

    name = "inception"
    dim = 2048

    def __init__(self, weights: Path) -> None:
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise EvaluationError(
                f"evaluation.extractor inception needs torch-fidelity: pip install torch-fidelity; {_OFFLINE}"
            ) from error
        state = _read_inception(weights)
        # The library would unpickle the file; it gets only what the safe loader accepted.
        plain = io.BytesIO()
        torch.save(state, plain)
        plain.seek(0)
        outputs = ["2048", "logits_unbiased"]
        network = FeatureExtractorInceptionV3(self.name, outputs, feature_extractor_weights_path=plain)
        self.network = network.to(memory_format=torch.channels_last)  # 0.7 of the time on a CPU; features equal to 4e-7

    @classmethod
    def make(cls, block: Block, image_size: Size, config: EvaluationConfig, device: str) -> Self:
        return cls(_inception_weights(config))

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any], config: EvaluationConfig) -> Self:
        return cls(_inception_weights(config))

    @property
    def fingerprint(self) -> str:
        return durable.digest_json({"extractor": self.name, "version": 1, "weights": INCEPTION_SHA256})

    def about(self) -> dict[str, Any]:
        return {**super().about(), "weights": INCEPTION_SHA256}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        values, logits = self.network(to_rgb(images).permute(0, 3, 1, 2))
        return values, logits


def _inception_weights(config: EvaluationConfig) -> Path:
    """The file that the settings name; with `download` it is fetched once, to torch.hub's folder."""
    if config.extractor_weights != "download":
        return Path(config.extractor_weights)
    place = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if not (place.is_file() and durable.digest_file(place) == INCEPTION_SHA256):
        content = _fetch(INCEPTION_URL)
        place.parent.mkdir(parents=True, exist_ok=True)
        durable.write_bytes(place, content)
    return place


def _fetch(url: str) -> bytes:
    """Download the reference weights; EvaluationError if they do not arrive whole."""
    try:
        with urlopen(url, timeout=_PATIENCE) as response:
            content: bytes = response.read()
        if (found := durable.digest_bytes(content)) != INCEPTION_SHA256:
            raise OSError(f"its sha256 is {found[:8]}..., not {INCEPTION_SHA256[:8]}...")
    except (OSError, HTTPException) as error:
        raise EvaluationError(
            f"{INCEPTION_FILE} cannot be downloaded from {INCEPTION_RELEASE} ({error}): get it another way and name its"
            f" path in evaluation.extractor_weights; {_OFFLINE}"
        ) from error
    return content


def _read_inception(path: Path) -> dict[str, Tensor]:
    """The state of the reference weights; EvaluationError if `path` is not exactly that file."""
    fix = (
        f"get {INCEPTION_FILE} from {INCEPTION_RELEASE} and name it in evaluation.extractor_weights, or set that to"
        f" download; {_OFFLINE}"
    )
    if not path.is_file():
        raise EvaluationError(f"evaluation.extractor inception needs its reference weights, not {str(path)!r}: {fix}")
    if durable.digest_file(path) != INCEPTION_SHA256:
        raise EvaluationError(f"{path} is not the reference Inception (sha256 {INCEPTION_SHA256[:8]}...): {fix}")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


EXTRACTORS: dict[str, type[Extractor]] = {
    "classifier": Classifier,
    "inception": Inception,
    "dinov2": DINOv2,
    "pixels": Pixels,
}
