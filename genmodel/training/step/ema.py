"""The exponential moving average of weights that samples are drawn from."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from genmodel.settings.schedule import Scheduled, value_at


class EMA:
    """Averages every floating-point tensor of a module (parameters and running statistics) over images seen."""

    def __init__(self, module: nn.Module, half_life: Scheduled) -> None:
        """`half_life` in images: after that many, a weight's share in the average has halved; 0 copies the module."""
        self.half_life = half_life
        self.shadow = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def decay(self, images_seen: int, batch_size: int) -> float:
        """The share of the old average kept at a step; early on the half-life is a twentieth of images_seen, so
        that the first weights are soon forgotten (Karras et al. 2020, ramp-up in the ADA code)."""
        half_life = min(value_at(self.half_life, images_seen), images_seen / 20)
        return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0

    @torch.no_grad()
    def update(self, module: nn.Module, share: Tensor) -> None:
        """Move by `share` (a scalar on the module's device, 1 - decay) towards the module."""
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.shadow[name].lerp_(value, share)
            else:
                self.shadow[name].copy_(value)

    @contextlib.contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Put the averaged weights into `module`, in eval mode, for the duration of a with block."""
        own = {name: value.detach().clone() for name, value in module.state_dict().items()}
        training = module.training
        module.load_state_dict(self.shadow)
        module.eval()
        try:
            yield
        finally:
            module.load_state_dict(own)
            module.train(training)

    def state(self) -> dict[str, Tensor]:
        return self.shadow
