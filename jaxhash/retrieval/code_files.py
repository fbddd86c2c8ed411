"""Reads binary codes and their labels, made by anything, from files."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxhash.data.readers.arrays import read_npy, read_npz
from jaxhash.data.readers.labels import read_labels
from jaxhash.data.readers.lists import read_list
from jaxhash.metrics import ItemLists, QueryLists
from jaxhash.similarity import UNLABELLED
from jaxhash.utils.errors import UserError


class LabeledCodes(NamedTuple):
    """Codes of the queries or of the database, their labels, and the files that hold them."""

    codes: np.ndarray
    labels: np.ndarray
    codes_file: Path
    labels_file: Path
    bits: int | None = None
    """Length of a code, where the files tell it."""


class QueryAndDatabase(NamedTuple):
    """Both sides of a search."""

    query: LabeledCodes
    database: LabeledCodes


def read_query_and_database(
    path: Path,
    database: Path | None = None,
    labels: Path | None = None,
    database_labels: Path | None = None,
    *,
    database_argument: str = "database",
    labeled: bool = True,
    memory_bytes: int | None = None,
) -> QueryAndDatabase:
    """Reads queries and database from one file that holds both, or from a file each.

    Args:
        path: file of both sides, or of the queries.
        database: file of the database.
        labels: file of the queries' labels; replaces labels in ``path``.
        database_labels: file of the database's labels; replaces labels in ``database``.
        database_argument: name of the argument ``database`` in error messages.
        labeled: whether labels are read; without them each item has none.
        memory_bytes: see `read_npz`.

    Raises:
        UserError: if a file is missing, cannot be read, or lacks an array.
    """
    if database is not None:
        return QueryAndDatabase(
            *(
                read_side(file, of_side, argument, memory_bytes)
                if labeled
                else _without_labels(_read_codes(file, memory_bytes), file)
                for file, of_side, argument in (
                    (path, labels, "labels"),
                    (database, database_labels, "database_labels"),
                )
            )
        )
    if _is_npy(path) or labels is not None or database_labels is not None:
        raise UserError(f"{path}: `{database_argument}` is needed for the other side of the search")
    hint = f"; or give codes and labels, and `{database_argument}`"
    if not labeled:
        keys = [f"{side}_codes" for side in QueryAndDatabase._fields]
        arrays = read_npz(path, *keys, hint=hint, max_bytes=memory_bytes)
        return QueryAndDatabase(*(_without_labels(arrays[key], path) for key in keys))
    keys = ("query_codes", "query_labels", "database_codes", "database_labels")
    listed = [f"{name}_indptr" for name in QueryLists._fields]
    arrays = read_npz(path, *keys, optional=listed, hint=hint, max_bytes=memory_bytes)
    if any(key in arrays for key in listed):
        raise UserError(
            f"{path} lists what each query should find: its labels do not say so; "
            f"`ground_truth={path}` reads the lists"
        )
    return QueryAndDatabase(
        *(
            LabeledCodes(
                arrays[f"{side}_codes"],
                read_labels(arrays[f"{side}_labels"], path, f"{side} "),
                path,
                path,
            )
            for side in QueryAndDatabase._fields
        )
    )


def read_lists(path: Path, *, queries: int, items: int) -> QueryLists:
    """Reads what each query of a .npz file of both sides should and must not find, where it holds that.

    Args:
        path: the file.
        queries: number of its queries.
        items: number of items of its database.

    Raises:
        UserError: if the lists do not fit.
    """
    keys = {name: [f"{name}_{field}" for field in ItemLists._fields] for name in QueryLists._fields}
    arrays = read_npz(path, optional=[key for pair in keys.values() for key in pair])
    lists = QueryLists(
        **{
            name: ItemLists(*(arrays[key] for key in pair))
            for name, pair in keys.items()
            if all(key in arrays for key in pair)
        }
    )
    try:
        lists.check(queries=queries, items=items)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    return lists


def read_side(
    path: Path, labels: Path | None, labels_argument: str, memory_bytes: int | None = None
) -> LabeledCodes:
    """Reads the codes and labels of one side.

    Args:
        path: file of the codes; a .npz may hold the labels too.
        labels: file of the labels, if ``path`` holds none.
        labels_argument: name of the argument ``labels`` in error messages.
        memory_bytes: see `read_npz`.

    Raises:
        UserError: if a file is missing, cannot be read, or lacks an array.
    """
    if labels is None:
        if _is_npy(path):
            raise UserError(f"{path} holds no labels: `{labels_argument}` names their file")
        arrays = read_npz(path, "codes", "labels", max_bytes=memory_bytes)
        return LabeledCodes(arrays["codes"], read_labels(arrays["labels"], path), path, path)
    return LabeledCodes(_read_codes(path, memory_bytes), _read_labels(labels), path, labels)


def read_other_codes(
    path: Path,
    database: Path | None,
    codes: QueryAndDatabase,
    *,
    labeled: bool = True,
    memory_bytes: int | None = None,
) -> QueryAndDatabase:
    """Reads other codes of the same queries and items, to compare with.

    Args:
        path: file of both sides, or of the queries. The labels of a .npy are those of ``codes``.
        database: file of the database, if ``path`` does not hold it.
        codes: the codes that they are compared with.
        labeled: whether labels are read.
        memory_bytes: see `read_npz`.

    Raises:
        UserError: if a file cannot be read, or its queries or items have other labels.
    """
    if database is None or not labeled:
        others = read_query_and_database(
            path,
            database,
            database_argument="compare_database",
            labeled=labeled,
            memory_bytes=memory_bytes,
        )
    else:
        others = QueryAndDatabase(
            *(
                LabeledCodes(read_npy(file), same.labels, file, file)
                if _is_npy(file)
                else read_side(file, None, "", memory_bytes)
                for file, same in zip((path, database), codes, strict=True)
            )
        )
    if not np.array_equal(codes.query.labels, others.query.labels):
        raise UserError(f"{path}: its queries have other labels, so none pairs up")
    if not _equal_up_to_order(codes.database.labels, others.database.labels):
        raise UserError(
            f"{others.database.codes_file}: its database has other items, so their mAP does not "
            "compare"
        )
    return others


@contextlib.contextmanager
def errors_name_files(codes: QueryAndDatabase) -> Iterator[None]:
    """Turns ValueError and TypeError into a UserError that begins with the file at fault.

    The attribute ``of`` of the error names the array at fault. Without it, an argument does not fit
    the codes, and the message begins with the file of the queries' codes.
    """
    query, database = codes
    files = {
        "query codes": [query.codes_file],
        "query labels": [query.labels_file],
        "database codes": [database.codes_file],
        "database labels": [database.labels_file],
        "codes": [query.codes_file, database.codes_file],
        "labels": [query.labels_file, database.labels_file],
        "query labels and codes": [query.labels_file, query.codes_file],
        "database labels and codes": [database.labels_file, database.codes_file],
    }
    try:
        yield
    except (ValueError, TypeError) as error:
        at_fault = files[getattr(error, "subject", "query codes")]
        raise UserError(f"{' beside '.join(map(str, dict.fromkeys(at_fault)))}: {error}") from error


def _is_npy(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _read_codes(path: Path, memory_bytes: int | None) -> np.ndarray:
    """Reads the codes of one side."""
    if _is_npy(path):
        return read_npy(path)
    return read_npz(path, "codes", max_bytes=memory_bytes)["codes"]


def _without_labels(codes: np.ndarray, path: Path) -> LabeledCodes:
    return LabeledCodes(codes, np.full(codes.shape[:1], UNLABELLED), path, path)


def _read_labels(path: Path) -> np.ndarray:
    """Reads labels from a .npy or a list file."""
    if path.suffix.lower() == ".npz":
        raise UserError(f"{path}: labels are read from a .npy or a list file")
    return read_labels(read_npy(path), path) if _is_npy(path) else read_list(path).labels


def _equal_up_to_order(labels: np.ndarray, others: np.ndarray) -> bool:
    """Returns whether two sets of labels have the same rows, each as often."""
    if labels.shape != others.shape:
        return False
    counted = (np.unique(rows, axis=0, return_counts=True) for rows in (labels, others))
    return all(map(np.array_equal, *counted))
