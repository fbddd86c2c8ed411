"""Queries of a run with their nearest items, as pages show them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxhash.metrics import ItemLists
from jaxhash.report.html.rankings import Neighbor, Ranking, ShownItem
from jaxhash.retrieval.search import count_at_distance, search_allowed
from jaxhash.runs.finished_run import RunItems
from jaxhash.similarity import shares_label

#: Neighbors of a query that are shown.
SHOWN_NEIGHBORS = 10


def shown_item(items: RunItems, side: str, row: int | np.integer) -> ShownItem:
    """Returns an item with its name, its classes and its image, if there is one."""
    row = int(row)
    return ShownItem(items.name(side, row), items.classes(side, row), items.image(side, row))


def rank_queries(
    items: RunItems,
    rows: Int[np.ndarray, " queries"],
    facts: Sequence[Sequence[str]],
    *,
    k: int = SHOWN_NEIGHBORS,
) -> list[Ranking]:
    """Returns some queries with the k nearest items of the database, ties in its order.

    Args:
        items: queries and database.
        rows: the queries.
        facts: texts on each of them.
        k: number of items; all if there are fewer.
    """
    query, database = items.sides["query"], items.sides["database"]
    codes = query.codes[rows]
    lists = items.lists.take(rows)
    found = search_allowed(codes, database.codes, min(k, len(database.codes)), lists.excluded)
    last = found.distances[:, -1]
    ties = count_at_distance(codes, database.codes, last)
    if lists.excluded is not None:
        ties = ties - _excluded_at_distance(codes, database.codes, lists.excluded, last)
    rankings = []
    for number, row in enumerate(rows):
        near, distances = found.rows[number], found.distances[number]
        right = (
            shares_label(query.labels[row][None], database.labels[near])[0]
            if lists.relevant is None
            else np.isin(near, lists.relevant.of(number))
        )
        neighbors = [
            Neighbor(shown_item(items, "database", each), int(distance), bool(is_right))
            for each, distance, is_right in zip(near, distances, right, strict=True)
        ]
        shown = int((distances == last[number]).sum())
        note = ""
        if shown < ties[number]:
            note = (
                f"{shown:,} of the {ties[number]:,} items at distance {last[number]}, the first of the "
                "database"
            )
        rankings.append(Ranking(shown_item(items, "query", row), facts[number], neighbors, note))
    return rankings


def _excluded_at_distance(
    codes: UInt8[np.ndarray, "queries bytes"],
    database: UInt8[np.ndarray, "n bytes"],
    excluded: ItemLists,
    distances: Int[np.ndarray, " queries"],
) -> Int[np.ndarray, " queries"]:
    """Counts the excluded items of each query at a distance from it."""
    query = excluded.query_of_pair
    distance = np.bitwise_count(codes[query] ^ database[excluded.items]).sum(axis=1)
    return np.bincount(query[distance == distances[query]], minlength=len(codes))


def extreme_queries(
    precision: Float[np.ndarray, " queries"],
    labels: Int[np.ndarray, " queries *classes"],
    k: int,
    *,
    best: bool,
) -> Int[np.ndarray, " k"]:
    """Returns the queries of the highest or the lowest AP, at most k; equals are of many classes.

    Args:
        precision: AP of each query; NaN leaves it out.
        labels: class ids of the queries, or multi-hot rows.
        k: number of queries.
        best: whether the highest are returned, the highest first.

    Example:
        >>> precision = np.array([1.0, 1.0, 0.5, 1.0])
        >>> extreme_queries(precision, np.array([0, 0, 0, 1]), 2, best=True)
        array([0, 3])
    """
    values = -precision if best else precision
    seen: Counter[tuple[float, bytes]] = Counter()
    order = []
    for row in np.flatnonzero(~np.isnan(values)).tolist():
        key = (float(values[row]), labels[row].tobytes())
        order.append((key[0], seen[key], row))
        seen[key] += 1
    return np.array([row for _, _, row in sorted(order)[:k]], np.int64)
