"""What each query should find and must not find: from a file of ground truth, and from ids of items."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.readers.arrays import read_npz
from jaxhash.metrics import ItemLists, QueryLists
from jaxhash.retrieval.code_files import LabeledCodes, QueryAndDatabase, read_lists
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import read_json

#: The protocols of revisited Oxford and Paris.
Difficulty = Literal["easy", "medium", "hard"]

#: Which of its lists are relevant in each protocol; the others are no part of the ranking.
_RELEVANT = {"easy": {"easy"}, "medium": {"easy", "hard"}, "hard": {"hard"}}
_REVISITED = {"easy", "hard", "junk"}

_CONTENT = (
    "it must hold a list of items for each query as relevant, and may as excluded; or as easy, hard and "
    "junk"
)


def read_ground_truth(
    path: Path, codes: QueryAndDatabase, *, difficulty: Difficulty = "medium"
) -> tuple[QueryLists, str]:
    """Reads the relevant items of each query, and those that are no part of its ranking.

    A JSON file holds lists of lists by name, ``relevant`` and ``excluded``, or ``easy``, ``hard`` and
    ``junk``. An item is its position in the database, from 0, or a text, its id: the file of the
    database's codes then has the array ``ids`` or ``database_ids``. A .npz file holds the arrays of
    `jaxhash.metrics.ItemLists`, ``relevant_indptr`` and so on, as ``codes.npz`` of a run does.

    Args:
        path: the file.
        codes: codes of the queries and of the database.
        difficulty: which of the lists easy and hard are relevant, for a file that holds these.

    Returns:
        The lists, and words that say at which difficulty, empty for a file without.

    Raises:
        UserError: if the file cannot be read, or its lists do not fit the codes or each other.
    """
    sizes = {"queries": len(codes.query.codes), "items": len(codes.database.codes)}
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    is_npz = path.suffix.lower() == ".npz"
    content = {} if is_npz else read_json(path, _CONTENT)
    is_revisited = set(content) == _REVISITED
    if not is_revisited and difficulty != "medium":
        raise UserError(f"{path}: `difficulty` is of a file that holds easy, hard and junk")
    if is_npz:
        lists = read_lists(path, **sizes)
        if lists.relevant is None:
            raise UserError(f"{path}: no arrays 'relevant_indptr' and 'relevant_items'")
        return lists, ""
    if not (is_revisited or {"relevant"} <= set(content) <= {"relevant", "excluded"}):
        raise UserError(f"{path} holds {', '.join(sorted(content)) or 'nothing'}; {_CONTENT}")
    pairs = {name: _read_pairs(path, name, rows, codes) for name, rows in content.items()}
    if is_revisited:
        relevant = _RELEVANT[difficulty]
        parts = {"relevant": relevant, "excluded": _REVISITED - relevant}
        pairs = {
            name: np.concatenate([pairs[each] for each in sorted(some)])
            for name, some in parts.items()
        }
    lists = QueryLists(
        **{
            name: ItemLists.from_pairs(each, queries=sizes["queries"])
            for name, each in pairs.items()
        }
    )
    _check(lists, codes, str(path))
    return lists, f" at difficulty {difficulty}" if is_revisited else ""


def own_items(codes: QueryAndDatabase) -> ItemLists:
    """Returns the item of the database that each query is, where there is one.

    It is the item of the query's id, by arrays ``ids`` in the files of the codes (``query_ids`` and
    ``database_ids`` in a file of both); or, where one file is both sides, the item in the query's row.

    Raises:
        UserError: if neither is there, or no query is an item of the database.
    """
    query, database = codes
    ids = [_read_ids(side, name) for side, name in zip(codes, codes._fields, strict=True)]
    if all(each is not None for each in ids):
        items = _positions(*ids, database.codes_file)
        rows = np.flatnonzero(items >= 0)
        if not len(rows):
            raise UserError(
                f"{query.codes_file}: no query has the id of an item of the database, so "
                "`leave_one_out` leaves out nothing"
            )
        return ItemLists.from_pairs(np.stack([rows, items[rows]], axis=1), queries=len(items))
    if query.codes_file != database.codes_file or not np.array_equal(query.codes, database.codes):
        raise UserError(
            "`leave_one_out` needs to know which item a query is: arrays ids in the files of both sides "
            "(query_ids and database_ids in a file of both), or one file as both sides"
        )
    rows = np.arange(len(query.codes))
    return ItemLists.from_pairs(np.stack([rows, rows], axis=1), queries=len(rows))


def read_query_lists(
    codes: QueryAndDatabase, ground_truth: Path | None, difficulty: Difficulty, leave_one_out: bool
) -> tuple[QueryLists, list[str]]:
    """Returns what `read_ground_truth` and `own_items` list for each query, and lines that tell it."""
    lists, lines = QueryLists(), []
    if ground_truth is not None:
        lists, at_difficulty = read_ground_truth(ground_truth, codes, difficulty=difficulty)
        lines = [f"{ground_truth}: {len(lists.relevant.items):,} relevant items{at_difficulty}"]
    if leave_one_out:
        own = own_items(codes)
        _check_own_items(lists, own, ground_truth)
        listed = [each for each in (lists.excluded, own) if each is not None]
        pairs = [np.stack([each.query_of_pair, each.items], axis=1) for each in listed]
        excluded = ItemLists.from_pairs(np.concatenate(pairs), queries=len(codes.query.codes))
        lists = lists._replace(excluded=excluded)
        _check(lists, codes, str(ground_truth))
    if lists.excluded is not None:
        sizes = lists.excluded.sizes
        lines.append(
            f"left out of rankings: {sizes.sum():,} items, by {np.count_nonzero(sizes):,} of the "
            f"{len(sizes):,} queries"
        )
    return lists, lines


def _check_own_items(lists: QueryLists, own: ItemLists, ground_truth: Path | None) -> None:
    """Raises `UserError` if the item that a query is stands among its relevant ones."""
    if lists.relevant is None:
        return
    pairs = (set(zip(*each, strict=True)) for each in map(_as_lists, (lists.relevant, own)))
    if shared := set.intersection(*pairs):
        query, item = min(shared)
        raise UserError(
            f"{ground_truth}: the list of query {query} holds item {item}, which that query is and "
            f"`leave_one_out` leaves out; {len(shared):,} queries do so: take the items out of the lists"
        )


def _as_lists(lists: ItemLists) -> tuple[list[int], list[int]]:
    return lists.query_of_pair.tolist(), lists.items.tolist()


def _check(lists: QueryLists, codes: QueryAndDatabase, source: str) -> None:
    """Raises `UserError` unless the lists fit the codes and each other."""
    try:
        lists.check(queries=len(codes.query.codes), items=len(codes.database.codes))
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error


def _read_pairs(
    path: Path, name: str, rows: Any, codes: QueryAndDatabase
) -> Int[np.ndarray, "pairs 2"]:
    """Returns the pairs of a query and an item of lists out of JSON."""
    queries = len(codes.query.codes)
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise UserError(f"{path}: {name} must be a list of lists; {_CONTENT}")
    if len(rows) != queries:
        raise UserError(
            f"{path}: {name} has {len(rows):,} lists, and there are {queries:,} queries"
        )
    listed = [item for row in rows for item in row]
    if all(type(item) is str for item in listed) and listed:
        items = _listed_positions(path, name, listed, codes.database)
    elif all(type(item) is int and abs(item) < 2**62 for item in listed):
        items = np.array(listed, np.int64)
    else:
        raise UserError(f"{path}: {name} must hold positions (integers), or ids (texts) throughout")
    query = np.repeat(np.arange(queries), [len(row) for row in rows])
    return np.stack([query, items], axis=1)


def _listed_positions(
    path: Path, name: str, listed: list[str], database: LabeledCodes
) -> Int[np.ndarray, " pairs"]:
    """Returns the positions of the items with these ids."""
    ids = _read_ids(database, "database")
    if ids is None:
        raise UserError(
            f"{path}: {name} holds ids, and {database.codes_file} has no array ids or database_ids"
        )
    items = _positions(np.array(listed), ids, database.codes_file)
    if (items < 0).any():
        missing = listed[int(np.argmin(items))]
        raise UserError(f"{path}: {name} holds {missing!r}, no id in {database.codes_file}")
    return items


def _read_ids(side: LabeledCodes, name: str) -> Shaped[np.ndarray, " n"] | None:
    """Returns the ids of a side, None where its file holds none."""
    if side.codes_file.suffix.lower() != ".npz":
        return None
    arrays = read_npz(side.codes_file, optional=["ids", f"{name}_ids"])
    if not arrays:
        return None
    ids = arrays.get(f"{name}_ids", arrays.get("ids"))
    if ids.shape != (len(side.codes),) or ids.dtype.kind not in "iuU":
        raise UserError(
            f"{side.codes_file}: ids must be integers or texts, one for each of the "
            f"{len(side.codes):,} {name} codes, got {ids.dtype} of shape {ids.shape}"
        )
    return ids


def _positions(
    wanted: Shaped[np.ndarray, " n"], ids: Shaped[np.ndarray, " items"], file: Path
) -> Int[np.ndarray, " n"]:
    """Returns the position of each wanted id, -1 for none."""
    if (wanted.dtype.kind == "U") != (ids.dtype.kind == "U"):
        raise UserError(f"{file}: ids are {ids.dtype}, and those to look up {wanted.dtype}")
    order = np.argsort(ids, kind="stable")
    in_order = ids[order]
    if (repeated := in_order[1:][in_order[1:] == in_order[:-1]]).size:
        raise UserError(f"{file}: ids must not repeat, and {repeated[0]!s} does")
    place = np.minimum(np.searchsorted(in_order, wanted), len(ids) - 1)
    return np.where(in_order[place] == wanted, order[place], -1)
