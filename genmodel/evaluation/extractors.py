"""The extractors by name. The classifier, which is trained here, and DINOv2 have files of their own."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from genmodel import durable
from genmodel.config import EvaluationConfig
from genmodel.data.block import Block
from genmodel.errors import EvaluationError
from genmodel.evaluation.classifier import Classifier
from genmodel.evaluation.dinov2 import DINOv2
from genmodel.evaluation.features import Extractor
from genmodel.pixels import to_model

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INCEPTION_RELEASE = "https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0"
_OFFLINE = "evaluation.extractor classifier and pixels work offline"


class Pixels(Extractor):
    """Mean colours of an 8x8 raster: no weights, no classes; sees layout and colour, no shapes."""

    name = "pixels"
    dim = 8 * 8 * 3

    @classmethod
    def make(cls, block: Block, image_size: int, config: EvaluationConfig, device: str) -> Self:
        return cls()

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any], config: EvaluationConfig) -> Self:
        return cls()

    @property
    def fingerprint(self) -> str:
        return durable.digest_json({"extractor": self.name, "version": 1})

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return adaptive_avg_pool2d(to_model(images), 8).flatten(1), None


class Inception(Extractor):
    """The network of the published FID, KID and Inception scores, through torch-fidelity, at 299 px."""

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
        # The library would unpickle the file; it gets only what the safe loader let through.
        plain = io.BytesIO()
        torch.save(state, plain)
        plain.seek(0)
        outputs = ["2048", "logits_unbiased"]
        self.network = FeatureExtractorInceptionV3(self.name, outputs, feature_extractor_weights_path=plain)

    @classmethod
    def make(cls, block: Block, image_size: int, config: EvaluationConfig, device: str) -> Self:
        return cls(Path(config.extractor_weights))

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any], config: EvaluationConfig) -> Self:
        return cls(Path(config.extractor_weights))

    @property
    def fingerprint(self) -> str:
        return durable.digest_json({"extractor": self.name, "version": 1, "weights": INCEPTION_SHA256})

    def about(self) -> dict[str, Any]:
        return {**super().about(), "weights": INCEPTION_SHA256}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        values, logits = self.network(images.permute(0, 3, 1, 2))
        return values, logits


def _read_inception(path: Path) -> dict[str, Tensor]:
    """The state of the reference weights; EvaluationError if `path` is not that very file."""
    mend = f"get {INCEPTION_FILE} from {INCEPTION_RELEASE} and name it in evaluation.extractor_weights; {_OFFLINE}"
    if not path.is_file():
        raise EvaluationError(f"evaluation.extractor inception needs its reference weights, not {str(path)!r}: {mend}")
    if durable.digest_file(path) != INCEPTION_SHA256:
        raise EvaluationError(f"{path} is not the reference Inception (sha256 {INCEPTION_SHA256[:8]}...): {mend}")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


EXTRACTORS: dict[str, type[Extractor]] = {
    "classifier": Classifier,
    "inception": Inception,
    "dinov2": DINOv2,
    "pixels": Pixels,
}
