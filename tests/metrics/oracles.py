"""Retrieval metrics from their definitions, by loops over explicit rankings.

A ranking is the whole database in one order, nearest first: the gain of each item, which is 0 where
the item is not relevant and 1 where relevance is not graded.
"""

from collections import Counter
from itertools import chain, permutations, product

import numpy as np

from jaxhash.metrics import DistanceCounts

TIES = ("worst", "expected", "best")
DIVIDE_BY = ("retrieved", "all", "min", "trapezoid")


# Counts to try


def frozen(array):
    """Makes an array read-only."""
    array.flags.writeable = False
    return array


def counts(total, relevant):
    return DistanceCounts(frozen(np.atleast_2d(total)), frozen(np.atleast_2d(relevant)))


def graded_counts(total, gains):
    """Builds counts of graded relevance, of one query [distances, levels] or several."""
    gains = np.array(gains, ndmin=3)
    return counts(total, gains.sum(axis=-1))._replace(gains=frozen(gains))


def random_counts(queries, distances, largest, seed):
    """Draws counts of queries with databases of different sizes."""
    rng = np.random.default_rng(seed)
    total = rng.integers(largest + 1, size=(queries, distances))
    return counts(total, rng.binomial(total, 0.4))


def random_database(queries, distances, items, seed, levels=None):
    """Draws counts of queries with one database size; near items are more often relevant."""
    rng = np.random.default_rng(seed)
    total = rng.multinomial(items, np.full(distances, 1 / distances), size=queries)
    relevant = rng.binomial(total, np.linspace(0.7, 0.05, distances))
    if levels is None:
        return counts(total, relevant)
    return graded_counts(total, rng.multinomial(relevant, np.full(levels, 1 / levels)))


def one_by_one(rankings):
    """The counts of rankings without ties: one item at each distance."""
    rankings = np.asarray(rankings)
    levels = np.arange(1, max(rankings.max(), 1) + 1)
    gains = (rankings[..., None] == levels).astype(int)
    return graded_counts(np.ones_like(rankings), gains)


# Orders of ties


def tie_groups(total, relevant):
    """The gains of the items at each distance; ``relevant`` is [distances] or [distances, levels]."""
    groups = []
    for n, levels in zip(total, np.reshape(relevant, (len(total), -1)), strict=True):
        group = [gain for gain, number in enumerate(levels, 1) for _ in range(number)]
        groups.append(group + [0] * (n - len(group)))
    return groups


def orders(total, relevant):
    """The rankings of one query in all orders of its ties.

    Equal items make permutations that look the same. Each look comes from equally many of them, so
    one of each is enough for the mean.
    """
    groups = [sorted(set(permutations(group))) for group in tie_groups(total, relevant)]
    return [list(chain(*order)) for order in product(*groups)]


def queries(some):
    """Yields the arguments of `orders` for each query."""
    return list(zip(some.total, some.relevant if some.gains is None else some.gains, strict=True))


def brute_force(metric, some, ties, **options):
    """Summarizes a metric of a ranking over all orders of the ties, for each query."""
    summary = {"worst": min, "expected": np.mean, "best": max}[ties]
    return [summary([metric(r, **options) for r in orders(*query)]) for query in queries(some)]


def shuffles(total, relevant, draws, seed=0):
    """Rankings of one query in random orders of its ties, for databases with too many orders."""
    rng = np.random.default_rng(seed)
    groups = [np.array(group, int) for group in tie_groups(total, relevant)]
    for _ in range(draws):
        for group in groups:
            rng.shuffle(group)
        yield np.concatenate(groups)


def assert_is_monte_carlo_mean(value, draws):
    """Asserts a value within four standard errors, or up to rounding if all draws are equal."""
    error = 4 * np.std(draws) / np.sqrt(len(draws)) + 1e-12
    assert abs(np.mean(draws) - value) < error


# Metrics of one ranking


def average_precision(ranking, k=None, divide_by="all"):
    precisions, found = [], 0
    for rank, gain in enumerate(ranking[:k], 1):
        if gain:
            before = found / (rank - 1) if rank > 1 else 1
            found += 1
            after = found / rank
            precisions.append((before + after) / 2 if divide_by == "trapezoid" else after)
    relevant = np.count_nonzero(ranking)
    denominator = {
        "retrieved": found,
        "all": relevant,
        "min": min(len(ranking[:k]), relevant),
        "trapezoid": relevant,
    }[divide_by]
    return sum(precisions) / denominator if denominator else 0.0


def precision_at_k(ranking, k):
    return sum(1 for gain in ranking[:k] if gain) / k


def recall_at_k(ranking, k):
    relevant = np.count_nonzero(ranking)
    return sum(1 for gain in ranking[:k] if gain) / relevant if relevant else 0.0


def hit_rate(ranking, k):
    return 1.0 if any(ranking[:k]) else 0.0


def r_precision(ranking):
    relevant = np.count_nonzero(ranking)
    return precision_at_k(ranking, relevant) if relevant else 0.0


def ndcg(ranking, k=None, gain="exponential"):
    def dcg(ranking):
        gains = [2.0**g - 1 if gain == "exponential" else g for g in ranking[:k]]
        return sum(g / np.log2(1 + rank) for rank, g in enumerate(gains, 1))

    ideal = dcg(sorted(ranking, reverse=True))
    return dcg(ranking) / ideal if ideal else 0.0


def average_cumulative_gain(ranking, k):
    return sum(ranking[:k]) / k


def weighted_average_precision(ranking, k=None, divide_by="all"):
    gained = [average_cumulative_gain(ranking, i + 1) for i, g in enumerate(ranking[:k]) if g]
    relevant = np.count_nonzero(ranking)
    denominator = {
        "retrieved": len(gained),
        "all": relevant,
        "min": min(len(ranking[:k]), relevant),
    }[divide_by]
    return sum(gained) / denominator if denominator else 0.0


def hierarchical_precision(ranking, k):
    ideal = sum(sorted(ranking, reverse=True)[:k])
    return sum(ranking[:k]) / ideal if ideal else 0.0


def average_hierarchical_precision(ranking, k=None, form="trapezoid"):
    k = len(ranking) if k is None else k
    curve = [hierarchical_precision(ranking, i) for i in range(1, k + 1)]
    return (sum(curve) - (curve[0] + curve[-1]) / 2 * (form == "trapezoid")) / k


def similarity_rankings(some):
    """For each query of counts by similarity, its rankings in all orders of the ties."""
    for total, items, similarity in zip(some.total, some.items, some.similarity, strict=True):
        values = [0.0, *similarity.tolist()]  # of the gains 0, 1, 2, ..., which are the levels
        yield [[values[level] for level in order] for order in orders(total, items)]


# Means over queries


def is_empty(ranking, k=None, divide_by="all"):
    """Returns whether a query is empty."""
    return not any(ranking[:k] if divide_by == "retrieved" else ranking)


def mean_average_precision(some, *, k=None, divide_by="all", empty="zero", ties="expected"):
    """The mean over queries, in all orders of the ties of all queries together.

    An order that leaves out all queries has no mean.
    """
    options = []
    for query in queries(some):
        rankings = orders(*query)
        values = [average_precision(r, k, divide_by) for r in rankings]
        counted = [empty == "zero" or not is_empty(r, k, divide_by) for r in rankings]
        options.append(list(zip(values, counted, strict=True)))
    if ties == "expected":
        return expected_mean([Counter(option) for option in options])
    return extreme_mean(options, ties)


def expected_mean(options):
    """The mean over all choices of a pair (value, whether it counts) for each query, by weight."""
    total = weight = 0.0
    for choice in product(*(option.items() for option in options)):
        values = [value for (value, counts), _ in choice if counts]
        if values:
            times = np.prod([times for _, times in choice], dtype=float)
            total, weight = total + times * np.mean(values), weight + times
    return total / weight if weight else np.nan


def extreme_mean(options, ties):
    """The least or largest mean, where each query is one of its pairs (value, whether it counts)."""
    means = []
    for choice in product(*map(set, options)):
        values = [value for value, counts in choice if counts]
        if values:
            means.append(np.mean(values))
    return {"worst": min, "best": max}[ties](means) if means else np.nan


# Average precision of many items, exactly: all orders at once, rank by rank


def walk(total, relevant, k, divide_by):
    """For each rank up to k, and for each number of relevant items found before it.

    Yields:
        the relevant items left in the tie group of the rank, the items left in it, and what a
        relevant item at the rank adds to the sum of precisions.
    """
    found, rank, found_before = np.arange(min(k, sum(relevant)) + 1), 0, 0
    for n, r in zip(map(int, total), map(int, relevant), strict=True):
        for left in range(n, max(n - (k - rank), 0), -1):
            rank += 1
            precision = (found + 1) / rank
            if divide_by == "trapezoid":
                precision = (precision + (found / (rank - 1) if rank > 1 else 1)) / 2
            yield r - (found - found_before), left, precision
        found_before += r


def one_more(miss, hit, combine):
    """Returns the state after a rank, by the number found: as many as before, or one more."""
    miss[1:] = combine(miss[1:], hit[:-1])
    return miss


def expected_sums(total, relevant, k, divide_by="all"):
    """Returns the probability of m relevant items in the first k, and its product with the mean sum."""
    chance = np.zeros(min(k, sum(relevant)) + 1)
    chance[0] = 1.0
    sums = np.zeros_like(chance)
    for hits, left, precision in walk(total, relevant, k, divide_by):
        hit = np.clip(hits / left, 0, 1)
        sums = one_more((1 - hit) * sums, hit * (sums + precision * chance), np.add)
        chance = one_more((1 - hit) * chance, hit * chance, np.add)
    return chance, sums


def extreme_sums(total, relevant, k, divide_by="all", ties="worst"):
    """The least or largest sum of precisions with m found; infinite where m cannot be found."""
    choose, never = {"worst": (np.minimum, np.inf), "best": (np.maximum, -np.inf)}[ties]
    sums = np.full(min(k, sum(relevant)) + 1, never)
    sums[0] = 0.0
    for hits, left, precision in walk(total, relevant, k, divide_by):
        miss = np.where(hits < left, sums, never)
        hit = np.where(hits > 0, sums + precision, never)
        sums = one_more(miss, hit, choose)
    return sums


def average_precision_by_walk(total, relevant, k=None, divide_by="all", ties="expected"):
    """The same as `brute_force` of `average_precision`, for one query of any size."""
    k, everything = sum(total) if k is None else k, sum(relevant)
    found = np.arange(min(k, everything) + 1)
    denominators = {"retrieved": found, "min": np.full_like(found, min(k, everything))}
    denominator = np.maximum(denominators.get(divide_by, np.full_like(found, everything)), 1)
    if ties == "expected":
        _, sums = expected_sums(total, relevant, k, divide_by)
        return np.sum(sums / denominator)
    sums = extreme_sums(total, relevant, k, divide_by, ties)
    possible = np.isfinite(sums)
    return {"worst": np.min, "best": np.max}[ties](sums[possible] / denominator[possible])
