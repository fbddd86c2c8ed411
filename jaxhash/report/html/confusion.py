"""Parts of a page that show which classes take each other's places."""

import math
from collections.abc import Callable, Sequence

from jaxtyping import Float
from numpy import ndarray

from jaxhash.report.html.page import escape, html_table
from jaxhash.retrieval.confusion import ClassConfusion

#: Most classes of a matrix, pairs of classes, and classes of a table.
MATRIX_CLASSES, SHOWN_PAIRS, TABLE_CLASSES = 20, 15, 30

#: Returns the name of a class.
ClassName = Callable[[int], str]


def matrix_classes(found: ClassConfusion) -> list[int]:
    """Returns the classes that have queries; if there are many, those of the most confused pairs."""
    asked = found.queries.nonzero()[0].tolist()
    if len(asked) <= MATRIX_CLASSES:
        return asked
    mixed = dict.fromkeys(each for pair in found.pairs() for each in pair[:2])
    order = [each for each in dict.fromkeys([*mixed, *asked]) if found.queries[each]]
    return sorted(order[:MATRIX_CLASSES])


def confusion_matrix(found: ClassConfusion, classes: Sequence[int], class_name: ClassName) -> str:
    """Returns a table of the neighbors of queries, a row for each class of queries, in percent.

    Args:
        found: the neighbors by class.
        classes: classes that are shown.
        class_name: names a class.
    """
    head = "".join(
        f'<th scope="col"><div>{escape(class_name(each))}</div></th>' for each in classes
    )
    shares, wrong = found.shares(), found.wrong
    rows = []
    for first in classes:
        cells = []
        for second in classes:
            is_own = first == second
            share = shares[first] if is_own else wrong[first, second] / found.neighbors[first]
            cells.append(_share_cell(float(share), is_own))
        rows.append(f'<tr><th scope="row">{escape(class_name(first))}</th>{"".join(cells)}</tr>\n')
    return (
        f'<div class="scroll"><table class="matrix">\n<thead><tr><td></td>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _share_cell(share: float, is_own: bool) -> str:
    """Returns a cell of the matrix; a shade beside the number, deeper for wrong ones, which are small."""
    if not share:
        return "<td></td>"
    text = "&lt;1" if share < 0.005 else f"{100 * share:.0f}"
    shade = share if is_own else min(1.0, 3 * share)
    kind = "own" if is_own else "other"
    return f'<td class="{kind}" style="--share:{shade:.2f}">{text}</td>'


def pair_table(found: ClassConfusion, class_name: ClassName) -> str:
    """Returns a table of the pairs of classes with most wrong neighbors, each pair once."""
    number_of = {(first, second): number for first, second, number in found.pairs()}
    rows, seen = [], set()
    for (first, second), number in number_of.items():
        if (second, first) in seen:
            continue
        seen.add((first, second))
        back = number_of.get((second, first), 0.0)
        shares = (number / found.neighbors[first], _divide(back, found.neighbors[second]))
        names = f"{class_name(first)} → {class_name(second)}"
        rows.append((names, f"{number:,.1f}".removesuffix(".0"), *map(_percent, shares)))
        if len(rows) == SHOWN_PAIRS:
            break
    return html_table(("queries → neighbors", "neighbors", "share", "share the other way"), rows)


def class_table(
    found: ClassConfusion,
    precision: Float[ndarray, " classes"],
    class_name: ClassName,
) -> str:
    """Returns a table of the classes that have queries, the lowest mAP first.

    Args:
        found: the neighbors by class.
        precision: mAP of the queries of each class.
        class_name: names a class.
    """
    asked = found.queries.nonzero()[0].tolist()
    shares = found.shares()
    rows = [
        (
            class_name(each),
            f"{found.queries[each]:,}",
            f"{precision[each]:.4f}",
            _percent(shares[each]),
        )
        for each in sorted(asked, key=lambda each: (precision[each], each))[:TABLE_CLASSES]
    ]
    return html_table(("class", "queries", "mAP", "right neighbors"), rows)


def _divide(number: float, total: float) -> float:
    return number / total if total else math.nan


def _percent(share: float) -> str:
    if math.isnan(share):
        return "-"
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"
