"""A finished model made portable: its sampler as ONNX."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from genmodel import durable
from genmodel.errors import ModelError
from genmodel.models.contract import Family
from genmodel.sampling import Sampler, codes

_OPSET = 18


def export_onnx(model: Family, path: Path) -> None:
    """Write the sampler as ONNX: input `codes` as sampling.codes makes them, output `images` uint8 [N, S, S, 3], any N.

    `model` is on the CPU and in eval mode. ModelError without the packages onnx and onnxscript.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(f"exporting to ONNX needs {error.name}: pip install onnx onnxscript") from error
    example = codes(model.space, [1.0] * model.classes, 4, seed=0)
    durable.write_bytes(path, onnx_program(Sampler(model).eval(), example))


def onnx_program(module: nn.Module, codes: Tensor) -> bytes:
    """A module of one input `codes` and one output `images` as ONNX; `codes`, an example, are two or more."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
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
    content: bytes = program.model_proto.SerializeToString()
    return content
