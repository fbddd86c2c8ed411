"""What the processes of a job count and rank together.

Each process counts its share of the database, or ranks its share of the queries; every process has the
numbers of all of them, the same as one process alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash import metrics
from jaxhash.retrieval.packed_codes import PackedCodes
from jaxhash.retrieval.vectors import ProgressTracker, no_progress
from jaxhash.training.distributed import allgather, sum_over_processes

Counts = TypeVar("Counts", metrics.DistanceCounts, metrics.SimilarityCounts)


def count_by_distance(
    query: PackedCodes,
    query_labels: Shaped[np.ndarray, " queries *classes"],
    database: PackedCodes,
    database_labels: Shaped[np.ndarray, " items *classes"],
    *,
    relevance: metrics.Relevance | metrics.ItemLists = "shared",
    excluded: metrics.ItemLists | None = None,
    track: ProgressTracker = no_progress,
    description: str = "counting",
) -> metrics.DistanceCounts:
    """Counts as `jaxhash.metrics.distance_counts` does; every process returns the counts of all.

    Args:
        query: codes of the queries.
        query_labels: their labels.
        database: codes of the items.
        database_labels: their labels.
        relevance: as in `jaxhash.metrics.distance_counts`.
        excluded: likewise.
        track: shows the progress.
        description: text beside the progress.
    """

    def count(rows: slice) -> metrics.DistanceCounts:
        def own(lists):
            is_list = isinstance(lists, metrics.ItemLists)
            return lists.of_rows(rows.start, rows.stop) if is_list else lists

        counts = metrics.distance_counts(
            *(query.packed, query_labels, database.packed[rows], database_labels[rows]),
            bits=database.bits,
            relevance=own(relevance),
            excluded=own(excluded),
            track=lambda blocks, total: track(blocks, description, total),
        )
        if counts.gains is None:
            return counts
        # A share may have no item of the highest gains.
        missing = int(allgather(np.int32(counts.gains.shape[2])).max()) - counts.gains.shape[2]
        return counts._replace(gains=np.pad(counts.gains, ((0, 0), (0, 0), (0, missing))))

    return _over_processes(count, len(database))


def count_by_similarity(
    query: PackedCodes,
    query_labels: Int[np.ndarray, " queries"],
    database: PackedCodes,
    database_labels: Int[np.ndarray, " items"],
    similarity: Float[np.ndarray, "classes classes"],
    *,
    rows: Int[np.ndarray, " some"],
) -> metrics.SimilarityCounts:
    """Counts some queries as `jaxhash.metrics.similarity_counts` does; see `count_by_distance`.

    Args:
        query: codes of the queries.
        query_labels: their class ids.
        database: codes of the items.
        database_labels: their class ids.
        similarity: similarity of each two classes.
        rows: the queries that are counted.
    """

    def count(share: slice) -> metrics.SimilarityCounts:
        return metrics.similarity_counts(
            *(query.packed[rows], query_labels[rows]),
            *(database.packed[share], database_labels[share]),
            similarity,
            bits=database.bits,
        )

    return _over_processes(count, len(database))


def own_rows(
    rankings: Iterable[tuple[Int[np.ndarray, " rows"], Shaped[np.ndarray, "rows items"]]],
) -> Iterator[tuple[Int[np.ndarray, " own"], Shaped[np.ndarray, "own items"]]]:
    """Yields the queries that this process ranks, of those that a `Comparison` yields, with their scores."""
    own = slice(jax.process_index(), None, jax.process_count())
    return ((rows[own], scores[own]) for rows, scores in rankings if len(rows[own]))


def mean_over_queries(
    found: Mapping[int, Sequence[float]], names: Iterable[str], queries: int
) -> dict[str, float]:
    """Returns the mean of each metric over the queries of all processes.

    Args:
        found: the metrics of each query that this process ranked.
        names: the name of each metric.
        queries: number of all queries.
    """
    names = list(names)
    values = np.zeros((len(names), queries))
    for row, metrics_of_row in found.items():
        values[:, row] = metrics_of_row
    return dict(zip(names, sum_over_processes(values).mean(axis=1).tolist(), strict=True))


def _over_processes(count: Callable[[slice], Counts], items: int) -> Counts:
    """Counts a share of the items in each process, and adds what is counted.

    The share of each process has an item; of fewer items than processes each counts all.
    """
    processes, process = jax.process_count(), jax.process_index()
    if processes == 1 or items < processes:
        return count(slice(0, items))
    first, last = (items * number // processes for number in (process, process + 1))
    counts = count(slice(first, last))
    summed = ("total", "relevant", "gains", "items")  # other fields are of the queries alone
    return counts._replace(
        **{
            name: sum_over_processes(values)
            for name, values in counts._asdict().items()
            if name in summed and values is not None
        }
    )
