"""The package of a model: written for the registry; checked, tried out and used when it is fetched from there."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import tracking
from flows.settings import Settings
from genmodel.code import file_of
from genmodel.errors import GenmodelError, ModelError
from genmodel.files import durable
from genmodel.sizes import CHANNELS, Size, shape_text

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from genmodel.models.contract import Family
    from genmodel.models.noise import Space
    from genmodel.sampling.draw import ExportedGraph

SERVED = Path(__file__).with_name("shipped.py")
PACKAGE = "genmodel.package"  # a version's tag: the digest of its package
CURE = "take its folder in MLflow's artifacts back from a copy"
TOLERATED = 0.01  # share of a graph's values that may be more than one level from the model's
_OLD_PRIORS = {"dcgan": "uniform", "vae": "normal"}  # by family, of old packages that do not name their prior
_NEEDED = ("mlflow", "numpy", "torch")  # by the code in SERVED
_IMPORT = re.compile(r"^from (genmodel\.[\w.]+) import .+$", re.MULTILINE)


def package(
    target: Path, model: "Family", name: str, classes: Mapping[str, int], settings: Settings, beside: Sequence[Path]
) -> "np.ndarray":
    """Write an MLflow model to the folder `target`: the exported graph (pt2, nothing pickled) with files `beside`.

    `model` is on the CPU and in eval mode; `classes` are those of a conditional model, with how often each comes where
    none is asked for. Returns images that it draws once it is loaded as clients load it. ModelError, which calls the
    model `name`, where it cannot be exported, or where the graph draws other images than the model.
    """
    import numpy as np
    import torch

    from genmodel.sampling.draw import Sampler
    from genmodel.sampling.requests import BATCH, codes

    sampler = Sampler(model).eval()
    example = codes(model.space, list(classes.values()), BATCH, seed=0)  # the fixed number that is drawn at once
    with torch.no_grad():
        images = sampler(example)
    config = {
        "space": model.space.as_dict(),
        "image_size": model.image_size.plain(),
        "channels": model.spec.channels,
        "classes": list(classes),
        "class_counts": list(classes.values()),
    }
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in _NEEDED]  # +cpu is in no index
    request = {"n": 16, "seed": 3, **({"class": next(iter(classes))} if classes else {})}
    try:
        tracking.save_package(
            target, sampler, example.numpy(), images.numpy(), standalone(SERVED), config, requirements, beside, request
        )
    except (OSError, GenmodelError):
        raise
    except Exception as error:  # whatever torch raises for a model that it cannot export
        raise ModelError(f"{name} cannot be registered: torch cannot export its graph ({_in_a_line(error)})") from error
    drawn = generate(target, f"{name} cannot be registered: its graph", settings, example.numpy())
    wrong = float((np.abs(drawn.astype(np.int16) - images.numpy()) > 1).mean())
    if wrong > TOLERATED:  # a branch or a loop that was traced for one input draws images, but others
        raise ModelError(
            f"{name} cannot be registered: its exported graph draws other images than the model ({wrong:.0%} of their "
            "values differ); what its sample() decides in Python must not depend on the noise, nor on earlier calls"
        )
    return drawn


def standalone(path: Path, passed: set[str] | None = None) -> str:
    """The source of a file, with each module of genmodel that it imports put in place of its first import."""
    passed = set() if passed is None else passed

    def source(found: re.Match[str]) -> str:
        if found[1] in passed:
            return ""
        passed.add(found[1])
        place = file_of(found[1])
        assert place is not None, found[1]
        return standalone(place, passed)

    return _IMPORT.sub(source, path.read_text())


def digest(folder: Path) -> str:
    """sha256 over the names and the contents of all files in `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return durable.digest_json({path.relative_to(folder).as_posix(): durable.digest_file(path) for path in files})


def verify(folder: Path, tags: Mapping[str, str], name: str) -> bool:
    """ModelError, which calls it `name`, if the package in `folder` is not what was registered under these `tags`.

    A version from before packages had digests has only that of its weights: False if the rest was not verified.
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

    ModelError, which calls it `name`, if it does not load, or draws anything but images.
    """
    return in_words(generate(folder, name, settings, n), name)


def generate(folder: Path, name: str, settings: Settings, request: "int | np.ndarray") -> "np.ndarray":
    """Images uint8 [N, H, W, C] of the package in `folder`, N of them or of codes [N, width]; errors as `try_out`."""
    import numpy as np

    try:
        model = tracking.load(folder, settings)
        images = np.asarray(model.predict(_request(model, request) if isinstance(request, int) else request))
    except Exception as error:  # torch, zip, MLflow and the shipped code raise errors of their own
        raise ModelError(f"{name} does not load and generate: {_in_a_line(error)}") from error
    n = request if isinstance(request, int) else len(request)
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != n or images.shape[3] not in CHANNELS:
        raise ModelError(f"{name} does not generate images, but {images.dtype} {list(images.shape)}")
    return images


def in_words(images: "np.ndarray", name: str) -> str:
    """What a package did that drew these images; ModelError, which calls it `name`, for blank ones."""
    if images.min() == images.max():
        raise ModelError(f"{name} generates blank images: all their values are {images.min()}")
    _, height, width, channels = images.shape
    return f"It loads from the registry and generates {shape_text(Size(height, width), channels)} images."


def exported(folder: Path, family: str, name: str, settings: Settings, device: str = "cpu") -> "ExportedGraph":
    """The exported graph in the package in `folder`, which draws images without any code of its family.

    ModelError, which calls it `name`, if it cannot be loaded; when it draws, if the result is not images.
    """
    import torch

    from genmodel.sampling.draw import ExportedGraph

    try:
        graph, told = tracking.open_graph(folder, settings, device)
        space, shares = _space(told, family), [float(count) for count in told.get("class_counts", [])]
    except Exception as error:  # torch, zip, YAML and MLflow raise errors of their own
        raise ModelError(f"{name} does not load: {_in_a_line(error)}") from error
    if space is None:
        raise ModelError(f"{name} does not say what its codes are drawn from")

    def draw(codes: "Tensor") -> "Tensor":
        try:
            images: Tensor = graph(codes)
        except Exception as error:  # whatever a graph of another version of torch may raise
            raise ModelError(f"{name} does not generate: {_in_a_line(error)}") from error
        shape = list(getattr(images, "shape", []))
        if len(shape) != 4 or shape[0] != len(codes) or shape[3] not in CHANNELS or images.dtype != torch.uint8:
            raise ModelError(f"{name} does not generate images, but {getattr(images, 'dtype', type(images))} {shape}")
        return images

    return ExportedGraph(draw, space, shares, digest(folder), name, device)


def _space(told: Mapping[str, Any], family: str) -> "Space | None":
    """The space of a package's codes; None where it is not known."""
    from genmodel.models.noise import Space, normal, uniform

    if "space" in told:
        return Space.from_dict(told["space"])
    parts = {"uniform": uniform, "normal": normal}
    prior = str(told.get("prior") or _OLD_PRIORS.get(family))
    return Space((parts[prior](int(told["latent_dim"])),)) if prior in parts else None


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _request(model: Any, n: int) -> Any:
    import numpy as np

    schema = model.metadata.get_input_schema()
    if schema is None:
        return {"n": n, "seed": 0}
    return np.random.default_rng(0).standard_normal((n, schema.inputs[0].shape[1]), dtype=np.float32)  # older ones
