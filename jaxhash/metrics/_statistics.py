"""Confidence intervals and tests over queries, and means over training seeds.

A metric is a mean over queries; another sample of queries would give another mean. Results depend on
the set of queries, not on their order, and on the seed.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash.ops.arguments import IntLike, as_int

#: Numbers drawn per block; peak memory is a few arrays of this size (8 MiB).
_BLOCK = 2**20
#: Sums that differ by less than this share of their terms are treated as equal.
_ROUNDING = 1e-12


class ConfidenceInterval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """The difference of the metrics of two systems on the same queries."""

    difference: float
    """Metric of the first system minus that of the second."""
    interval: ConfidenceInterval
    """Bootstrap interval of the difference."""
    p_value: float
    """Two-sided: the probability of at least this difference between equal systems."""


class SeedMean(NamedTuple):
    """Mean and standard deviation over seeds."""

    mean: float
    deviation: float | None
    """Sample standard deviation, with divisor count - 1; None for one seed."""
    count: int


def bootstrap_interval(
    values: Shaped[np.ndarray, " queries"],
    *,
    weights: Shaped[np.ndarray, " queries"] | None = None,
    confidence: float = 0.95,
    resamples: IntLike = 10_000,
    seed: int = 0,
) -> ConfidenceInterval:
    """Computes the percentile bootstrap interval of a metric over queries.

    The metric is sum(values) / sum(weights). Samples of as many queries as given are drawn with
    replacement, ``resamples`` times, and the ends of the interval are quantiles of their metrics. The
    interval describes the variation between samples of queries, not between training runs; for the
    latter see `mean_over_seeds`.

    Args:
        values: one value per query, such as its average precision.
        weights: summand of each query in the denominator; 1 by default, for a mean. A convention
            that skips a query gives it value 0 and weight 0. Values are not multiplied by the
            weights. A sample whose weights are all 0 is left out.
        confidence: share of samples between the ends, in (0, 1).
        resamples: number of samples.
        seed: seed of the samples.

    Raises:
        ValueError: if values are empty or not finite; if weights have another shape, are negative or
            all 0; or if confidence or resamples are out of range.

    Example:
        >>> low, high = bootstrap_interval(np.array([0.2, 0.4, 0.6, 0.8]))
        >>> round(low, 3), round(high, 3)
        (0.3, 0.7)

    Reference:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    resamples = _check_draws(confidence, resamples)
    columns = _sort_rows(*_check_values("values", values, weights))
    (value, weight), rng = columns, np.random.default_rng(seed)
    draws = [
        _ratio(_sum(value, index), _sum(weight, index))
        for index in _resample(rng, len(value), resamples)
    ]
    return _percentiles(np.concatenate(draws), confidence)


def paired_test(
    first: Shaped[np.ndarray, " queries"],
    second: Shaped[np.ndarray, " queries"],
    *,
    first_weights: Shaped[np.ndarray, " queries"] | None = None,
    second_weights: Shaped[np.ndarray, " queries"] | None = None,
    confidence: float = 0.95,
    resamples: IntLike = 10_000,
    seed: int = 0,
) -> PairedTest:
    r"""Compares the metrics of two systems on the same queries by a paired randomization test.

    Under the null hypothesis the two values of a query are exchangeable. Let T be the difference of
    the two metrics (see `bootstrap_interval`) and T* the difference after exchanging the values of
    random queries, each with probability 1/2; for plain means this flips signs of differences. Then

    .. math:: p = \frac{1 + \#\{|T^*| \ge |T|\}}{1 + \mathrm{resamples}}.

    If there are at most ``resamples`` ways to exchange, 2^queries, all are tried, and p is the share
    of them with :math:`|T^*| \ge |T|`. Comparisons allow for rounding, so p is 1 for equal inputs.
    An exchange that leaves one side without any weight counts as :math:`\ge`.

    Args:
        first: one value per query for one system.
        second: one value per query for the other, in the same order.
        first_weights: weights of the first system's values, as in `bootstrap_interval`.
        second_weights: weights of the second system's values, which can differ, since whether a
            query is skipped can depend on what is retrieved. They are exchanged with the values.
        confidence: confidence of the bootstrap interval of the difference.
        resamples: number of draws, for the test and for the interval.
        seed: seed of the draws.

    Raises:
        ValueError: if `bootstrap_interval` would raise, or the numbers of queries differ.

    Example:
        >>> test = paired_test(np.array([0.5, 0.75, 1.0]), np.array([0.25, 0.5, 0.75]))
        >>> test.difference, test.p_value  # two of the eight ways are as extreme
        (0.25, 0.25)

    Reference:
        Smucker, Allan, Carterette, "A Comparison of Statistical Significance Tests for Information
        Retrieval Evaluation", CIKM 2007.
    """
    resamples = _check_draws(confidence, resamples)
    a, a_weight = _check_values("first", first, first_weights)
    b, b_weight = _check_values("second", second, second_weights)
    if len(a) != len(b):
        raise ValueError(f"first has {len(a)} queries, second {len(b)}")
    a, a_weight, b, b_weight = _sort_rows(a, a_weight, b, b_weight)
    difference = a.sum() / a_weight.sum() - b.sum() / b_weight.sum()
    bootstrap, exchange = np.random.default_rng(seed).spawn(2)

    draws = [
        _ratio(_sum(a, index), _sum(a_weight, index))
        - _ratio(_sum(b, index), _sum(b_weight, index))
        for index in _resample(bootstrap, len(a), resamples)
    ]

    columns = np.stack([a, a_weight, b, b_weight], axis=1)
    slack = _ROUNDING * (np.abs(a).sum() / a_weight.sum() + np.abs(b).sum() / b_weight.sum())
    exact = 2 ** len(a) <= resamples
    extreme = total = 0
    for swapped in _every_subset(len(a)) if exact else _subsets(exchange, len(a), resamples):
        # Sums of the terms, not differences of sums, so that a weight of 0 stays exactly 0.
        a_kept, a_weight_kept, b_kept, b_weight_kept = ((1.0 - swapped) @ columns).T
        a_moved, a_weight_moved, b_moved, b_weight_moved = (swapped @ columns).T
        gap = _ratio(a_kept + b_moved, a_weight_kept + b_weight_moved) - _ratio(
            b_kept + a_moved, b_weight_kept + a_weight_moved
        )
        extreme += int(np.sum(np.isnan(gap) | (np.abs(gap) >= abs(difference) - slack)))
        total += len(gap)
    p_value = extreme / total if exact else (1 + extreme) / (1 + total)
    return PairedTest(float(difference), _percentiles(np.concatenate(draws), confidence), p_value)


def mean_over_seeds(values: Sequence[float] | Float[np.ndarray, " seeds"]) -> SeedMean:
    """Computes the mean and sample standard deviation over training seeds.

    Args:
        values: one value per seed.

    Raises:
        ValueError: if values are empty or not finite.

    Example:
        >>> mean_over_seeds([0.5, 0.75, 1.0])
        SeedMean(mean=0.75, deviation=0.25, count=3)
    """
    values = [float(value) for value in values]
    if not values:
        raise ValueError("values are empty")
    if not all(map(math.isfinite, values)):
        raise ValueError("values must be finite, got NaN or infinity")
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return SeedMean(statistics.fmean(values), deviation, len(values))


def _check_draws(confidence: float, resamples: IntLike) -> int:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return as_int("resamples", resamples, minimum=1)


def _check_values(
    name: str, values: np.ndarray, weights: np.ndarray | None
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Checks values and weights and converts them to float64."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must have shape [queries], at least one, got {values.shape}")
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != values.shape:
        raise ValueError(f"{name} have shape {values.shape}, their weights {weights.shape}")
    if not (np.isfinite(values).all() and np.isfinite(weights).all()):
        raise ValueError(f"{name} and their weights must be finite, got NaN or infinity")
    if (weights < 0).any() or not weights.any():
        raise ValueError(f"weights of {name} must be 0 or more, and not all 0")
    return values, weights


def _sort_rows(*columns: Float[np.ndarray, " n"]) -> list[Float[np.ndarray, " n"]]:
    """Sorts the rows of the columns together, so that results do not depend on their order."""
    order = np.lexsort(columns[::-1])
    return [column[order] for column in columns]


def _resample(
    rng: np.random.Generator, n: int, resamples: int
) -> Iterator[Int[np.ndarray, "block n"]]:
    """Yields blocks of ``resamples`` rows of n indices drawn with replacement."""
    block = max(_BLOCK // n, 1)
    for start in range(0, resamples, block):
        yield rng.integers(n, size=(min(block, resamples - start), n))


def _subsets(
    rng: np.random.Generator, n: int, resamples: int
) -> Iterator[Float[np.ndarray, "block n"]]:
    """Yields blocks of random subsets of n queries, as rows of 0 and 1."""
    block = max(_BLOCK // n, 1)
    for start in range(0, resamples, block):
        # Not drawn as smaller integers, which would discard parts of random words between blocks.
        yield rng.integers(2, size=(min(block, resamples - start), n)).astype(np.float64)


def _every_subset(n: int) -> Iterator[Float[np.ndarray, "block n"]]:
    """Yields blocks of all subsets of n queries."""
    block = max(_BLOCK // n, 1)
    for start in range(0, 2**n, block):
        number = np.arange(start, min(start + block, 2**n))
        yield (number[:, None] >> np.arange(n) & 1).astype(np.float64)


def _sum(
    column: Float[np.ndarray, " n"], index: Int[np.ndarray, "block n"]
) -> Float[np.ndarray, " block"]:
    """Sums the column over each row of indices."""
    if (column == column[0]).all():  # usually weights of 1
        return np.full(len(index), column.sum())
    return column[index].sum(axis=1)


def _ratio(
    values: Float[np.ndarray, " block"], weights: Float[np.ndarray, " block"]
) -> Float[np.ndarray, " block"]:
    """Returns the metric, and NaN where all weights are 0."""
    return np.divide(values, weights, out=np.full(len(values), np.nan), where=weights > 0)


def _percentiles(draws: Float[np.ndarray, " resamples"], confidence: float) -> ConfidenceInterval:
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        raise ValueError("all resampled weights are 0: too few queries count, or too few resamples")
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return ConfidenceInterval(float(low), float(high))
