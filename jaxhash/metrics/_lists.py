"""Lists of database items, one for each query: what it should find, or must not find."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Shaped

from jaxhash.metrics._inputs import CodeFormat
from jaxhash.metrics._labels import Labels
from jaxhash.ops.arguments import dtype_of

#: Pairs of a query and an item that are compared at a time.
_PAIRS = 2**18


class ItemLists(NamedTuple):
    """A list of database items for each query, in compressed sparse rows.

    The items of query q are ``items[indptr[q] : indptr[q + 1]]``, positions in the database, ascending
    and without repetition. The memory is linear in their number.

    Example:
        >>> ItemLists.from_pairs(np.array([[2, 0], [0, 3], [0, 1]]), queries=3).of(0)
        array([1, 3])
    """

    indptr: Int[np.ndarray, " queries_1"]
    items: Int[np.ndarray, " pairs"]

    @classmethod
    def from_pairs(cls, pairs: Int[np.ndarray, "pairs 2"], *, queries: int) -> "ItemLists":
        """Returns the lists of pairs of a query and an item, in any order."""
        pairs = np.unique(pairs.reshape(-1, 2), axis=0)
        counts = np.bincount(pairs[:, 0], minlength=queries)
        return cls(np.concatenate([[0], np.cumsum(counts)]), np.ascontiguousarray(pairs[:, 1]))

    @property
    def queries(self) -> int:
        """Number of lists."""
        return len(self.indptr) - 1

    @property
    def sizes(self) -> Int[np.ndarray, " queries"]:
        """Number of items of each list."""
        return np.diff(self.indptr)

    @property
    def query_of_pair(self) -> Int[np.ndarray, " pairs"]:
        """The query of each item."""
        return np.repeat(np.arange(self.queries), self.sizes)

    def of(self, query: int | np.integer) -> Int[np.ndarray, " n"]:
        """Returns the items of a query."""
        return self.items[self.indptr[query] : self.indptr[query + 1]]

    def take(self, queries: Int[np.ndarray, " n"]) -> "ItemLists":
        """Returns the lists of some queries, in that order."""
        sizes = self.sizes[queries]
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        offsets = np.arange(indptr[-1]) - np.repeat(indptr[:-1], sizes)
        return ItemLists(indptr, self.items[np.repeat(self.indptr[queries], sizes) + offsets])

    def of_rows(self, first: int, last: int) -> "ItemLists":
        """Returns the listed items among ``first`` to ``last - 1``, as positions from ``first``.

        Example:
            >>> lists = ItemLists(np.array([0, 2, 3]), np.array([0, 4, 3]))
            >>> lists.of_rows(3, 5)
            ItemLists(indptr=array([0, 1, 2]), items=array([1, 0]))
        """
        held = (self.items >= first) & (self.items < last)
        counts = np.bincount(self.query_of_pair[held], minlength=self.queries)
        return ItemLists(np.concatenate([[0], np.cumsum(counts)]), self.items[held] - first)

    def marks(self, queries: Int[np.ndarray, " n"], items: int) -> Bool[np.ndarray, "n items"]:
        """Returns, for some queries, which of the database's items their lists hold."""
        found, some = np.zeros((len(queries), items), bool), self.take(queries)
        found[some.query_of_pair, some.items] = True
        return found

    def check(self, name: str, *, queries: int, items: int) -> None:
        """Raises unless these are lists of that many queries and of items of the database.

        Raises:
            TypeError: if they are not integers.
            ValueError: if a list does not fit, or its items do not ascend.
        """
        for part in self:
            if not np.issubdtype(dtype_of(name, part), np.integer):
                raise TypeError(f"{name} must be lists of integers, got {part.dtype}")
        indptr, held = self.indptr, self.items
        is_whole = indptr.ndim == held.ndim == 1 and len(indptr) == queries + 1
        if not is_whole or indptr[0] or indptr[-1] != len(held) or (np.diff(indptr) < 0).any():
            raise ValueError(
                f"{name} must have a list for each of the {queries:,} queries, got indptr of shape "
                f"{indptr.shape} for {len(held):,} items"
            )
        if len(held) and not 0 <= held.min() <= held.max() < items:
            raise ValueError(
                f"{name} must hold positions from 0 to {items - 1}, got {held.min()} to {held.max()}"
            )
        within = np.diff(self.query_of_pair) == 0
        if (np.diff(held)[within] <= 0).any():
            raise ValueError(f"{name} must ascend within a query, without repetition")


class QueryLists(NamedTuple):
    """What each query should find, and what it must not find; None where nothing is listed."""

    relevant: ItemLists | None = None
    excluded: ItemLists | None = None

    @property
    def given(self) -> dict[str, ItemLists]:
        """Those that are listed, by name."""
        return {name: lists for name, lists in self._asdict().items() if lists is not None}

    @property
    def counting(self) -> dict[str, ItemLists]:
        """Those that are listed, as arguments of `jaxhash.metrics.distance_counts`."""
        arguments = {"relevant": "relevance", "excluded": "excluded"}
        return {arguments[name]: lists for name, lists in self.given.items()}

    def check(self, *, queries: int, items: int) -> None:
        """Raises unless the lists fit the codes and each other, as `ItemLists.check` does.

        Raises:
            TypeError: if they are not integers.
            ValueError: if a list does not fit, or an item is both relevant and excluded.
        """
        check_lists(self.relevant, self.excluded, queries=queries, items=items)

    def take(self, queries: Int[np.ndarray, " n"]) -> "QueryLists":
        """Returns the lists of some queries, in that order."""
        return QueryLists(**{name: lists.take(queries) for name, lists in self.given.items()})


def check_lists(
    relevant: ItemLists | None, excluded: ItemLists | None, *, queries: int, items: int
) -> None:
    """Raises unless lists of relevant and of excluded items fit the codes and each other."""
    for name, lists in (("relevance", relevant), ("excluded", excluded)):
        if lists is not None:
            lists.check(name, queries=queries, items=items)
    if relevant is None or excluded is None:
        return
    one, other = (lists.query_of_pair * items + lists.items for lists in (relevant, excluded))
    if both := len(np.intersect1d(one, other, assume_unique=True)):
        raise ValueError(f"relevance and excluded must not share an item, and share {both:,}")


def list_counts(
    query_codes: Shaped[np.ndarray, "queries columns"],
    database_codes: Shaped[np.ndarray, "items columns"],
    codes: CodeFormat,
    lists: ItemLists,
    labels: Labels | None = None,
) -> Int[np.ndarray, "queries kinds distances"]:
    """Counts the items of each list by their distance from its query.

    Args:
        query_codes: codes of the queries.
        database_codes: codes of the database.
        codes: format of both.
        lists: the lists.
        labels: labels of both; then the relevant items of the lists are counted too, by level.

    Returns:
        All items of the lists and, with labels, those of each level from 1.
    """
    kinds = 1 + (0 if labels is None else labels.levels)
    shape = len(query_codes), kinds, codes.bits + 1
    counts = np.zeros(np.prod(shape), np.int64)
    rows = lists.query_of_pair
    for at in range(0, len(rows), _PAIRS):
        query, item = rows[at : at + _PAIRS], lists.items[at : at + _PAIRS]
        differ = codes.read(query_codes[query]) ^ codes.read(database_codes[item])
        cell = query * kinds * shape[2] + differ.sum(axis=1)
        counts += np.bincount(cell, minlength=len(counts))
        if labels is not None:
            level = _levels(labels, query, item)
            cell = (cell + level * shape[2])[level > 0]
            counts += np.bincount(cell, minlength=len(counts))
    return counts.reshape(shape)


def _levels(
    labels: Labels, query: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Returns the level of each pair, 0 where the item is not relevant."""
    one, other = labels.query[query], labels.read(item)
    if labels.multi_hot:
        return np.minimum((one & other).sum(axis=1), labels.levels)
    return ((one == other).all(axis=1) & one.any(axis=1)).astype(np.int64)
