"""With random weights alone: the official ones are not at hand here. The network is held against torchvision's."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models.vision_transformer import VisionTransformer as Theirs

from genmodel.data.block import Block
from genmodel.errors import EvaluationError, IncomparableError
from genmodel.evaluation.extractors.dinov2 import DINOv2, VisionTransformer
from genmodel.evaluation.extractors.features import extract
from genmodel.evaluation.reference import Reference, make_reference
from genmodel.files import durable, tensors
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size


def random_state(width: int = 384) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = {name: value.shape for name, value in VisionTransformer(width).state_dict().items()}
    return {name: torch.randn(shape, generator=rng) * 0.05 for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "dinov2_vits14_pretrain.pth"
    torch.save(OrderedDict(random_state()), path)
    return path


def noise(n: int, size: int = 32) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, size, size, 3), generator=rng, dtype=torch.uint8)


def test_the_names_and_shapes_are_the_official_checkpoints() -> None:
    state = VisionTransformer(384).state_dict()
    assert len(state) == 175 and sum(value.numel() for value in state.values()) == 22_056_576
    assert state["pos_embed"].shape == (1, 1370, 384) and state["patch_embed.proj.weight"].shape == (384, 3, 14, 14)
    block = {name.removeprefix("blocks.11.") for name in state if name.startswith("blocks.11.")}
    assert block == {
        "norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias",
        "ls1.gamma", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight",
        "mlp.fc2.bias", "ls2.gamma",
    }  # fmt: skip
    others = {name for name in state if not name.startswith("blocks.")}
    assert others == {
        "cls_token", "mask_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias",
        "norm.weight", "norm.bias",
    }  # fmt: skip


@pytest.mark.slow
def test_the_network_is_torchvisions_transformer_where_no_branch_is_scaled() -> None:
    state = {name: torch.ones_like(v) if "gamma" in name else v for name, v in random_state().items()}
    ours = VisionTransformer(384).eval()
    ours.load_state_dict(state)
    theirs = Theirs(224, 14, 12, 6, 384, 1536, norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6)).eval()
    theirs.heads = torch.nn.Identity()
    renamed = {
        "class_token": state["cls_token"],
        "encoder.pos_embedding": ours.positions().detach(),
        **{f"conv_proj.{end}": state[f"patch_embed.proj.{end}"] for end in ("weight", "bias")},
        **{f"encoder.ln.{end}": state[f"norm.{end}"] for end in ("weight", "bias")},
    }
    names = {
        "ln_1.": "norm1.", "ln_2.": "norm2.", "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj.": "attn.proj.", "mlp.0.": "mlp.fc1.", "mlp.3.": "mlp.fc2.",
    }  # fmt: skip
    for layer in range(12):
        for their_name, name in names.items():
            for end in ("weight", "bias"):
                renamed[f"encoder.layers.encoder_layer_{layer}.{their_name}{end}"] = state[
                    f"blocks.{layer}.{name}{end}"
                ]
    theirs.load_state_dict(renamed)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_branchs_scale_counts() -> None:
    network = VisionTransformer(384, depth=1).eval()
    network.load_state_dict({name: random_state()[name] for name in network.state_dict()})
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = network(images)
        for name in ("ls1", "ls2"):
            getattr(network.blocks[0], name).gamma.mul_(3)
            after = network(images)
            assert not torch.allclose(before, after)
            before = after


def test_position_codes_keep_their_place_when_the_grid_is_smaller() -> None:
    network = VisionTransformer(384)
    ramp = torch.arange(37.0)
    network.pos_embed.data[0, 1:, 0] = ramp.repeat(37)  # column
    network.pos_embed.data[0, 1:, 1] = ramp.repeat_interleave(37)  # row
    grid = network.positions()[0, 1:].detach().reshape(16, 16, 384)
    expected = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    # a cubic does not quite keep a line; without the 0.1 the places differ by up to 0.2
    torch.testing.assert_close(grid[8, 2:-2, 0], expected[2:-2], rtol=0, atol=0.06)
    torch.testing.assert_close(grid[2:-2, 8, 1], expected[2:-2], rtol=0, atol=0.06)


@pytest.mark.slow
def test_features_of_a_file_and_the_digest_of_it(weights: Path, tmp_path: Path) -> None:
    extractor = DINOv2(weights)
    whole, single = extract(extractor, [noise(3)]), extract(extractor, noise(3).split(1))
    assert whole.values.shape == (3, 384) and whole.logits is None and whole.values.std() > 0
    torch.testing.assert_close(whole.values, single.values, rtol=1e-4, atol=1e-4)
    assert extractor.about()["weights"] == durable.digest_file(weights)
    assert not extractor.training and not any(value.requires_grad for value in extractor.parameters())

    tensors.save(tmp_path / "same.safetensors", random_state())
    same = DINOv2(tmp_path / "same.safetensors")
    torch.testing.assert_close(extract(same, [noise(3)]).values, whole.values, rtol=0, atol=0)
    assert same.fingerprint != extractor.fingerprint  # of the file, not of the numbers in it
    torch.save(random_state(768), tmp_path / "base.pth")
    assert DINOv2(tmp_path / "base.pth").dim == 768


def test_what_is_missing_or_wrong_is_one_line_with_file_source_and_a_way_offline(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"weights": Path("anything but tensors")}, tmp_path / "pickle.pth")
    torch.save({"cls_token": torch.zeros(1, 1, 100)}, tmp_path / "other.pth")
    torch.save({"cls_token": torch.zeros(1, 1, 384)}, tmp_path / "part.pth")
    for name in ("missing.pth", "text.pth", "pickle.pth", "other.pth", "part.pth"):
        with pytest.raises(EvaluationError) as caught:
            DINOv2(tmp_path / name)
        for part in (
            name,
            "dinov2_vits14_pretrain.pth",
            "facebookresearch/dinov2",
            "classifier and pixels work offline",
        ):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_reference_holds_the_digest_and_refuses_other_weights(block: Block, weights: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(samples=16, extractor="dinov2", extractor_weights=str(weights))
    made = make_reference(block, Size(16, 16), config, tmp_path / "reference")
    assert made.about["extractor"]["weights"] == durable.digest_file(weights)
    assert Reference.open(made.path).extractor(config).fingerprint == made.about["extractor"]["fingerprint"]
    torch.save({name: value * 2 for name, value in random_state().items()}, tmp_path / "other.pth")
    other = EvaluationConfig(samples=16, extractor="dinov2", extractor_weights=str(tmp_path / "other.pth"))
    with pytest.raises(IncomparableError, match="another dinov2"):
        made.extractor(other)
