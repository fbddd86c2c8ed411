"""Exact search of an index: by its cache, or among the items that match a condition."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64, UInt8
from rich.console import Console

from jaxhash.retrieval.index.cache import MAX_GROUP_K, SearchCache, open_cache
from jaxhash.retrieval.index.manifest import Manifest
from jaxhash.retrieval.index.scan import Scan
from jaxhash.retrieval.index.state import IndexState
from jaxhash.retrieval.search import check_k, check_radius
from jaxhash.retrieval.two_stage import NO_CLASS, ClassedCodes, classed_codes
from jaxhash.retrieval.vectors import normalize_rows
from jaxhash.utils.errors import UserError

#: Bytes of vectors that are in memory at once while candidates are ranked again.
_VECTOR_BYTES = 2**26


class SearchResult(NamedTuple):
    """The nearest items of each query.

    Attributes:
        distances: Hamming distances.
        ids: ids of the items; see `jaxhash.retrieval.Index.items`.
        scores: cosine of the vectors of query and item, if the items are ranked by it; else None.
    """

    distances: Int32[np.ndarray, "queries k"]
    ids: Int64[np.ndarray, "queries k"]
    scores: Float32[np.ndarray, "queries k"] | None = None


class Ties(NamedTuple):
    """The items at the distance of the last one that a search returned, for each query.

    Attributes:
        distances: that distance.
        shown: how many of the returned items are at it.
        total: how many items are at it in all.
    """

    distances: Int32[np.ndarray, " queries"]
    shown: Int64[np.ndarray, " queries"]
    total: Int64[np.ndarray, " queries"]


class Searchable:
    """The search of an `jaxhash.retrieval.Index`."""

    _state: IndexState
    _read: Callable
    _read_only: bool
    _opened: tuple[Manifest, SearchCache | None] | None = None
    _by_class: tuple[Manifest, ClassedCodes] | None = None

    def search(
        self,
        queries: UInt8[np.ndarray, "queries bytes"],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        near_classes: int | None = None,
        rescore: Float[np.ndarray, "queries d"] | None = None,
        rescore_multiplier: int = 10,
        console: Console | None = None,
    ) -> SearchResult:
        """Returns the k nearest items of each query, ties in order of id.

        The first search of an index writes its ``faiss.index``, and reads it from then on. If the index
        was opened ``read_only`` and the file is not there, each search reads the codes of all shards.

        Args:
            queries: packed codes, by the hash function of the index.
            k: number of items per query.
            where: searches among the items with a label, as ``{"label": "cat"}``, or with one of
                several, as ``{"label": ["cat", "dog"]}``.
            near_classes: searches, for each query, the items of as many labels alone, those whose
                items' majority code is nearest, and items without a label; see
                `jaxhash.retrieval.two_stage`. It may miss nearer items of other labels.
            rescore: vectors of the queries, of the kind that the index keeps (`Index.keep`); of the
                ``rescore_multiplier * k`` items that are nearest in Hamming distance, those of the
                greatest cosine are returned, in that order.
            rescore_multiplier: how many times as many items are ranked by their vectors.
            console: where to show the progress of writing ``faiss.index``; the error stream by default.

        Raises:
            UserError: if ``k`` is above the number of items, queries are of another length, or the
                index keeps no vectors to rank by.
        """
        self._check_queries(queries)
        if near_classes is not None:
            if where is not None:
                raise UserError("`near_classes` and `where` cannot be combined")
            search = functools.partial(self._search_near, queries, k, near_classes)
        else:
            search = functools.partial(self._search, queries, k, where, console=console)
        if rescore is None:
            return self._read(search)
        return self._rescore(search, k, rescore, rescore_multiplier)

    def range_search(
        self,
        queries: UInt8[np.ndarray, "queries bytes"],
        radius: int,
        *,
        where: Mapping[str, Any] | None = None,
        console: Console | None = None,
    ) -> list[SearchResult]:
        """Returns, for each query, all items within a Hamming radius, by distance, then by id.

        Args:
            queries: packed codes, by the hash function of the index.
            radius: greatest distance that is returned.
            where: as in `search`.
            console: likewise.

        Raises:
            UserError: if the radius is below 0, or queries are of another length.
        """
        self._check_queries(queries)
        check_radius(radius)

        def search(state: IndexState) -> list[SearchResult]:
            found = self._database(state, where, console=console).range_search(queries, radius)
            return [SearchResult(*each) for each in found]

        return self._read(search)

    def count_ties(
        self,
        queries: UInt8[np.ndarray, "queries bytes"],
        result: SearchResult,
        *,
        where: Mapping[str, Any] | None = None,
    ) -> Ties:
        """Counts the items that are as far as the last one of a search, which of them it shows by id.

        Args:
            queries: the queries of the search.
            result: what `search` returned.
            where: as in `search`.
        """
        last = result.distances[:, -1]
        shown = (result.distances == last[:, None]).sum(axis=1)
        total = self._read(
            lambda state: self._database(state, where).count_at_distance(queries, last)
        )
        return Ties(last, shown, total)

    def _check_queries(self, queries: UInt8[np.ndarray, "queries bytes"]) -> None:
        expected = self._state.manifest.code_bytes
        if queries.dtype != np.uint8 or queries.ndim != 2 or queries.shape[1] != expected:
            raise UserError(
                f"`queries` must be packed codes, uint8 [n, {expected}], got {queries.dtype} of shape "
                f"{queries.shape}"
            )

    def _search(
        self,
        queries: UInt8[np.ndarray, "queries bytes"],
        k: int,
        where: Mapping[str, Any] | None,
        state: IndexState,
        most: int | None = None,
        console: Console | None = None,
    ) -> SearchResult:
        """Searches a state of the index for k items, or up to ``most`` if there are so many."""
        most = min(most or k, state.manifest.live)
        database = self._database(state, where, k=most, console=console)
        check_k(k, database.items, _which(where))
        return SearchResult(*database.search(queries, min(most, database.items)))

    def _search_near(
        self,
        queries: UInt8[np.ndarray, "queries bytes"],
        k: int,
        near_classes: int,
        state: IndexState,
        most: int | None = None,
    ) -> SearchResult:
        """Searches the items of the nearest labels for k items, or ``most`` if there are so many."""
        if self._by_class is None or self._by_class[0] != state.manifest:
            self._by_class = state.manifest, _by_class(state)
        database = self._by_class[1]
        check_k(k, database.items)
        found = database.search(queries, min(most or k, database.items), near_classes=near_classes)
        return SearchResult(*found)

    def _rescore(
        self,
        search: Callable[..., SearchResult],
        k: int,
        vectors: Float[np.ndarray, "queries d"],
        multiplier: int,
    ) -> SearchResult:
        """Ranks the nearest items by the cosine of their vectors."""
        if multiplier < 1:
            raise UserError(f"`rescore_multiplier` must be at least 1, got {multiplier}")
        self.vectors([])  # raises if there are none
        return self._read(
            lambda state: _rank_by_cosine(search(state, most=k * multiplier), k, vectors, state)
        )

    def _database(
        self,
        state: IndexState,
        where: Mapping[str, Any] | None,
        *,
        k: int = 1,
        console: Console | None = None,
    ) -> SearchCache | Scan:
        """Returns what answers a search of a state of the index."""
        if where is not None:
            return Scan(state, _find(state, where))
        if self._opened is None or self._opened[0] != state.manifest:
            cache = None
            if state.manifest.live:
                cache = open_cache(state, console, read_only=self._read_only)
            self._opened = state.manifest, cache
        cache = self._opened[1]
        if cache is None or cache.is_grouped and k > MAX_GROUP_K:
            return Scan(state)
        return cache


def _find(state: IndexState, where: Mapping[str, Any]) -> Int[np.ndarray, " n"]:
    """Returns the ids of the items that match a condition, ascending."""
    if set(where) != {"label"}:
        raise UserError(f"`where` must be {{'label': LABEL}}, got {dict(where)}")
    labels = where["label"]
    ids = state.find(label=[labels] if isinstance(labels, str) else list(labels))
    if not len(ids):
        raise UserError(f"`where`: no item has the label {labels!r}; jaxhash index lists labels")
    return ids


def _by_class(state: IndexState) -> ClassedCodes:
    """Returns the items of a state of the index by label, in memory."""
    blocks, tables = list(state.blocks()), state.tables(["label"])
    labels = [label for table in tables for label in table["label"].to_pylist()]
    numbers = {label: number for number, label in enumerate(sorted(set(labels) - {None}))}
    classes = np.array([numbers.get(label, NO_CLASS) for label in labels], np.int64)
    if not blocks:
        raise UserError("`near_classes` needs items with a label")
    ids, codes = map(np.concatenate, zip(*blocks, strict=True))
    return classed_codes(codes, classes, ids)


def _which(where: Mapping[str, Any] | None) -> str:
    """Returns which items a condition selects, for a message."""
    return "" if where is None else f" where label is {where['label']!r}"


def _rank_by_cosine(
    found: SearchResult, k: int, vectors: Float[np.ndarray, "queries d"], state: IndexState
) -> SearchResult:
    """Returns the k items of the greatest cosine among those found."""
    queries = normalize_rows(np.asarray(vectors, np.float32))
    if len(queries) != len(found.ids):
        raise UserError(f"`rescore` has {len(queries)} vectors for {len(found.ids)} queries")
    ranked = [[each[:0, :k] for each in (*found[:2], found.distances.astype(np.float32))]]
    step = max(1, _VECTOR_BYTES // (4 * max(1, queries.shape[1]) * found.ids.shape[1]))
    for first in range(0, len(queries), step):
        some = slice(first, first + step)
        distances, ids = found.distances[some], found.ids[some]
        distinct, places = np.unique(ids, return_inverse=True)
        kept = normalize_rows(state.vectors(distinct).astype(np.float32))
        if kept.shape[1] != queries.shape[1]:
            raise UserError(
                f"`rescore` has vectors of {queries.shape[1]} numbers, and {state.folder} keeps some "
                f"of {kept.shape[1]}"
            )
        scores = np.einsum("qd,qcd->qc", queries[some], kept[places.reshape(ids.shape)])
        scores = np.clip(scores, -1, 1)  # rounding may leave the range of a cosine
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        ranked.append([np.take_along_axis(each, order, 1) for each in (distances, ids, scores)])
    return SearchResult(*map(np.concatenate, zip(*ranked, strict=True)))
