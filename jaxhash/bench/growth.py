"""How cost grows with the size of the codes: series, their exponents, and when to stop."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxhash.bench.config import Pass
from jaxhash.bench.measure import Point

Axis = Literal["batch", "bits"]


class Series(NamedTuple):
    """The points of a loss along one axis, growing, all else the same."""

    loss: str
    which: Pass
    dtype: str
    devices: int
    axis: Axis
    at: int
    """The bits, where the batch grows; the batch size, where the bits grow."""
    points: list[Point]

    @property
    def sizes(self) -> list[int]:
        """Batch sizes, or bits."""
        return [getattr(point, self.axis) for point in self.points]

    @property
    def exponent(self) -> float | None:
        """The exponent of the medians' growth; None of fewer than three points."""
        medians = [point.median_seconds for point in self.points]
        return exponent(self.sizes, medians) if len(medians) >= 3 else None

    def to_json(self) -> dict[str, Any]:
        """What it is, with the exponent and the sizes that it was fitted to."""
        fitted = self.sizes[-larger_half(len(self.sizes)) :]
        facts = {name: value for name, value in self._asdict().items() if name != "points"}
        return facts | {"exponent": self.exponent, "fitted_sizes": fitted}


def collect_series(points: Iterable[Point], least: int = 2) -> list[Series]:
    """All series that the points hold, of ``least`` points or more."""
    found = {}
    for point in points:
        same = point.loss, point.which, point.dtype, point.devices
        found.setdefault((*same, "batch", point.bits), []).append(point)
        found.setdefault((*same, "bits", point.batch), []).append(point)
    return [
        Series(*key, sorted(members, key=lambda point: point.setting))
        for key, members in found.items()
        if len(members) >= least
    ]


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of log(seconds) in log(size) by least squares, over the larger half of the sizes.

    Small sizes show the cost of a call, not of the codes. The larger half is at least three sizes.

    Example:
        >>> sizes = [1, 10, 100, 1000, 10_000, 100_000]
        >>> round(exponent(sizes, [7.0, 7.0, 7.0, 20.0, 200.0, 2000.0]), 6)
        1.0
    """
    count = larger_half(len(sizes))
    slope, _ = np.polyfit(np.log(sizes[-count:]), np.log(seconds[-count:]), 1)
    return float(slope)


def larger_half(count: int) -> int:
    """How many of ``count`` sizes, the last ones, an exponent is fitted to."""
    return max(3, (count + 1) // 2)


def reason_to_stop(walked: Sequence[tuple[int, float]], size: int, limit: float) -> str | None:
    """Why a loss is not tried at the next size, given (size, seconds) of those before; or None.

    Its last call took longer than the limit, or the slope of its last two says that the next would
    take more than twice the limit.

    Example:
        >>> reason_to_stop([(1, 1.0), (2, 8.0)], 4, limit=20.0)
        'a call would take about 64 s, more than twice the limit of 20 s'
    """
    if not walked:
        return None
    last, took = walked[-1]
    if took > limit:
        return f"the call before took {took:.3g} s, more than the limit of {limit:g} s"
    if len(walked) < 2:
        return None
    before, then = walked[-2]
    expected = took * (size / last) ** (math.log(took / then) / math.log(last / before))
    if expected > 2 * limit:
        return f"a call would take about {expected:.3g} s, more than twice the limit of {limit:g} s"
    return None
