import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings

from genmodel.errors import ModelError
from genmodel.files import tensors

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


@st.composite
def held(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    names = draw(
        st.lists(st.text(min_size=1, max_size=12).filter(lambda n: n != "__metadata__"), unique=True, max_size=4)
    )
    made = {}
    for name in names:
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        dtype = draw(st.sampled_from(DTYPES))
        made[name] = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    return made


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        assert torch.equal(first[name], second[name])


@settings(max_examples=60, deadline=None)
@given(held(), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_safetensors_reads_ours_and_we_read_theirs(made: dict, metadata: dict) -> None:
    content = tensors.pack(made, metadata)
    same(safetensors.torch.load(content), made)
    ours, read_metadata = tensors.unpack(content, "here")
    same(ours, made)
    assert read_metadata == metadata
    same(tensors.unpack(safetensors.torch.save(made), "theirs")[0], made)


def test_equal_tensors_give_equal_bytes_whatever_their_layout() -> None:
    weight = torch.randn(2, 3, 4, 5)
    assert tensors.pack({"a": weight}) == tensors.pack({"a": weight.to(memory_format=torch.channels_last)})
    assert tensors.pack({"a": weight, "b": weight}) == tensors.pack({"b": weight, "a": weight})


def test_a_flipped_bit_is_found_by_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    digest = tensors.save(path, {"a": torch.arange(10.0)})
    tensors.load(path, digest)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights.safetensors is damaged"):
        tensors.load(path, digest)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_a_model_error(content: bytes) -> None:
    with pytest.raises(ModelError):
        tensors.unpack(content, "garbage")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.safetensors is missing"):
        tensors.load(tmp_path / "nowhere.safetensors")


def entry(shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (json.dumps({"a": entry([1 << 33], 0, 0)}), "shape does not match its bytes"),
        (json.dumps({"a": entry([-2, -2], 0, 16)}), "shape does not match its bytes"),
        (json.dumps({str(name): entry([4], 0, 16) for name in range(9)}), "larger than the file"),
        ("[" * 200_000, "safetensors"),
    ],
)
def test_a_header_that_asks_for_more_than_the_file_holds_is_told(header: str, reason: str) -> None:
    content = len(header).to_bytes(8, "little") + header.encode() + bytes(16)
    with pytest.raises(ModelError, match=reason):
        tensors.unpack(content, "a.safetensors")
