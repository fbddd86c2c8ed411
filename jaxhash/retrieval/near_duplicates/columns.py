"""Reads columns of many items of an index at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from jaxhash.retrieval.index import Index
from jaxhash.retrieval.index.items import SCHEMA
from jaxhash.utils.errors import UserError


def read_columns(index: Index, ids: Int[np.ndarray, " n"], columns: Sequence[str]) -> pa.Table:
    """Returns columns of the items of some ids, in their order; reads each shard once.

    Args:
        index: the index.
        ids: ids of the items, each once.
        columns: names of columns of the items table.

    Raises:
        UserError: if there is no such item, as when another process has removed it.
    """
    order = np.argsort(ids)
    wanted = ids[order]
    parts = []
    for table in index.tables(["id", *columns]):
        held = table["id"].to_numpy()
        start, stop = np.searchsorted(wanted, [held[0], held[-1] + 1])
        rows = np.searchsorted(held, wanted[start:stop])
        rows = rows[held[np.minimum(rows, len(held) - 1)] == wanted[start:stop]]
        parts.append(table.select(list(columns)).take(pa.array(rows)))
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    found = pa.concat_tables([schema.empty_table(), *parts]).unify_dictionaries().combine_chunks()
    if len(found) != len(ids):
        raise UserError(f"{index.folder} has been changed meanwhile; start again")
    places = np.empty(len(ids), np.int64)
    places[order] = np.arange(len(ids))
    return found.take(pa.array(places))


class ItemNames(NamedTuple):
    """Paths and labels of some items.

    Attributes:
        ids: their ids, ascending.
        paths: their paths.
        labels: number of the label of each; -1 without one.
        vocabulary: the labels by number.
    """

    ids: Int[np.ndarray, " n"]
    paths: pa.ChunkedArray
    labels: Int[np.ndarray, " n"]
    vocabulary: Sequence[str]

    def labels_of(self, ids: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """Returns the numbers of the labels of some of the items."""
        return self.labels[np.searchsorted(self.ids, ids)]

    def of(self, ids: Int[np.ndarray, " m"]) -> list[tuple[str, str | None]]:
        """Returns the path and the label of some of the items."""
        places = np.searchsorted(self.ids, ids)
        paths = self.paths.take(pa.array(places)).to_pylist()
        labels = self.labels[places].tolist()
        names = [None if label < 0 else self.vocabulary[label] for label in labels]
        return list(zip(paths, names, strict=True))


def read_names(*sides: tuple[Index, Int[np.ndarray, " _"]]) -> list[ItemNames]:
    """Reads the paths and labels of items of one index or several; labels are numbered over all of them.

    Args:
        *sides: an index and ids of its items, each once.
    """
    tables, numbers = [], {}
    for index, ids in sides:
        ids = np.sort(ids)
        table = read_columns(index, ids, ["path", "label"])
        labels = table["label"].combine_chunks()
        names = labels.dictionary.to_pylist()
        own = np.array([numbers.setdefault(name, len(numbers)) for name in names] + [-1])
        tables.append((ids, table["path"], own[labels.indices.fill_null(-1).to_numpy()]))
    return [ItemNames(*table, list(numbers)) for table in tables]
