"""Quality against cost as an SVG in the page's colours, so that it is light or dark like the page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 600, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 20, 56  # pixels around the plot
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
)  # Okabe and Ito: also for the colour-blind
_MARGIN = 1.15  # how far the axes reach beyond the outermost points, as a factor
NAMED, _LETTERS = 20, 24  # names in the picture, and letters per name, at most
_LETTER, _LINE = 8.2, 15  # pixels, a letter's approximate width and a line's height


@dataclass(frozen=True)
class Point:
    """A model: its cost, its distance and the ends of that figure's interval, all above 0."""

    name: str
    family: str
    cost: float
    distance: float
    low: float
    high: float
    is_champion: bool = False


def draw(points: Sequence[Point], cost: str, distance: str) -> str:
    """An SVG of 600 x 400 with logarithmic axes named `cost` and `distance`; each family has its own colour.

    The NAMED best and the champion are named. Names are drawn after all dots, the best last: nothing covers them.
    """
    across = _Axis([point.cost for point in points], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([end for point in points for end in (point.low, point.high)], _HEIGHT - _BOTTOM, _TOP)
    colours = {family: COLOURS[place % len(COLOURS)] for place, family in enumerate(sorted({p.family for p in points}))}
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(distance)} against {escape(cost)}">',
        *(_tick(across.place(value), _HEIGHT - _BOTTOM, words, "x") for value, words in across.ticks()),
        *(_tick(_LEFT, up.place(value), words, "y") for value, words in up.ticks()),
        f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 12}">{escape(cost)}</text>',
        f'<text class="axis" transform="translate(16 {(_TOP + _HEIGHT - _BOTTOM) / 2:.0f}) rotate(-90)">'
        f"{escape(distance)}</text>",
    ]
    places = {point: (across.place(point.cost), up.place(point.distance)) for point in points}
    names = _names(places)
    for point in sorted(places, key=_merit, reverse=True):
        span = (up.place(point.low), up.place(point.high))
        parts.append(_mark(point, *places[point], span, colours[point.family]))
    parts += [_label(point, *places[point], names[point]) for point in reversed(names)]
    return "\n".join([*parts, "</svg>"])


def _merit(point: Point) -> tuple[bool, float, str]:
    """The champion first, then the best."""
    return not point.is_champion, point.distance, point.name


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "_Box") -> bool:
        apart = self.right < other.left or other.right < self.left or self.bottom < other.top or other.bottom < self.top
        return not apart


def _names(places: Mapping[Point, tuple[float, float]]) -> dict[Point, _Box]:
    """Where to put the names of the best, best first: never over another name while there is room, over a dot only if
    nothing else fits."""
    dots = [_Box(x - 7, y - 7, x + 7, y + 7) for x, y in places.values()]
    found: dict[Point, _Box] = {}
    for point in sorted(places, key=_merit)[:NAMED]:
        boxes = _beside(*places[point], _called(point))
        free = [box for box in boxes if not any(map(box.meets, found.values()))] or boxes
        found[point] = next((box for box in free if not any(map(box.meets, dots))), free[0])
    return found


def _beside(x: float, y: float, name: str) -> list[_Box]:
    """Where a dot's name may go in the picture: right, left, above, below, then anywhere, nearest first."""
    width = _LETTER * len(name)
    corners = [(x + 10, y - 8), (x - 10 - width, y - 8), (x - width / 2, y - 24), (x - width / 2, y + 10)]
    anywhere = [
        (float(left), float(top))
        for left in range(_LEFT + 1, int(_WIDTH - _RIGHT - width) + 1, 12)
        for top in range(_TOP, _HEIGHT - _BOTTOM - _LINE, _LINE + 2)
    ]
    anywhere.sort(key=lambda corner: math.hypot(corner[0] + width / 2 - x, corner[1] + _LINE / 2 - y))
    boxes = [_Box(left, top, left + width, top + _LINE) for left, top in [*corners, *anywhere]]
    return [box for box in boxes if box.left > _LEFT and box.right < _WIDTH and box.top > 0 and box.bottom < _HEIGHT]


def _called(point: Point) -> str:
    """Its name, cut if it is long; the champion has a star."""
    short = point.name if len(point.name) <= _LETTERS else f"{point.name[: _LETTERS - 1]}…"
    return f"★ {short}" if point.is_champion else short


class _Axis:
    """A logarithmic scale from values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.high = min(values) / _MARGIN, max(values) * _MARGIN
        if self.high < 4 * self.low:  # else noise between equal models would fill the picture
            middle = math.sqrt(self.low * self.high)
            self.low, self.high = middle / 2, middle * 2
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the axis, with their labels: the coarsest steps that give three."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found: list[float] = []
        for kind in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
            found = [digit * 10.0**decade for decade in decades for digit in kind]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) >= 3:
                break
        return [(value, number(value)) for value in found]


def number(value: float) -> str:
    """A round number at an axis."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.6g}"


def _tick(x: float, y: float, words: str, axis: str) -> str:
    if axis == "x":
        line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{y}"/>'
        return f'{line}<text class="tick" x="{x:.1f}" y="{y + 20}" text-anchor="middle">{words}</text>'
    line = f'<line class="grid" x1="{x}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text class="tick" x="{x - 8}" y="{y + 4:.1f}" text-anchor="end">{words}</text>'


def _mark(point: Point, x: float, y: float, span: tuple[float, float], colour: str) -> str:
    """A dot with its interval; a tooltip shows everything."""
    told = f"{point.name} ({point.family}): {point.distance:.4g} [{point.low:.4g}, {point.high:.4g}], {point.cost:,.4g}"
    return (
        f'<g style="color: {colour}"><title>{escape(told)}</title>'
        f'<line class="span" x1="{x:.1f}" x2="{x:.1f}" y1="{span[0]:.1f}" y2="{span[1]:.1f}"/>'
        f'<circle class="{"champion" if point.is_champion else "model"}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/></g>'
    )


def _label(point: Point, x: float, y: float, box: _Box) -> str:
    """The name in its box, tied to its dot by a line if it is far."""
    side = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)  # its point nearest to the dot
    tie = ""
    if math.dist(side, (x, y)) > 14:
        tie = f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{side[0]:.1f}" y2="{side[1]:.1f}"/>'
    return f'{tie}<text class="name" x="{box.left:.1f}" y="{box.bottom - 3:.1f}">{escape(_called(point))}</text>'
