"""How sure a number is: intervals and tests over queries, means over training seeds.

A metric is a mean over queries, and other queries would have given another mean. What is computed
here is a function of the set of queries, not of their order, and of the seed.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash.ops.arguments import Whole, whole_number

#: Numbers drawn at a time; a few arrays of this size (8 MiB) are what memory is needed for.
_BLOCK = 2**20
#: Sums that differ by less than this share of their terms are equal, up to rounding.
_ROUNDING = 1e-12


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """How the metric of one system differs from that of another on the same queries."""

    difference: float
    """The first minus the second."""
    interval: Interval
    """Bootstrap interval of the difference."""
    p_value: float
    """How often a difference at least this large, either way, arises between equal systems."""


class Mean(NamedTuple):
    """Mean and standard deviation over seeds."""

    mean: float
    deviation: float | None
    """The sample standard deviation, which divides by count - 1; None for one seed."""
    count: int


def bootstrap_interval(
    values: Shaped[np.ndarray, " queries"],
    *,
    weights: Shaped[np.ndarray, " queries"] | None = None,
    confidence: float = 0.95,
    resamples: Whole = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a metric over queries.

    The metric is sum(values) / sum(weights). As many queries as there are, are drawn with
    replacement, ``resamples`` times, and the interval lies between two quantiles of the metrics of
    the draws. It says what another sample of queries could give. What another training run could
    give, it does not say; see `over_seeds`.

    Args:
        values: one value a query, such as its average precision.
        weights: what each query adds to the denominator; 1 by default, for a mean. A convention
            that skips a query gives it value 0 and weight 0. Values are summed as they are, not
            multiplied by the weights. A draw without any weight has no metric and is left out.
        confidence: share of draws between the ends, in (0, 1).
        resamples: number of draws.
        seed: seed of the draws.

    Raises:
        ValueError: if values are empty, not finite, or weights do not fit them, are negative or
            all 0; or confidence or resamples are out of range.

    Example:
        >>> low, high = bootstrap_interval(np.array([0.2, 0.4, 0.6, 0.8]))
        >>> round(low, 3), round(high, 3)
        (0.3, 0.7)

    Reference:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    resamples = _check_draws(confidence, resamples)
    columns = _sorted(*_pair("values", values, weights))
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
    resamples: Whole = 10_000,
    seed: int = 0,
) -> PairedTest:
    r"""Compare the metrics of two systems on the same queries, by a randomization test.

    If the systems are alike, each query's pair could as well have come the other way round. With
    the difference T of the two metrics (see `bootstrap_interval`) and T* that after exchanging the
    pairs of a random half of the queries, which for plain means flips the signs of differences,

    .. math:: p = \frac{1 + \#\{|T^*| \ge |T|\}}{1 + \mathrm{resamples}}.

    Where there are no more than ``resamples`` ways to exchange, 2^queries, all are gone through,
    and p is the share of them with :math:`|T^*| \ge |T|`. Equality is up to rounding, so p is 1 for
    equal inputs. An exchange that leaves one side without any weight counts as :math:`\ge`.

    Args:
        first: one value a query for one system.
        second: the same for the other, in the same order of queries.
        first_weights: weights of the first system's values, as in `bootstrap_interval`.
        second_weights: weights of the second's; they can differ, as where a query is skipped by
            what a system retrieves. They are exchanged along with the values.
        confidence: of the bootstrap interval of the difference.
        resamples: number of draws, for the test and for the interval.
        seed: seed of the draws.

    Raises:
        ValueError: as `bootstrap_interval`, or if the systems have different numbers of queries.

    Example:
        >>> test = paired_test(np.array([0.5, 0.75, 1.0]), np.array([0.25, 0.5, 0.75]))
        >>> test.difference, test.p_value  # two of the eight ways are as extreme
        (0.25, 0.25)

    Reference:
        Smucker, Allan, Carterette, "A Comparison of Statistical Significance Tests for Information
        Retrieval Evaluation", CIKM 2007.
    """
    resamples = _check_draws(confidence, resamples)
    a, a_weight = _pair("first", first, first_weights)
    b, b_weight = _pair("second", second, second_weights)
    if len(a) != len(b):
        raise ValueError(f"first has {len(a)} queries, second {len(b)}")
    a, a_weight, b, b_weight = _sorted(a, a_weight, b, b_weight)
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
        # Two sums of what is there, no difference of sums: a weight of 0 comes out as exactly 0.
        a_kept, a_weight_kept, b_kept, b_weight_kept = ((1.0 - swapped) @ columns).T
        a_moved, a_weight_moved, b_moved, b_weight_moved = (swapped @ columns).T
        gap = _ratio(a_kept + b_moved, a_weight_kept + b_weight_moved) - _ratio(
            b_kept + a_moved, b_weight_kept + a_weight_moved
        )
        extreme += int(np.sum(np.isnan(gap) | (np.abs(gap) >= abs(difference) - slack)))
        total += len(gap)
    p_value = extreme / total if exact else (1 + extreme) / (1 + total)
    return PairedTest(float(difference), _percentiles(np.concatenate(draws), confidence), p_value)


def over_seeds(values: Sequence[float] | Float[np.ndarray, " seeds"]) -> Mean:
    """Mean and sample standard deviation of one number over training seeds.

    Args:
        values: one value a seed.

    Raises:
        ValueError: if there are none, or they are not finite.

    Example:
        >>> over_seeds([0.5, 0.75, 1.0])
        Mean(mean=0.75, deviation=0.25, count=3)
    """
    values = [float(value) for value in values]
    if not values:
        raise ValueError("values are empty: there is nothing to take a mean of")
    if not all(map(math.isfinite, values)):
        raise ValueError("values must be finite, got NaN or infinity")
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Mean(statistics.fmean(values), deviation, len(values))


def _check_draws(confidence: float, resamples: Whole) -> int:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return whole_number("resamples", resamples, least=1)


def _pair(
    name: str, values: np.ndarray, weights: np.ndarray | None
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Values and weights in float64, checked."""
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


def _sorted(*columns: Float[np.ndarray, " n"]) -> list[Float[np.ndarray, " n"]]:
    """The columns with their rows in one order, whatever order they came in."""
    order = np.lexsort(columns[::-1])
    return [column[order] for column in columns]


def _resample(
    rng: np.random.Generator, n: int, resamples: int
) -> Iterator[Int[np.ndarray, "block n"]]:
    """Rows of n indices drawn with replacement, ``resamples`` of them, a block at a time."""
    block = max(_BLOCK // n, 1)
    for start in range(0, resamples, block):
        yield rng.integers(n, size=(min(block, resamples - start), n))


def _subsets(
    rng: np.random.Generator, n: int, resamples: int
) -> Iterator[Float[np.ndarray, "block n"]]:
    """Random subsets of n queries as rows of 0 and 1, a block at a time."""
    block = max(_BLOCK // n, 1)
    for start in range(0, resamples, block):
        # Not in smaller integers: what is left of a drawn word would be lost between the blocks.
        yield rng.integers(2, size=(min(block, resamples - start), n)).astype(np.float64)


def _every_subset(n: int) -> Iterator[Float[np.ndarray, "block n"]]:
    """All subsets of n queries, a block at a time."""
    block = max(_BLOCK // n, 1)
    for start in range(0, 2**n, block):
        number = np.arange(start, min(start + block, 2**n))
        yield (number[:, None] >> np.arange(n) & 1).astype(np.float64)


def _sum(
    column: Float[np.ndarray, " n"], index: Int[np.ndarray, "block n"]
) -> Float[np.ndarray, " block"]:
    """The sum of the column over each row of indices."""
    if (column == column[0]).all():  # most often weights of 1
        return np.full(len(index), column.sum())
    return column[index].sum(axis=1)


def _ratio(
    values: Float[np.ndarray, " block"], weights: Float[np.ndarray, " block"]
) -> Float[np.ndarray, " block"]:
    """The metric, and NaN where nothing has any weight."""
    return np.divide(values, weights, out=np.full(len(values), np.nan), where=weights > 0)


def _percentiles(draws: Float[np.ndarray, " resamples"], confidence: float) -> Interval:
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        raise ValueError("no resample has any weight: too few queries count, or resamples are few")
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))
