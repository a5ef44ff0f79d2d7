"""A walk over the pixels of an image that computes nothing twice: Ramachandran et al. 2017, "Fast Generation for
Convolutional Autoregressive Models".

Each convolution's input is kept for one row, and in the right stream for one pixel. The down stream is computed a row
at a time, the right stream a pixel at a time; what the row above adds to a row of the right stream, again at once. At
half the size there is something to compute at every second row and pixel alone: the walk goes in groups of rows and of
columns, in which all sizes come round.

Maps are rows [W, N, ...] here, for N images side by side.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from genmodel.models.parts.pixelcnn.network import (
    DownRightShifted,
    DownShifted,
    Gated,
    Network,
    Shifted,
    Stage,
    Way,
    activated,
    class_code,
    with_ones,
)

Choose = Callable[[Tensor, Tensor], Tensor]  # the network's numbers of a pixel [N, outputs], given [N, D] -> [N, C]
Step = Callable[[list[Tensor], Tensor | list[Tensor]], tuple[list[Tensor], list[Tensor]]]


def walk(network: Network, labels: Tensor | None, given: Tensor, choose: Choose) -> Tensor:
    """Images [H, W, N, C], pixel after pixel in raster order, each chosen from what the network says of it.

    `choose` gets given[y, x] beside the network's numbers. H and W can be divided by 2 ** network.halvings.
    """
    return _Walk(network, labels, choose).over(given)


class _Walk:
    def __init__(self, network: Network, labels: Tensor | None, choose: Choose) -> None:
        self.network, self.choose = network, choose
        self.down, self.right = network.down_convolutions, network.right_convolutions
        self.group = 2**network.halvings
        has_codes = network.down.blocks[0].code is not None
        self.down_codes, self.right_codes = (
            [class_code(block, labels) for block in stream.blocks] if has_codes else []
            for stream in (network.down, network.right)
        )

    def over(self, given: Tensor) -> Tensor:
        _, width, n, _ = given.shape
        pixels = given.new_zeros(width, n, self.network.channels + 1)  # above the first row, without ones
        above = [given.new_zeros(width >> each.level, n, each.weight.shape[-1]) for each in (*self.down, *self.right)]
        _, (rows,) = _scan(self._rows, [pixels, *above], [given.unflatten(0, (-1, self.group))])
        return rows.flatten(0, 1)

    def _rows(self, carry: list[Tensor], given: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """A group of rows."""
        last, *kept = carry
        down, above = _Rows(kept[: len(self.down)], self.down_codes), kept[len(self.down) :]
        halves: dict[int, Tensor] = {}
        drawn = []
        for row in range(self.group):
            down.enter(row)
            self.network.down(down.convolved(self.network.first_down, last), down)
            values = self._columns(row, above, down.seen, halves, given[0][row])
            drawn.append(values)
            last = with_ones(values)
        return [last, *down.above, *above], [torch.stack(drawn)]

    def _columns(
        self, row: int, above: list[Tensor], seen: dict[int, Tensor], halves: dict[int, Tensor], given: Tensor
    ) -> Tensor:
        """A row, in groups of columns; `above` and `halves` become those of the next row."""
        active = [each for each in self.right if row % 2**each.level == 0]
        adding = [each for each in active if each.stride == 1 or (row >> each.level) % 2 == 0]
        added = [each.above(above[each.number]) for each in adding if isinstance(each, DownRightShifted)]
        lower = [level for level in halves if (row >> level) % 2 and row % 2**level == 0]
        upper = [level for level in range(self.network.halvings) if row % 2 ** (level + 1) == 0]
        counts = (len(added), len(seen), len(lower))

        def step(carry: list[Tensor], parts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            pixel, *left = carry
            terms, besides, second = parts[: counts[0]], parts[counts[0] : sum(counts[:2])], parts[sum(counts[:2]) : -1]
            way = _Pixels(
                row,
                left,
                {each.number: iter(term) for each, term in zip(adding, terms, strict=True)},
                {number: iter(beside) for number, beside in zip(seen, besides, strict=True)},
                {level: iter(half) for level, half in zip(lower, second, strict=True)},
                self.right_codes,
            )
            drawn = []
            for column in range(self.group):
                way.column = column
                maps = self.network.right(way.convolved(self.network.first_right, pixel), way)
                values = self.choose(self.network.read(maps), parts[-1][column])
                drawn.append(values)
                pixel = with_ones(values)
            made = [drawn, *(way.inputs[each.number] for each in active), *(way.halves[level] for level in upper)]
            return [pixel, *way.left], [torch.stack(each) for each in made]

        n = given.shape[1]
        start = [given.new_zeros(n, self.network.channels + 1)]
        start += [given.new_zeros(n, each.weight.shape[-1]) for each in self.right]
        parts = [*added, *seen.values(), *(halves[level] for level in lower), given]
        columns = given.shape[0] // self.group
        _, made = _scan(step, start, [each.unflatten(0, (columns, -1)) for each in parts])
        values, *inputs = [each.flatten(0, 1) for each in made]
        for each, kept in zip(active, inputs, strict=False):
            above[each.number] = kept
        for level, half in zip(upper, inputs[len(active) :], strict=True):
            halves[level] = half
        return values


class _Rows(Way):
    """Of the down stream; maps are [W, N, channels]."""

    def __init__(self, above: list[Tensor], codes: list[Tensor]) -> None:
        self.above, self.codes = list(above), codes  # by the numbers of convolutions, of blocks
        self.halves: dict[int, Tensor] = {}  # the second row of what an inner stage has made of two, by level

    def enter(self, row: int) -> None:
        self.row = row
        self.seen: dict[int, Tensor] = {}

    def convolved(self, convolution: Shifted, maps: Tensor) -> Tensor:
        assert isinstance(convolution, DownShifted)
        above, self.above[convolution.number] = self.above[convolution.number], maps
        return convolution.row(above, maps)

    def inner(self, stage: Stage, maps: Tensor) -> Tensor:
        assert stage.inner is not None
        if (self.row >> stage.level) % 2:
            self.above[stage.shrink.number] = maps
            return self.halves[stage.level]
        made = stage.grow(stage.inner(self.convolved(stage.shrink, maps), self))
        first, second = made.unflatten(-1, (2, 2, -1)).unbind(2)  # [W / 2, N, 2, channels] each
        self.halves[stage.level] = second.transpose(1, 2).flatten(0, 1)
        return first.transpose(1, 2).flatten(0, 1)

    def beside(self, block: Gated) -> Tensor:
        raise AssertionError("the down stream sees nothing beside it")

    def passed(self, block: Gated, maps: Tensor) -> Tensor:
        self.seen[block.number] = activated(maps)
        return maps

    def code(self, block: Gated) -> Tensor:
        return self.codes[block.number]


class _Pixels(Way):
    """Of the right stream, within a group of columns; maps are [N, channels]."""

    def __init__(
        self, row: int, left: list[Tensor], added: dict[int, Iterator[Tensor]], seen: dict[int, Iterator[Tensor]],
        lower: dict[int, Iterator[Tensor]], codes: list[Tensor],
    ) -> None:  # fmt: skip
        self.row, self.column, self.codes = row, 0, codes
        self.left, self.added, self.seen, self.lower = left, added, seen, lower
        self.inputs: list[list[Tensor]] = [[] for _ in left]  # of each convolution, for the next row
        self.halves: list[list[Tensor]] = [[] for _ in left]  # for the next row, by level
        self.next: list[Tensor | None] = [None for _ in left]  # for the next column, by level

    def convolved(self, convolution: Shifted, maps: Tensor) -> Tensor:
        assert isinstance(convolution, DownRightShifted)
        left = self._replaced(convolution, maps)
        return next(self.added[convolution.number]) + convolution.pixel(left, maps)

    def _replaced(self, convolution: Shifted, maps: Tensor) -> Tensor:
        self.inputs[convolution.number].append(maps)
        left, self.left[convolution.number] = self.left[convolution.number], maps
        return left

    def inner(self, stage: Stage, maps: Tensor) -> Tensor:
        assert stage.inner is not None
        odd_row, odd_column = (self.row >> stage.level) % 2, (self.column >> stage.level) % 2
        if odd_row or odd_column:
            self._replaced(stage.shrink, maps)
            made = next(self.lower[stage.level]) if odd_row else self.next[stage.level]
            assert made is not None
            return made
        made = stage.grow(stage.inner(self.convolved(stage.shrink, maps), self))
        here, self.next[stage.level], *below = made.chunk(4, dim=-1)
        self.halves[stage.level] += below
        return here

    def beside(self, block: Gated) -> Tensor:
        return next(self.seen[block.number])

    def passed(self, block: Gated, maps: Tensor) -> Tensor:
        return maps

    def code(self, block: Gated) -> Tensor:
        return self.codes[block.number]


def _scan(step: Step, carry: list[Tensor], parts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """step(carry, [part[i] ...]) -> (carry, made) along the first dimension of all parts; what is made, stacked.

    An exported graph holds the step once, and not all of its repetitions.
    """
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan

        def copied(carry: list[Tensor], parts: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            after, made = step(carry, parts)
            return [each.clone() for each in after], made  # which may not be what came in

        found: tuple[list[Tensor], list[Tensor]] = scan(copied, carry, parts)
        return found
    made = []
    for place in range(parts[0].shape[0]):
        carry, some = step(carry, [part[place] for part in parts])
        made.append(some)
    return carry, [torch.stack(each) for each in zip(*made, strict=True)]
