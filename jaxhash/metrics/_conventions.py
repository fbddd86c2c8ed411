"""What "mAP" means, by the name of the code base that published it."""

import dataclasses
from typing import get_args

from jaxhash.metrics._average_precision import DivideBy, Empty
from jaxhash.metrics._inputs import Relevance
from jaxhash.metrics._ranking import Gain

_CHOICES = {"divide_by": DivideBy, "empty": Empty, "relevance": Relevance, "gain": Gain}


@dataclasses.dataclass(frozen=True)
class Convention:
    """The choices that a retrieval number depends on, besides the codes.

    Attributes:
        name: what it is called.
        divide_by: what AP divides by; see `jaxhash.metrics.average_precision`.
        empty: whether queries that a metric cannot be computed for count as 0 or not at all.
        relevance: what makes an item relevant; see `jaxhash.metrics.distance_counts`.
        gain: gain of nDCG where relevance is graded.

    Raises:
        ValueError: if a name is unknown.

    Example:
        >>> print(CONVENTIONS["hashnet"].average_precision(1000))
        AP@1000 over relevant retrieved, empty queries left out, relevant: a label in common
    """

    name: str
    divide_by: DivideBy = "min"
    empty: Empty = "zero"
    relevance: Relevance = "shared"
    gain: Gain = "exponential"

    def __post_init__(self):
        for field, kind in _CHOICES.items():
            if getattr(self, field) not in get_args(kind):
                raise ValueError(
                    f"{field} must be one of {get_args(kind)}, got {getattr(self, field)!r}"
                )

    def average_precision(self, k: int | None) -> str:
        """The definition of AP, to stand beside a number."""
        divisor = {
            "retrieved": "over relevant retrieved",
            "all": "over all relevant",
            "min": f"over min({k}, relevant)",
            "trapezoid": "by trapezoids, over all relevant",
        }
        if k is not None:
            return f"AP@{k} {divisor[self.divide_by]}, {self.others()}"
        whole = self.divide_by if self.divide_by == "trapezoid" else "all"  # the rest is the same
        return f"AP@all {divisor[whole]}, {self.others()}"

    def others(self) -> str:
        """What holds for the other metrics too."""
        empty = {"zero": "count 0", "skip": "left out"}[self.empty]
        relevant = {
            "shared": "a label in common",
            "equal": "the same labels",
            "graded": f"labels in common, graded with {self.gain} gain",
        }[self.relevance]
        return f"empty queries {empty}, relevant: {relevant}"


#: Conventions by name; the first is the default.
#:
#: - ``jaxhash``: divides by what a perfect ranking could reach, so 1 means perfect at every k.
#: - ``deephash-pytorch`` (swuxyj, `CalcTopMap`), ``orthohash`` (kamwoh, `calculate_mAP`): divide by
#:   the relevant items retrieved; a query that retrieves none counts 0.
#: - ``hashnet`` (thuml, `mean_average_precision`): the same, but such a query is left out. (Its test
#:   script ranks by the inner product of real-valued outputs; codes are ranked here by their bits.)
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


def find_convention(convention: str | Convention) -> Convention:
    """The convention of that name.

    Raises:
        ValueError: if there is none.
    """
    if isinstance(convention, Convention):
        return convention
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}; there are {', '.join(CONVENTIONS)}")
    return CONVENTIONS[convention]
