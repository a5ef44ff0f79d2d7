"""A finished model made portable: its sampler as ONNX, and the name of the prior that its codes come from."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from genmodel import durable
from genmodel.errors import ModelError
from genmodel.models.base import GenerativeModel
from genmodel.sampling import PRIORS, Sampler

_OPSET = 18


def prior_of(model: GenerativeModel) -> str:
    """The prior by name, "normal" or "uniform", found by drawing: who has the name draws the same codes."""
    for name, draw in PRIORS.items():
        drawn = model.draw_codes(3, torch.Generator().manual_seed(5))
        if torch.equal(drawn, draw(3, model.latent_dim, torch.Generator().manual_seed(5))):
            return name
    raise ModelError(f"{type(model).__name__} draws its codes from a prior that cannot be named to a server")


def export_onnx(model: GenerativeModel, path: Path) -> None:
    """Write the sampler as ONNX: input `codes` float32 [N, latent_dim], output `images` uint8 [N, S, S, 3], any N.

    `model` is on the CPU and in eval mode. ModelError without the packages onnx and onnxscript.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ModelError(f"exporting to ONNX needs {error.name}: pip install onnx onnxscript") from error
    codes = model.draw_codes(4, torch.Generator().manual_seed(0))
    durable.write_bytes(path, onnx_program(Sampler(model).eval(), codes))


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
