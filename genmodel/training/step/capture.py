"""A whole training step as one CUDA graph: one launch instead of an eager step's thousand."""

from collections.abc import Callable

import torch
from torch import Tensor

_EAGER = 3  # steps before the capture, in which kernels are chosen and the optimisers' state is made


class CapturedStep:
    """A step, captured at the fourth call and replayed from then on; the first three are real steps, too.

    All that a step reads is at fixed addresses: images and labels are copied there, the engine's values and sums are
    there, and the noise's generator is registered with the graph, so that the next replay uses a new seed.

    For a single process only. Several processes use the eager step: in each update they exchange which gradients they
    have, and a captured step could not see that change.
    """

    def __init__(self, update: Callable[[Tensor, Tensor], None], rng: torch.Generator) -> None:
        """`update` does the work for images and labels; its noise comes from `rng`, on the device."""
        self.update, self.rng = update, rng
        self.stream = torch.cuda.Stream(rng.device)  # a capture may not begin on the default stream
        self.eager = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.images = self.labels = torch.empty(0)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        if self.eager < _EAGER:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.update(images, labels)
            torch.cuda.current_stream().wait_stream(self.stream)
            self.eager += 1
            return
        if self.graph is None:
            self.graph = self._capture(images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()

    def _capture(self, images: Tensor, labels: Tensor) -> torch.cuda.CUDAGraph:
        self.images, self.labels = images.clone(), labels.clone()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.rng)
        with torch.cuda.graph(graph, stream=self.stream):  # records, and runs nothing
            self.update(self.images, self.labels)
        return graph
