"""A walk over the pixels of an image that computes nothing twice: Ramachandran et al. 2017, "Fast Generation for
Convolutional Autoregressive Models".

Each convolution's input is kept for one row, and in the right stream for one pixel. The down stream is computed a row
at a time, the right stream a pixel at a time; what the row above adds to a row of the right stream, again at once. A
stage at half the size has something to compute at every second row and column; in between, what it made stays.

An exported graph holds one row and one pixel, and loops over them: it computes those stages everywhere and drops what
is not due. Maps are rows [W, N, channels] here, or pixels [N, channels], for N images side by side.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from genmodel.models.parts.pixelcnn.network import Gated, Network, Stage, Way, class_code, with_ones
from genmodel.models.parts.pixelcnn.shifted import DownRightShifted, DownShifted, Shifted

Choose = Callable[[Tensor, Tensor], Tensor]  # the network's numbers of a pixel [N, outputs], given [N, D] -> [N, C]
Place = int | Tensor  # of a row or a column; in an exported graph a tensor []
Tensors = list[Tensor]
Moved = tuple[Tensors, Tensors]  # the state after a step, and what it made


def walk(network: Network, labels: Tensor | None, given: Tensor, choose: Choose) -> Tensor:
    """Images [H, W, N, C], pixel after pixel in raster order, each chosen from what the network says of it.

    `choose` gets given[y, x] beside the network's numbers. H and W can be divided by 2 ** network.halvings.
    """
    return _Walk(network, labels, choose).over(given)


class _Walk:
    """What is the same at each pixel. The state goes from row to row and from pixel to pixel as a list of tensors."""

    def __init__(self, network: Network, labels: Tensor | None, choose: Choose) -> None:
        self.network, self.choose = network, choose
        self.downs, self.rights = network.downs, network.rights
        conditional = network.down.blocks[0].code is not None
        self.down_codes, self.right_codes = (
            [class_code(block, labels) for block in stream.blocks] if conditional else []
            for stream in (network.down, network.right)
        )

    def over(self, given: Tensor) -> Tensor:
        network, (_, width, n, _) = self.network, given.shape
        start = [given.new_zeros(width, n, network.channels + 1)]  # above the first row there are not even ones
        for stream, convolutions in ((network.down, self.downs), (network.right, self.rights)):
            start += [given.new_zeros(width >> each.level, n, each.inputs) for each in convolutions]
            start += [given.new_zeros(width >> each.level, n, network.width) for each in stream.halved]
        _, (rows,) = _scan(self._row, start, [given])
        return rows

    def _row(self, row: Place, carry: Tensors, parts: Tensors) -> Moved:
        network = self.network
        last, *kept = carry
        above, lower, right_above, right_lower = _split(
            kept, len(self.downs), network.halvings, len(self.rights), network.halvings
        )
        down = _Rows(row, above, lower, self.down_codes)
        network.down(down.convolved(network.first_down, last), down)
        values, kept = self._columns(row, down.seen, right_above, right_lower, parts[0])
        return [with_ones(values), *down.above, *down.lower, *kept], [values]

    def _columns(
        self, row: Place, seen: dict[int, Tensor], above: Tensors, lower: Tensors, given: Tensor
    ) -> tuple[Tensor, Tensors]:
        """The values of a row, [W, N, C]; and what takes the places of `above` and `lower` in the next one."""
        network, (width, n, _) = self.network, given.shape
        added = [each.above(kept) for each, kept in zip(self.rights, above, strict=True)]
        counts = len(added), len(seen), len(lower), 1

        def step(column: Place, carry: Tensors, parts: Tensors) -> Moved:
            (last,), left, grown = _split(carry, 1, len(above), len(lower))
            terms, beside, halves, (here,) = _split(parts, *counts)
            pixels = _Pixels(row, column, left, grown, terms, dict(zip(seen, beside, strict=True)), halves)
            pixels.codes = self.right_codes
            _, active = network.right(pixels.convolved(network.first_right, last), pixels)
            values = self.choose(network.out(active), here)
            below = [each[:, 2 * network.width :] for each in pixels.grown]
            return [with_ones(values), *pixels.left, *pixels.grown], [values, *pixels.left, *below]

        start = [given.new_zeros(n, network.channels + 1)]  # to the left of the first pixel
        start += [given.new_zeros(n, each.inputs) for each in self.rights]
        start += [given.new_zeros(n, 4 * network.width) for _ in lower]
        parts = [_stretched(each, width) for each in (*added, *seen.values(), *lower)]
        _, made = _scan(step, start, [*parts, given])
        (values,), inputs, below = _split(made, 1, len(above), len(lower))
        for place, convolution in enumerate(self.rights):
            new = inputs[place][:: 2**convolution.level]
            above[place] = _either(row, convolution.level, new, above[place])
        for level in range(network.halvings):
            new = below[level][:: 2 ** (level + 1)].unflatten(-1, (2, -1)).transpose(1, 2).flatten(0, 1)
            lower[level] = _either(row, level + 1, new, lower[level])
        return values, [*above, *lower]


class _Rows(Way):
    """Of the down stream: a row of each map."""

    def __init__(self, row: Place, above: Tensors, lower: Tensors, codes: Tensors) -> None:
        self.row, self.codes = row, codes  # of the blocks, by number
        self.above = above  # the last row of each convolution's input, by number
        self.lower = lower  # the second row of what an inner stage has made of two, by the outer stage's level
        self.seen: dict[int, Tensor] = {}

    def convolved(self, convolution: Shifted, maps: Tensor) -> Tensor:
        assert isinstance(convolution, DownShifted)
        above, self.above[convolution.number] = self.above[convolution.number], maps
        return convolution.row(above, maps)

    def inner(self, stage: Stage, maps: Tensor) -> Tensor:
        before, count = [self.lower[stage.level], *self.above, *self.lower], len(self.above)

        def make() -> Tensors:
            assert stage.inner is not None
            made = stage.grow(stage.inner(self.convolved(stage.shrink, maps), self)[0])
            upper, lower = (part.transpose(1, 2).flatten(0, 1) for part in made.unflatten(-1, (2, 2, -1)).unbind(2))
            self.lower[stage.level] = lower
            return [upper, *self.above, *self.lower]

        (found,), self.above, self.lower = _split(
            _due(self.row, stage.level + 1, make, before), 1, count, len(self.lower)
        )
        self.above[stage.shrink.number] = maps
        return found

    def beside(self, block: Gated) -> Tensor:
        raise AssertionError("the down stream sees nothing beside it")

    def passed(self, block: Gated, active: Tensor) -> None:
        self.seen[block.number] = active

    def code(self, block: Gated) -> Tensor:
        return self.codes[block.number]


class _Pixels(Way):
    """Of the right stream: a pixel of each map."""

    def __init__(
        self, row: Place, column: Place, left: Tensors, grown: Tensors, added: Tensors, seen: dict[int, Tensor],
        lower: Tensors,
    ) -> None:  # fmt: skip
        self.row, self.column = row, column
        self.left = left  # the last pixel of each convolution's input, by number
        self.grown = grown  # the four pixels that an inner stage has made of one, side by side, by the outer's level
        self.added = added  # what the row above adds, by the convolution's number
        self.seen = seen
        self.lower = lower  # in an odd row, what the inner stage made in the row above, by the outer's level
        self.codes: Tensors = []

    def convolved(self, convolution: Shifted, maps: Tensor) -> Tensor:
        assert isinstance(convolution, DownRightShifted)
        left, self.left[convolution.number] = self.left[convolution.number], maps
        return self.added[convolution.number] + convolution.pixel(left, maps)

    def inner(self, stage: Stage, maps: Tensor) -> Tensor:
        before, level = [*self.left, *self.grown], stage.level

        def make() -> Tensors:
            assert stage.inner is not None
            self.grown[level] = stage.grow(stage.inner(self.convolved(stage.shrink, maps), self)[0])
            return [*self.left, *self.grown]

        after = _due(self.row, level + 1, lambda: _due(self.column, level + 1, make, before), before)
        self.left, self.grown = _split(after, len(self.left), len(self.grown))
        self.left[stage.shrink.number] = maps
        here, right, _, _ = self.grown[level].chunk(4, dim=-1)
        return _either(self.row, level + 1, _either(self.column, level + 1, here, right), self.lower[level])

    def beside(self, block: Gated) -> Tensor:
        return self.seen[block.number]

    def passed(self, block: Gated, active: Tensor) -> None:
        pass

    def code(self, block: Gated) -> Tensor:
        return self.codes[block.number]


def _due(place: Place, level: int, make: Callable[[], Tensors], kept: Tensors) -> Tensors:
    """What `make` makes, where 2 ** level divides the place; else what was kept, tensors of the same shapes."""
    if isinstance(place, int):
        return kept if place % 2**level else make()
    due = place % 2**level == 0
    return [new if new is old else torch.where(due, new, old) for new, old in zip(make(), kept, strict=True)]


def _either(place: Place, level: int, new: Tensor, kept: Tensor) -> Tensor:
    return _due(place, level, lambda: [new], [kept])[0]


def _scan(step: Callable[[Place, Tensors, Tensors], Moved], carry: Tensors, parts: Tensors) -> Moved:
    """step(i, carry, [part[i] ...]) -> (carry, made) along the first dimension of all parts; what is made, stacked."""
    places = parts[0].shape[0]
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan

        def copied(carry: Tensors, parts: Tensors) -> Moved:
            after, made = step(parts[0], carry, parts[1:])
            return _copies(after), _copies(made)  # a scan must not return what it was given

        found: Moved = scan(copied, carry, [torch.arange(places, device=parts[0].device), *parts])
        return found
    rows = []
    for place in range(places):
        carry, made = step(place, carry, [part[place] for part in parts])
        rows.append(made)
    return carry, [torch.stack(each) for each in zip(*rows, strict=True)]


def _copies(tensors: Tensors) -> Tensors:
    return [each.clone(memory_format=torch.contiguous_format) for each in tensors]


def _split(tensors: Tensors, *counts: int) -> list[Tensors]:
    """The first counts[0] of them, the next counts[1], ..."""
    found, start = [], 0
    for count in counts:
        found.append(tensors[start : start + count])
        start += count
    return found


def _stretched(row: Tensor, width: int) -> Tensor:
    """A row of a map with fewer columns, each as often as it takes."""
    return row if row.shape[0] == width else row.repeat_interleave(width // row.shape[0], dim=0)
