"""Orders items by the rule that says which one of near duplicates is kept."""

import numpy as np
from jaxtyping import Int, Int64

from jaxhash.retrieval.index import Index
from jaxhash.retrieval.near_duplicates.columns import read_columns
from jaxhash.retrieval.near_duplicates.join import DistinctCodes
from jaxhash.utils.errors import UserError

#: What each rule keeps, by its name.
KEEP_RULES = {
    "first": "the smallest id",
    "last": "the greatest id",
    "largest": "the largest file",
    "smallest": "the smallest file",
    "oldest": "the file that was changed first",
    "newest": "the file that was changed last",
}

#: Column that a rule orders by, and whether its greatest value is kept.
_COLUMNS = {
    "largest": ("size", True),
    "smallest": ("size", False),
    "oldest": ("mtime_ns", False),
    "newest": ("mtime_ns", True),
}


def keep_ranks(index: Index, ids: Int[np.ndarray, " n"], rule: str) -> Int64[np.ndarray, " n"]:
    """Returns ranks of items, all different; of near duplicates the one of the smallest rank is kept.

    Items that a rule finds equal are in order of id. Items that are no files come after those that are.

    Args:
        index: the index.
        ids: ids of its items.
        rule: one of `KEEP_RULES`.

    Raises:
        UserError: if there is no such rule, or if it compares files, and no item is one.
    """
    if rule not in KEEP_RULES:
        raise UserError(f"`keep` must be one of {', '.join(KEEP_RULES)}, got {rule!r}")
    if rule in ("first", "last"):
        return ids if rule == "first" else -ids
    column, is_greatest_kept = _COLUMNS[rule]
    table = read_columns(index, ids, ["size", "mtime_ns"])
    values, times = (table[name].fill_null(0).to_numpy() for name in (column, "mtime_ns"))
    is_file = times > 0  # as `jaxhash.retrieval.item_images.item_file` tells
    if len(ids) and not is_file.any():
        raise UserError(f"`keep={rule}` compares files, and the items of {index.folder} are none")
    order = np.lexsort((ids, -values if is_greatest_kept else values, ~is_file))
    ranks = np.empty(len(ids), np.int64)
    ranks[order] = np.arange(len(ids))
    return ranks


def in_keep_order(distinct: DistinctCodes, ranks: Int64[np.ndarray, " n"]) -> DistinctCodes:
    """Returns distinct codes, and the items of each, in the order in which they are kept.

    So the first item of a code is the one that is kept of its items, and of two codes the first one has
    the item that is kept of all their items.

    Args:
        distinct: the codes.
        ranks: ranks of its ``rows``.

    Example:
        >>> codes = DistinctCodes(np.array([[7], [5]], np.uint8), np.array([0, 2, 3]), np.array([0, 2, 1]))
        >>> found = in_keep_order(codes, np.array([2, 1, 0]))
        >>> found.codes.tolist(), found.starts.tolist(), found.rows.tolist()
        ([[5], [7]], [0, 1, 3], [1, 2, 0])
    """
    sizes = np.diff(distinct.starts)
    if not len(sizes):
        return distinct
    code_ranks = np.minimum.reduceat(ranks, distinct.starts[:-1])
    order = np.argsort(code_ranks)
    rows = distinct.rows[np.lexsort((ranks, np.repeat(code_ranks, sizes)))]
    starts = np.concatenate([[0], np.cumsum(sizes[order])])
    return DistinctCodes(distinct.codes[order], starts, rows)
