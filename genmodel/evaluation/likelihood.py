"""Figures of models with a likelihood, over the val split; None for all others, in the same table."""

import torch

from genmodel.data.block import Block
from genmodel.evaluation.bootstrap import Estimate, mean
from genmodel.evaluation.features import held_out_rows, image_batches
from genmodel.evaluation.similarity import psnr, ssim
from genmodel.models.base import GenerativeModel
from genmodel.settings import EvaluationConfig

NAMES = ("bits_per_dim", "bits_per_dim_iw", "psnr", "ssim")


@torch.inference_mode()
def likelihood(
    model: GenerativeModel, block: Block, image_size: int, config: EvaluationConfig, device: torch.device
) -> dict[str, Estimate | None]:
    """Means over the val split (at most `config.samples` images of it).

    bits_per_dim: the bound by one sample of z; bits_per_dim_iw: that by `config.importance_samples` (Burda et al.
    2016, eq. 8), tighter and never to be set beside the former; psnr (dB) and ssim of each image against its
    reconstruction. Each image weighs the same.
    """
    rows = held_out_rows(block, config.samples)
    if not model.has_likelihood or not len(rows):
        return dict.fromkeys(NAMES)
    rng = torch.Generator(device).manual_seed(config.seed)
    weighted_rng = torch.Generator(device).manual_seed(config.seed)
    found: dict[str, list[torch.Tensor]] = {name: [] for name in NAMES}
    for batch in image_batches(block, image_size, rows):
        images = batch.to(device)
        found["bits_per_dim"].append(model.bits_per_dim(images, rng)["bits_per_dim"])
        weighted = model.importance_weighted_bits(images, weighted_rng, config.importance_samples)
        found["bits_per_dim_iw"].append(weighted)
        levels = images.permute(0, 3, 1, 2).double()
        rebuilt = (model.reconstruct(images).double() + 1) * 127.5
        found["psnr"].append(psnr(levels, rebuilt))
        found["ssim"].append(ssim(levels, rebuilt))
    return {name: mean(torch.cat(values).cpu()) for name, values in found.items()}
