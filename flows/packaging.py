"""The package of a model: what is put into the registry; the check, the trial and the use of what came out of it."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import tracking
from flows.settings import Settings
from genmodel import durable
from genmodel.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genmodel.sampling import ExportedGraph

SERVED = Path(__file__).with_name("served.py")
PACKAGE = "genmodel.package"  # a version's tag: the digest of its package
CURE = "take its folder in MLflow's artifacts back from a copy"
_OLD_PRIORS = {"dcgan": "uniform", "vae": "normal"}  # by family: of packages of before they told their prior
_NEEDED = ("mlflow", "numpy", "torch")  # by the code in SERVED


def package(target: Path, sampler: "nn.Module", latent_dim: int, prior: str, beside: Sequence[Path]) -> None:
    """Write an MLflow model to the folder `target`: the exported graph (pt2, nothing pickled) with files `beside`.

    `sampler`, on the CPU and in eval mode, turns codes float32 [N, latent_dim] into images uint8 [N, S, S, 3];
    `prior`, "normal" or "uniform", is what its codes are drawn from.
    """
    import numpy as np
    import torch

    codes = np.random.default_rng(0).standard_normal((4, latent_dim), dtype=np.float32)  # of one, the batch were fixed
    with torch.no_grad():
        images = sampler(torch.from_numpy(codes)).numpy()
    assert images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3, "uint8 NHWC"
    config = {"latent_dim": latent_dim, "prior": prior, "image_size": images.shape[1]}
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in _NEEDED]  # a build is in no index
    tracking.save_package(target, sampler, codes, images, SERVED, config, requirements, beside)


def digest(folder: Path) -> str:
    """sha256 over the names and the contents of all files in `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return durable.digest_json({path.relative_to(folder).as_posix(): durable.digest_file(path) for path in files})


def verify(folder: Path, tags: Mapping[str, str], name: str) -> bool:
    """ModelError, which calls it `name`, if the package in `folder` is not what was registered under these `tags`.

    A version of before packages had digests has but that of its weights: False says that the rest is not verified.
    """
    known = tags.get(PACKAGE)
    if known is not None:
        if digest(folder) != known:
            raise ModelError(f"{name} is damaged: its package is not the one that was registered; {CURE}")
        return True
    weights = folder / "extra_files" / "weights.safetensors"
    if not weights.exists() or durable.digest_file(weights) != tags.get("genmodel.weights"):
        raise ModelError(f"{name} is damaged: its weights are not those that were registered; {CURE}")
    return False


def try_out(folder: Path, name: str, settings: Settings, n: int = 4) -> str:
    """Load the package in `folder` and draw `n` images with it; returns what it did in words.

    ModelError, which calls it `name`, where it does not load, or where what it draws is no images.
    """
    import numpy as np

    try:
        model = tracking.load(folder, settings)
        images = np.asarray(model.predict(_request(model, n)))
    except Exception as error:  # torch, zip, MLflow and the shipped code raise errors of their own
        raise ModelError(f"{name} does not load and generate: {_in_a_line(error)}") from error
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != n or images.shape[3] != 3:
        raise ModelError(f"{name} generates no images, but {images.dtype} {list(images.shape)}")
    if images.min() == images.max():
        raise ModelError(f"{name} generates blank images: all their values are {images.min()}")
    return f"It loads from the registry and generates {images.shape[1]} px images."


def exported(folder: Path, family: str, name: str, settings: Settings, device: str = "cpu") -> "ExportedGraph":
    """What draws the images of the model in the package in `folder`: its graph, without any code of its family.

    ModelError, which calls it `name`, where that cannot be loaded or draws no images, then or later.
    """
    import torch

    from genmodel.sampling import PRIORS, ExportedGraph

    try:
        graph, told = tracking.open_graph(folder, settings, device)
        latent_dim, prior = int(told["latent_dim"]), str(told.get("prior") or _OLD_PRIORS.get(family))
    except Exception as error:  # torch, zip, YAML and MLflow raise errors of their own
        raise ModelError(f"{name} does not load: {_in_a_line(error)}") from error
    if prior not in PRIORS:
        raise ModelError(f"{name} does not tell what its codes are drawn from, as {' or '.join(PRIORS)}")

    def draw(codes: "Tensor") -> "Tensor":
        try:
            images: Tensor = graph(codes)
        except Exception as error:  # whatever a graph of another torch may raise
            raise ModelError(f"{name} does not generate: {_in_a_line(error)}") from error
        shape = list(getattr(images, "shape", []))
        if len(shape) != 4 or (shape[0], shape[3]) != (len(codes), 3) or images.dtype != torch.uint8:
            raise ModelError(f"{name} generates no images, but {getattr(images, 'dtype', type(images))} {shape}")
        return images

    return ExportedGraph(draw, latent_dim, prior, digest(folder), name, device)


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _request(model: Any, n: int) -> Any:
    import numpy as np

    schema = model.metadata.get_input_schema()
    if schema is None:
        return {"n": n, "seed": 0}
    return np.random.default_rng(0).standard_normal((n, schema.inputs[0].shape[1]), dtype=np.float32)  # of older ones
