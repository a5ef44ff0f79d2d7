"""Tensor files in the safetensors format: plain tensors and a few strings, nothing pickled.

Layout: the header's length (8 bytes, little endian), the header (JSON: name -> dtype, shape, data_offsets; and
`__metadata__`, strings), the tensors' bytes sorted by name. Equal tensors give equal bytes, with any version of torch;
every tool that knows safetensors reads them. https://github.com/huggingface/safetensors
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genmodel.errors import ModelError
from genmodel.files import durable

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_MAX_HEADER = 100_000_000  # the format's own limit


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file that holds `tensors` (any device, any memory layout) and `metadata`."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    parts: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        content = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(content)],
        }
        parts.append(content)
        offset += len(content)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *parts])


def unpack(content: bytes, origin: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file's bytes; ModelError naming `origin` if invalid."""
    try:
        length = int.from_bytes(content[:8], "little")
        if not 2 <= length <= min(_MAX_HEADER, len(content) - 8):
            raise ValueError("its header's length is wrong")
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        body = memoryview(content)[8 + length :]
        if sum(end - start for start, end in (entry["data_offsets"] for entry in header.values())) > len(body):
            raise ValueError("its tensors are larger than the file")
        tensors = {name: _tensor(entry, body) for name, entry in header.items()}
    except (RecursionError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(f"{origin} is not a valid safetensors file ({error}): make it again") from error
    return tensors, metadata


def _tensor(entry: dict[str, Any], body: memoryview) -> Tensor:
    dtype, shape, (start, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not 0 <= start <= end <= len(body):
        raise ValueError("a tensor lies outside the file")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != end - start:
        raise ValueError("a tensor's shape does not match its bytes")
    if start == end:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(body[start:end]), dtype=dtype).reshape(shape)


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write a tensor file, whole or not at all; returns the sha256 of its bytes."""
    content = pack(tensors, metadata)
    durable.write_bytes(path, content)
    return durable.digest_bytes(content)


def load(path: Path, digest: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a tensor file onto the CPU; ModelError if it is missing, damaged, or its sha256 is not `digest`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: make it again or pull it again") from error
    if digest is not None and durable.digest_bytes(content) != digest:
        raise ModelError(f"{path} is damaged: its sha256 is not {digest[:12]}...; make it again or pull it again")
    return unpack(content, str(path))
