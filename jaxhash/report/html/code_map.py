"""Draws codes in a plane, as an SVG element with a text for each."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxhash.report.html.page import escape, plot_element
from jaxhash.report.plots.style import COLORS

#: Width and height of the map, and its margin.
_WIDTH, _HEIGHT, _MARGIN = 900, 600, 30

#: Radius of a code of one item, and least and greatest radius.
_RADIUS, _LEAST_RADIUS, _GREATEST_RADIUS = 4.0, 3.0, 18.0

#: Size of a letter and height of a line, in which names are kept apart.
_LETTER, _LINE = 8.0, 17.0

#: Shapes of radius 1: a disk, a square, a triangle, a diamond and a cross. Their number and that of the
#: colors have no common divisor, so that 30 classes look different.
_SHAPES = (
    "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
    "M-.9-.9h1.8v1.8h-1.8z",
    "M0-1.1L1.05.75h-2.1z",
    "M0-1.2L1.2 0 0 1.2-1.2 0z",
    "M-.4-1.1h.8v.7h.7v.8h-.7v.7h-.8v-.7h-.7v-.8h.7z",
)

#: Least share of the items on the map that a class has whose name stands there.
LEAST_NAMED_SHARE = 0.01

#: Classes with a mark of their own.
MARKED_CLASSES = len(_SHAPES) * len(COLORS)


class MapPoint(NamedTuple):
    """A code on the map.

    Attributes:
        x: place from the left, from 0 to 1.
        y: place from the top, likewise.
        items: number of items with the code.
        group: the most frequent class among them; None if they have none.
        text: what it stands for.
    """

    x: float
    y: float
    items: int
    group: int | None
    text: str


def code_map(points: Sequence[MapPoint], class_name: Callable[[int], str]) -> str:
    """Returns the map with a legend: areas are numbers of items, marks and texts are classes.

    Args:
        points: the codes.
        class_name: names a class.
    """
    items: Counter[int] = Counter()
    for point in points:
        if point.group is not None:
            items[point.group] += point.items
    shown = sorted(each for each, _ in items.most_common(MARKED_CLASSES))
    marks = {each: number for number, each in enumerate(shown)}
    scale = min(_RADIUS, _GREATEST_RADIUS / max(point.items for point in points) ** 0.5)
    order = sorted(points, key=lambda point: -point.items)  # small ones lie on top
    drawn = "".join(_draw(point, marks, scale) for point in order)
    named = [each for each in shown if items[each] >= LEAST_NAMED_SHARE * items.total()]
    places = {
        class_name(each): _above_middle([p for p in points if p.group == each], scale)
        for each in named
    }
    names = "".join(
        f'<text x="{x:.1f}" y="{y:.1f}">{escape(name)}</text>\n'
        for name, (x, y) in _keep_apart(places).items()
    )
    legend = "".join(
        f"<li>{_sample(number)} {escape(class_name(each))} ({items[each]:,})</li>\n"
        for each, number in marks.items()
    )
    svg = f'<svg class="map" viewBox="0 0 {_WIDTH} {_HEIGHT}">\n{drawn}{names}</svg>'
    element = plot_element(svg, f"map of {len(points):,} codes")
    return f'{element}<ul class="legend">\n{legend}</ul>\n'


def _place(point: MapPoint) -> tuple[float, float]:
    return (
        round(_MARGIN + point.x * (_WIDTH - 2 * _MARGIN), 1),
        round(_MARGIN + point.y * (_HEIGHT - 2 * _MARGIN), 1),
    )


def _above_middle(points: Sequence[MapPoint], scale: float) -> tuple[float, float]:
    """Returns a place above the mark that is nearest to the median of all of them."""
    middle = [statistics.median(column) for column in zip(*map(_place, points), strict=True)]
    point = min(points, key=lambda point: math.dist(_place(point), middle))
    x, y = _place(point)
    return x, y - _radius(point, scale) - 4


def _keep_apart(places: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Returns places of names, the middles of their lower ends, of which none covers another."""
    kept: dict[str, tuple[float, float]] = {}
    for name, (x, y) in sorted(places.items(), key=lambda item: item[1][1]):
        half = _LETTER * len(name) / 2
        x, y = min(max(x, half), _WIDTH - half), max(y, _LINE)
        for other, (there, above) in kept.items():  # those further down come later
            if abs(x - there) < half + _LETTER * len(other) / 2 and abs(y - above) < _LINE:
                y = above + _LINE
        kept[name] = (x, y)
    return kept


def _radius(point: MapPoint, scale: float) -> float:
    return max(_LEAST_RADIUS, scale * point.items**0.5)


def _draw(point: MapPoint, marks: dict[int, int], scale: float) -> str:
    x, y = _place(point)
    shape, color = _mark(marks.get(point.group))
    transform = f"translate({x} {y})scale({_radius(point, scale):.1f})"
    return (
        f'<path d="{shape}" fill="{color}" transform="{transform}">'
        f"<title>{escape(point.text)}</title></path>\n"
    )


def _sample(number: int) -> str:
    shape, color = _mark(number)
    return (
        '<svg class="mark" viewBox="-1.3 -1.3 2.6 2.6" aria-hidden="true">'
        f'<path d="{shape}" fill="{color}"/></svg>'
    )


def _mark(number: int | None) -> tuple[str, str]:
    """Returns shape and color of a class; a gray disk for what has no mark of its own."""
    if number is None:
        return _SHAPES[0], "#888888"
    return _SHAPES[number % len(_SHAPES)], COLORS[number % len(COLORS)]
