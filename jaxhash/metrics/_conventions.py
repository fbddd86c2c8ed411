"""Conventions of mAP, named after the code bases that published them."""

import dataclasses
from typing import Literal, get_args

from jaxhash.metrics._average_precision import DivideBy, Empty
from jaxhash.metrics._labels import Relevance
from jaxhash.metrics._ranking import Gain

_CHOICES = {
    "divide_by": DivideBy,
    "empty": Empty,
    "relevance": Literal[Relevance, "listed"],
    "gain": Gain,
}


@dataclasses.dataclass(frozen=True)
class Convention:
    """The choices that a retrieval metric depends on, besides the codes.

    Attributes:
        name: name of the convention.
        divide_by: divisor of AP; see `jaxhash.metrics.average_precision`.
        empty: whether queries for which a metric is undefined count as 0 or not at all.
        relevance: definition of a relevant item; see `jaxhash.metrics.distance_counts`. ``"listed"``
            is that of counts by lists of relevant items.
        gain: gain of nDCG under graded relevance.

    Raises:
        ValueError: if a choice is unknown.

    Example:
        >>> print(CONVENTIONS["hashnet"].describe_average_precision(1000))
        AP@1000 over relevant retrieved, empty queries left out, relevant: a label in common
    """

    name: str
    divide_by: DivideBy = "min"
    empty: Empty = "zero"
    relevance: Literal[Relevance, "listed"] = "shared"
    gain: Gain = "exponential"

    def __post_init__(self) -> None:
        for field, kind in _CHOICES.items():
            if getattr(self, field) not in get_args(kind):
                raise ValueError(
                    f"{field} must be one of {get_args(kind)}, got {getattr(self, field)!r}"
                )

    def describe_average_precision(self, k: int | None) -> str:
        """Returns the definition of AP at rank k."""
        divisor = {
            "retrieved": "over relevant retrieved",
            "all": "over all relevant",
            "min": f"over min({k}, relevant)",
            "trapezoid": "by trapezoids, over all relevant",
        }
        if k is not None:
            return f"AP@{k} {divisor[self.divide_by]}, {self.describe()}"
        whole = self.divide_by if self.divide_by == "trapezoid" else "all"  # the divisors are equal
        return f"AP@all {divisor[whole]}, {self.describe()}"

    def describe(self) -> str:
        """Returns the definition of empty queries and relevance, which all metrics share."""
        empty = {"zero": "count 0", "skip": "left out"}[self.empty]
        relevant = {
            "shared": "a label in common",
            "equal": "the same labels",
            "graded": f"labels in common, graded with {self.gain} gain",
            "listed": "on the query's list",
        }[self.relevance]
        return f"empty queries {empty}, relevant: {relevant}"


#: Conventions by name; the first is the default.
#:
#: - ``jaxhash``: divides by the best possible value, so 1 means a perfect ranking at every k.
#: - ``deephash-pytorch`` (swuxyj, `CalcTopMap`), ``orthohash`` (kamwoh, `calculate_mAP`): divide by
#:   the relevant items retrieved; a query that retrieves none counts 0.
#: - ``hashnet`` (thuml, `mean_average_precision`): the same, but such a query is left out. (Its test
#:   script ranks by the inner product of real-valued outputs; here codes are ranked by their bits.)
#: - ``tensorflow-similarity`` (`MapAtK`): divides by all relevant items, so at a small k the best
#:   possible value is far below 1.
#: - ``google-landmarks``: the metric of the Google Landmarks data sets, as ``jaxhash``.
#: - ``revisited-oxford`` (`compute_map`): trapezoids, as for Oxford, Paris and their revisions; a
#:   query without anything relevant is left out.
CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention("jaxhash"),
        Convention("deephash-pytorch", divide_by="retrieved"),
        Convention("hashnet", divide_by="retrieved", empty="skip"),
        Convention("orthohash", divide_by="retrieved"),
        Convention("tensorflow-similarity", divide_by="all"),
        Convention("google-landmarks", divide_by="min"),
        Convention("revisited-oxford", divide_by="trapezoid", empty="skip"),
    )
}


def get_convention(convention: str | Convention) -> Convention:
    """Returns the convention of a name; a `Convention` is returned unchanged.

    Raises:
        ValueError: if the name is unknown.
    """
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}; there are {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention]
