"""Reads the codes and labels of two indexes, to evaluate a search of one for the items of the other."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, UInt8

from jaxhash.retrieval.code_files import LabeledCodes, QueryAndDatabase
from jaxhash.retrieval.index import Index
from jaxhash.retrieval.index.manifest import is_index
from jaxhash.similarity import UNLABELLED
from jaxhash.utils.errors import UserError


def read_query_and_database_index(query: Path, database: Path) -> QueryAndDatabase:
    """Reads the items of two indexes; class ids number the labels of both in alphabetical order.

    Codes and labels are in memory: a packed code and 8 bytes an item.

    Args:
        query: folder of the index of the queries.
        database: folder of the index that is searched.

    Raises:
        UserError: if a folder is no index, is damaged, or has no items or no labels; if both are the
            same, or their codes are of different hash functions.
    """
    for folder, other in ((query, database), (database, query)):
        if not is_index(folder):
            raise UserError(
                f"{folder} is no index, and {other} is one: codes compare where one hash function is known "
                "to have made both, so encode both into indexes"
            )
    sides = [Index.open(folder, read_only=True) for folder in (query, database)]
    if query.resolve() == database.resolve():
        raise UserError(
            f"{query} is `database` too, so each query would find itself: encode the queries into an "
            "index of their own"
        )
    sides[1].check_hasher(sides[0].digest, sides[0].bits, f"the hash function of {query}")
    codes, labels = zip(*(_read(index) for index in sides), strict=True)
    names = pc.unique(pa.chunked_array([each.dictionary for each in labels])).sort()
    return QueryAndDatabase(
        *(
            LabeledCodes(packed, _class_ids(each, names), index.folder, index.folder, index.bits)
            for index, packed, each in zip(sides, codes, labels, strict=True)
        )
    )


def _read(index: Index) -> tuple[UInt8[np.ndarray, "items bytes"], pa.DictionaryArray]:
    """Returns the packed codes and the labels of all items."""
    codes = [codes for _, codes in index.blocks()]
    if not codes:
        raise UserError(f"{index.folder} has no items")
    labels = pa.concat_tables(index.tables(["label"]))["label"].unify_dictionaries()
    labels = labels.combine_chunks()
    if labels.null_count == len(labels):
        raise UserError(
            f"{index.folder} has no labels, by which items are relevant: jaxhash encode takes them from "
            "the folders of the files, or from a file by `labels=FILE`"
        )
    return np.concatenate(codes), labels


def _class_ids(labels: pa.DictionaryArray, names: pa.Array) -> Int[np.ndarray, " items"]:
    """Returns the places of labels among the names; -1 for none."""
    places = pc.index_in(labels.dictionary, value_set=names).to_numpy()
    indices = labels.indices.fill_null(UNLABELLED).to_numpy()
    return np.where(indices < 0, UNLABELLED, places[indices]).astype(np.int32)
