"""Growth of times with the size of the codes: series, their exponents, and when to stop."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxhash.bench.compiled_loss import CompiledLoss
from jaxhash.bench.config import Pass
from jaxhash.bench.measure import Measurement

Axis = Literal["batch", "bits"]


class Series(NamedTuple):
    """What is known of a loss at growing batch sizes or bits, all else the same."""

    loss: str
    which: Pass
    dtype: str
    devices: int
    axis: Axis
    at: int
    """The number of bits if the batch grows; the batch size if the bits grow."""
    points: list[Measurement] | list[CompiledLoss]

    @property
    def quantity(self) -> str:
        """What the values are: see `quantity_of`."""
        return quantity_of(self.points[0])

    @property
    def values(self) -> list[float]:
        """The value of each point: see `value_of`."""
        return [value_of(point) for point in self.points]

    @property
    def sizes(self) -> list[int]:
        """The batch sizes, or the numbers of bits."""
        return [getattr(point, self.axis) for point in self.points]

    @property
    def exponent(self) -> float | None:
        """The fitted exponent of the values; None for fewer than three points."""
        return fit_exponent(self.sizes, self.values) if len(self.points) >= 3 else None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, without the points, with the exponent and the sizes it was fitted to."""
        fitted = self.sizes[-num_fitted(len(self.sizes)) :]
        fields = {name: value for name, value in self._asdict().items() if name != "points"}
        return fields | {"exponent": self.exponent, "fitted_sizes": fitted}


def quantity_of(point: Measurement | CompiledLoss) -> str:
    """Returns what is plotted: seconds, or bytes if nothing was run."""
    return "seconds" if isinstance(point, Measurement) else "bytes a device, compiled only"


def value_of(point: Measurement | CompiledLoss) -> float:
    """Returns the median time, or the bytes from and to a device's memory if nothing was run."""
    return point.median_seconds if isinstance(point, Measurement) else float(point.accessed_bytes)


def group_into_series(points: Iterable[Measurement | CompiledLoss]) -> list[Series]:
    """Groups measurements into series of at least two points."""
    groups = {}
    for point in points:
        same = point.loss, point.which, point.dtype, point.devices
        groups.setdefault((*same, "batch", point.bits), []).append(point)
        groups.setdefault((*same, "bits", point.batch), []).append(point)
    return [
        Series(*key, sorted(members, key=lambda point: point.setting))
        for key, members in groups.items()
        if len(members) >= 2
    ]


def fit_exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Fits the slope of log(seconds) in log(size) by least squares to the larger half of the sizes.

    Small sizes show the cost of a call, not of the codes. The larger half is at least three sizes.

    Example:
        >>> sizes = [1, 10, 100, 1000, 10_000, 100_000]
        >>> round(fit_exponent(sizes, [7.0, 7.0, 7.0, 20.0, 200.0, 2000.0]), 6)
        1.0
    """
    count = num_fitted(len(sizes))
    slope, _ = np.polyfit(np.log(sizes[-count:]), np.log(seconds[-count:]), 1)
    return float(slope)


def num_fitted(count: int) -> int:
    """Returns how many of ``count`` sizes, the last ones, an exponent is fitted to."""
    return max(3, (count + 1) // 2)


def reason_to_stop(previous: Sequence[tuple[int, float]], size: int, limit: float) -> str | None:
    """Returns why a loss is not timed at the next size, or None if it is.

    It is not timed if its last call took longer than the limit, or if the slope of its last two
    times predicts more than twice the limit.

    Args:
        previous: pairs (size, seconds) of the smaller sizes.
        size: next size.
        limit: limit in seconds.

    Example:
        >>> reason_to_stop([(1, 1.0), (2, 8.0)], 4, limit=20.0)
        'a call would take about 64 s, more than twice the limit of 20 s'
    """
    if not previous:
        return None
    last_size, last_seconds = previous[-1]
    if last_seconds > limit:
        return f"the call before took {last_seconds:.3g} s, more than the limit of {limit:g} s"
    if len(previous) < 2:
        return None
    earlier_size, earlier_seconds = previous[-2]
    slope = math.log(last_seconds / earlier_seconds) / math.log(last_size / earlier_size)
    expected = last_seconds * (size / last_size) ** slope
    if expected > 2 * limit:
        return f"a call would take about {expected:.3g} s, more than twice the limit of {limit:g} s"
    return None
