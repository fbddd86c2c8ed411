"""Draws codes in a plane, as an SVG element with a text for each."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxhash.report.html.page import escape
from jaxhash.report.plots.style import COLORS

#: Width and height of the map, and its margin.
_WIDTH, _HEIGHT, _MARGIN = 900, 600, 30

#: Radius of a code of one item at least, and of the fullest.
_LEAST_RADIUS, _GREATEST_RADIUS = 3.0, 18.0

#: Shapes of radius 1: a disk, a square, a triangle, a diamond and a cross. Their number and that of the
#: colors have no common divisor, so that 30 classes look different.
_SHAPES = (
    "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
    "M-.9-.9h1.8v1.8h-1.8z",
    "M0-1.1L1.05.75h-2.1z",
    "M0-1.2L1.2 0 0 1.2-1.2 0z",
    "M-.4-1.1h.8v.7h.7v.8h-.7v.7h-.8v-.7h-.7v-.8h.7z",
)

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
    largest = max(point.items for point in points)
    order = sorted(points, key=lambda point: -point.items)  # small ones lie on top
    drawn = "".join(_draw(point, marks, largest) for point in order)
    first = {point.group: point for point in reversed(order) if point.group in marks}
    names = "".join(
        f'<text x="{x}" y="{y - 8:.1f}">{escape(class_name(point.group))}</text>\n'
        for point in first.values()
        for x, y in [_place(point)]
    )
    legend = "".join(
        f"<li>{_sample(number)} {escape(class_name(each))} ({items[each]:,})</li>\n"
        for each, number in marks.items()
    )
    return (
        f'<div class="scroll"><svg class="map" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="map of {len(points):,} codes">\n{drawn}{names}</svg></div>\n'
        f'<ul class="legend">\n{legend}</ul>\n'
    )


def _place(point: MapPoint) -> tuple[float, float]:
    return (
        round(_MARGIN + point.x * (_WIDTH - 2 * _MARGIN), 1),
        round(_MARGIN + point.y * (_HEIGHT - 2 * _MARGIN), 1),
    )


def _draw(point: MapPoint, marks: dict[int, int], largest: int) -> str:
    x, y = _place(point)
    radius = max(_LEAST_RADIUS, _GREATEST_RADIUS * (point.items / largest) ** 0.5)
    shape, color = _mark(marks.get(point.group))
    return (
        f'<path d="{shape}" fill="{color}" transform="translate({x} {y})scale({radius:.1f})">'
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
