"""DINOv2 features (Oquab et al. 2024); the network is defined here so that nothing is fetched or run from a hub.

A vision transformer with 14 px patches and a scale on every residual branch; sizes S and B. Its weights have the names
of the official checkpoints: dinov2_vits14_pretrain.pth loads unchanged.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from genmodel.data.block import Block
from genmodel.errors import EvaluationError, ModelError
from genmodel.evaluation.extractors.features import Extractor
from genmodel.files import durable, tensors
from genmodel.pixels import to_model, to_rgb
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

DINOV2_FILE = "dinov2_vits14_pretrain.pth"
DINOV2_SOURCE = "https://github.com/facebookresearch/dinov2#pretrained-models"
_FIX = (
    f"get {DINOV2_FILE} (or dinov2_vitb14_pretrain.pth) from {DINOV2_SOURCE} and name it in"
    " evaluation.extractor_weights; evaluation.extractor classifier and pixels work offline"
)
_PATCH, _DEPTH, _HEAD = 14, 12, 64  # pixels, blocks, width of a head
_TRAINED_SIDE = 37  # patches per side at which the position embeddings were trained (518 px)
_SIDE = 16  # patches per side here: 224 px, as in Stein et al. 2023
_WIDTHS = (384, 768)  # S, B
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet colours in [0, 1]


class VisionTransformer(nn.Module):
    """float [N, 3, 224, 224], ImageNet-normalised -> the class token after the last norm [N, width]."""

    def __init__(self, width: int, depth: int = _DEPTH) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # for training only; the checkpoints hold it
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _TRAINED_SIDE**2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, _PATCH, stride=_PATCH)})
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.positions()
        for block in self.blocks:
            tokens = block(tokens)
        features: Tensor = self.norm(tokens[:, 0])
        return features

    def positions(self) -> Tensor:
        """Position embeddings of 37 x 37 patches at 16 x 16: bicubic, with the official code's 0.1 in the scale."""
        own, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        grid = grid.reshape(1, _TRAINED_SIDE, _TRAINED_SIDE, -1).permute(0, 3, 1, 2)
        scale = (_SIDE + 0.1) / _TRAINED_SIDE
        smaller = interpolate(grid, scale_factor=(scale, scale), mode="bicubic", antialias=False)
        return torch.cat([own, smaller.flatten(2).transpose(1, 2)], dim=1)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width)
        self.ls1 = _Scale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls2 = _Scale(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        hidden = nn.functional.gelu(self.mlp["fc1"](self.norm2(tokens)))
        result: Tensor = tokens + self.ls2(self.mlp["fc2"](hidden))
        return result


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        count, length, width = tokens.shape
        query, key, value = self.qkv(tokens).view(count, length, 3, width // _HEAD, _HEAD).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(count, length, width)
        result: Tensor = self.proj(mixed)
        return result


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class DINOv2(Extractor):
    """The class token of DINOv2 ViT-S/14 or ViT-B/14 at 224 px.

    It sees squares of three channels: a rectangle is stretched to a square, grey is repeated and RGBA composited on
    white.
    The official files' sha256 is not pinned: that of the given file is part of the fingerprint and is in reports.
    """

    name = "dinov2"

    def __init__(self, weights: Path) -> None:
        super().__init__()
        state = _read(weights)
        self.dim = state["cls_token"].shape[-1]
        self.digest = durable.digest_file(weights)
        self.network = VisionTransformer(self.dim)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise EvaluationError(f"{weights} is not DINOv2 of size S or B without registers: {_FIX}") from error
        self.eval().requires_grad_(False)

    @classmethod
    def make(cls, block: Block, image_size: Size, config: EvaluationConfig, device: str) -> Self:
        return cls(Path(config.extractor_weights))

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any], config: EvaluationConfig) -> Self:
        return cls(Path(config.extractor_weights))

    @property
    def fingerprint(self) -> str:
        return durable.digest_json({"extractor": self.name, "version": 1, "weights": self.digest})

    def about(self) -> dict[str, Any]:
        return {**super().about(), "weights": self.digest}

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        side = _SIDE * _PATCH
        levels = (to_model(to_rgb(images)) + 1) / 2
        resized = interpolate(levels, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        shift, scale = (levels.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _DEVIATION))
        return self.network((resized - shift) / scale), None


def _read(path: Path) -> dict[str, Tensor]:
    """A state with DINOv2's names, from safetensors or through torch's safe loader; else EvaluationError."""
    if not path.is_file():
        raise EvaluationError(f"evaluation.extractor dinov2 needs its weights, not {str(path)!r}: {_FIX}")
    try:
        if path.suffix == ".safetensors":
            state, _ = tensors.load(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (ModelError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise EvaluationError(f"{path} holds no plain tensors: {_FIX}") from error
    token = state.get("cls_token") if isinstance(state, dict) else None
    if not isinstance(token, Tensor) or token.shape[-1] not in _WIDTHS:
        raise EvaluationError(f"{path} is not DINOv2 of size S or B: {_FIX}")
    return state
