"""Comparisons of two systems over training seeds and queries at once, and of many such comparisons."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy import special

from jaxhash.metrics._statistics import ConfidenceInterval, paired_test
from jaxhash.ops.arguments import IntLike, as_int


class CrossedTest(NamedTuple):
    """The difference of the metrics of two systems over the same seeds and queries."""

    difference: float
    """Mean over seeds and queries of the first system minus that of the second."""
    interval: ConfidenceInterval
    """Bootstrap interval of the difference, over seeds and queries."""
    effect: float
    """Difference by its standard deviation over the seeds; infinite, or 0, if that is 0."""
    p_seeds: float
    """Two-sided, over seeds: whether another training would differ likewise on these queries."""
    p_queries: float
    """Two-sided, over queries: whether other queries would differ likewise by these trainings."""
    p_value: float
    """The larger of the two: small only if the difference is one of both."""


def crossed_test(
    first: Shaped[np.ndarray, "seeds queries"],
    second: Shaped[np.ndarray, "seeds queries"],
    *,
    confidence: float = 0.95,
    resamples: IntLike = 10_000,
    seed: int = 0,
) -> CrossedTest:
    r"""Compares two systems, trained by the same seeds, on the same queries.

    Let D be the matrix of differences [seeds, queries]. The interval is that of the pigeonhole
    bootstrap: seeds and queries are drawn with replacement, each by itself, and a draw is the mean of
    D over the drawn rows and columns; it is wider than either bootstrap alone. Over seeds, p is that
    of Student's t for the means of the rows with seeds - 1 degrees of freedom; over queries it is that
    of `paired_test` for the means of the columns.

    Args:
        first: one value per seed and query for one system.
        second: one value per seed and query for the other, in the same order.
        confidence: confidence of the interval.
        resamples: number of draws, for the interval and for the test over queries.
        seed: seed of the draws.

    Raises:
        ValueError: if there are fewer than two seeds, the shapes differ, values are not finite, or an
            option is out of its range.

    Example:
        >>> better, worse = np.array([[0.5, 0.75], [0.5, 1.0]]), np.array([[0.25, 0.5], [0.5, 0.75]])
        >>> test = crossed_test(better, worse)
        >>> test.difference, round(test.p_seeds, 3), test.p_queries
        (0.1875, 0.205, 0.5)

    Reference:
        Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"both must have the shape [seeds, queries], got {first.shape} and {second.shape}"
        )
    seeds, queries = first.shape
    if seeds < 2:
        raise ValueError("a test over seeds needs two of them")
    over_queries = paired_test(
        first.mean(axis=0),
        second.mean(axis=0),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    differences = first - second
    of_seeds = differences.mean(axis=1)
    rng, draws = np.random.default_rng(seed), []
    for _ in range(as_int("resamples", resamples, minimum=1)):
        rows, columns = rng.integers(seeds, size=seeds), rng.integers(queries, size=queries)
        draws.append(np.bincount(rows, minlength=seeds) @ differences[:, columns].mean(axis=1))
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2]) / seeds
    difference, deviation = float(of_seeds.mean()), float(of_seeds.std(ddof=1))
    if deviation > 0.0:
        effect = difference / deviation
        p_seeds = float(2.0 * special.stdtr(seeds - 1, -abs(effect) * math.sqrt(seeds)))
    else:
        effect = math.copysign(math.inf, difference) if difference else 0.0
        p_seeds = 0.0 if difference else 1.0
    return CrossedTest(
        difference,
        ConfidenceInterval(float(low), float(high)),
        effect,
        p_seeds,
        over_queries.p_value,
        max(p_seeds, over_queries.p_value),
    )


def holm(p_values: Sequence[float] | Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    r"""Adjusts p-values for the number of tests: at most ``alpha`` of families have a false finding.

    With the p-values in rising order, :math:`\tilde p_{(i)} = \max_{j \le i} \min(1, (n - j + 1) p_{(j)})`.

    Args:
        p_values: one p-value for each test of a family.

    Raises:
        ValueError: if a value is not in [0, 1].

    Example:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 1979.
    """
    values = np.asarray(p_values, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must be between 0 and 1 in one list, got {p_values!r}")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    stepped = values[order] * np.arange(len(values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted
