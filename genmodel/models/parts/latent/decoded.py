"""p(x|z) of a decoder's maps by its setting `likelihood`, over the 256 levels of every colour value.

logistic: the maps are the means [N, C, H, W] of discretised logistics, beside them one learned scale per channel.
mixture: the maps hold all numbers of a mixture of them for every pixel (parts/logistics.py); there is no scale beside.
"""

from typing import Literal

from torch import Tensor

from genmodel.models.parts.logistics import mixture_mean, mixture_nll, mixture_width
from genmodel.models.parts.losses import discretised_logistic_nll, widened

PixelLikelihood = Literal["logistic", "mixture"]


def decoded_width(likelihood: PixelLikelihood, channels: int, components: int) -> int:
    """How many maps the decoder gives."""
    return mixture_width(channels, components) if likelihood == "mixture" else channels


def decoded_nll(images: Tensor, maps: Tensor, log_scale: Tensor | None) -> Tensor:
    """-log p(x|z) in nats, [N], of images [N, C, H, W] in [-1, 1]; `log_scale` is None for a mixture."""
    if log_scale is None:
        return mixture_nll(images, maps)
    return discretised_logistic_nll(images, widened(maps), widened(log_scale))


def decoded_image(maps: Tensor, channels: int, likelihood: PixelLikelihood) -> Tensor:
    """The mean of p(x|z), [N, C, H, W] in [-1, 1]: the image without its pixel noise."""
    return mixture_mean(maps, channels) if likelihood == "mixture" else maps.clamp(-1, 1)
