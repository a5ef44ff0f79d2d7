"""Exports a finished model's sampler as ONNX."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from genmodel.errors import ModelError
from genmodel.files import durable
from genmodel.models.contract import Family
from genmodel.sampling.draw import Sampler
from genmodel.sampling.requests import codes

_OPSET = 18


def export_onnx(model: Family, path: Path) -> None:
    """Write the sampler as ONNX: input `codes` as requests.codes makes them, output `images` uint8 [N, H, W, C], any N.

    `model` is on the CPU and in eval mode. ModelError without the packages onnx and onnxscript, and for a model that
    torch cannot export.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(f"exporting to ONNX needs {error.name}: pip install onnx onnxscript") from error
    example = codes(model.space, [1.0] * model.classes, 4, seed=0)
    try:
        content = onnx_program(Sampler(model).eval(), example)
    except Exception as error:  # torch and onnxscript may raise anything
        why = " ".join(str(error).split())[:200]
        raise ModelError(f"torch cannot export a {type(model).__name__.lower()} to ONNX: {why}") from error
    durable.write_bytes(path, content)


def onnx_program(module: nn.Module, codes: Tensor) -> bytes:
    """A module with one input `codes` and one output `images` as ONNX; `codes` is an example of two or more rows.

    ValueError, or whatever torch and onnxscript raise, if it cannot be exported.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about its own code
        program = torch.onnx.export(
            module,
            (codes,),
            input_names=["codes"],
            output_names=["images"],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for value in (*program.model_proto.graph.input, *program.model_proto.graph.output):
        if not value.type.tensor_type.shape.dim[0].dim_param:
            raise ValueError("it fixes the number of images: take it from noise.shape[0], not from len(noise)")
    content: bytes = program.model_proto.SerializeToString()
    return content
