"""Reads interactions of users and items, and makes the inputs of a graph encoder from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Float, Int, Int32, Shaped, UInt64

from jaxhash.data.random_bits import random_shares
from jaxhash.data.readers.arrays import read_npz
from jaxhash.data.rows import Index, row_numbers
from jaxhash.data.sources import Source
from jaxhash.metrics import ItemLists
from jaxhash.similarity import UNLABELLED
from jaxhash.utils.errors import UserError

#: Neighbors of a node that its input holds.
NEIGHBORS = 10

#: Marks an empty place of an input.
NO_NODE = -1

#: Largest number of ids for each interaction: more are gaps, or ids that do not count from 0.
_MAX_IDS = 100


class InteractionRows:
    """Nodes of the graph of users and items, and the interactions that are its edges.

    The rows are the users, then the items, then the training interactions. A row is int32
    [1 + `NEIGHBORS`]: the node, numbered like the rows, and some of its neighbors by training
    interactions, all of them where it has no more, with -1 in empty places. They are the same at each
    access, spread evenly over the sorted neighbors by numbers drawn from the node's own. The row of an
    interaction holds its user, and its item in the last place; a training takes its `views`.

    Args:
        pairs: user and item of each training interaction, from 0, without repetition.
        users: number of users.
        items: number of items.

    Example:
        >>> rows = InteractionRows(np.array([[0, 1], [1, 0], [1, 1]]), users=2, items=2)
        >>> rows[np.array([1, 3])][:, :4]  # a user and an item
        array([[ 1,  2,  3, -1],
               [ 3,  0,  1, -1]], dtype=int32)
    """

    def __init__(self, pairs: Int[np.ndarray, "pairs 2"], users: int, items: int):
        self.users, self.items = users, items
        self.pairs = pairs
        self.chosen = ItemLists.from_pairs(pairs, queries=users)
        """The items that each user has chosen in training."""
        choosers = ItemLists.from_pairs(pairs[:, ::-1], queries=items)
        nodes = self.chosen.items + users, choosers.items
        self._neighbors = np.concatenate(nodes).astype(np.int32)
        self._indptr = np.concatenate([self.chosen.indptr, choosers.indptr[1:] + len(pairs)])
        self._free_ranks = self._rank_free_items()

    def __len__(self) -> int:
        return self.users + self.items + len(self.pairs)

    def __getitem__(self, rows: Index) -> Int32[np.ndarray, "..."]:
        rows = row_numbers(rows, len(self))
        if rows.ndim == 0:
            return self[rows[None]][0]
        nodes = self.users + self.items
        inputs = np.full((len(rows), 1 + NEIGHBORS), NO_NODE, np.int32)
        is_node = rows < nodes
        of_node = rows[is_node]
        inputs[is_node] = self._with_neighbors(of_node, random_shares(of_node.astype(np.uint64), 1))
        inputs[~is_node, ::NEIGHBORS] = self.pairs[rows[~is_node] - nodes] + [0, self.users]
        return inputs

    @property
    def nodes(self) -> dict[str, int]:
        """Numbers of users and items, as `jaxhash.models.GraphEncoder` takes them."""
        return {"users": self.users, "items": self.items}

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of entries of each."""
        return len(self), 1 + NEIGHBORS

    def views(
        self, items: Int[np.ndarray, " n"], seeds: UInt64[np.ndarray, " n"], views: int
    ) -> tuple[Int32[np.ndarray, "n _"], ...]:
        """Returns the inputs of the user and the item of training interactions, and of other items.

        The other items are drawn uniformly from those that the user has not chosen in training, and
        the neighbors of each node anew. User and item may be neighbors of each other, as published.

        Args:
            items: rows of the interactions.
            seeds: a seed for each, which what is drawn for it depends on.
            views: number of inputs, 2 or more.
        """
        user, item = self.pairs[items - self.users - self.items].T
        others = views - 2
        shares = random_shares(seeds, others + views)
        free = self.draw_free_items(user, shares[:, :others])
        nodes = [user, *(column + self.users for column in (item, *free.T))]
        parts = shares[:, others:, None].swapaxes(0, 1)
        return tuple(
            self._with_neighbors(node, part) for node, part in zip(nodes, parts, strict=True)
        )

    def draw_free_items(
        self, users: Int[np.ndarray, " n"], shares: Float[np.ndarray, "n m"]
    ) -> Int[np.ndarray, "n m"]:
        """Returns items that users have not chosen in training, from uniform numbers in [0, 1).

        The number is a rank among the user's free items, found by bisection: nothing is drawn twice.
        """
        chosen = self.chosen.sizes[users][:, None]
        rank = (shares * (self.items - chosen)).astype(np.int64)
        keys = users[:, None] * (self.items + 1) + rank
        before = np.searchsorted(self._free_ranks, keys, side="right")
        return rank + before - self.chosen.indptr[users][:, None]

    def _rank_free_items(self) -> Int[np.ndarray, " pairs"]:
        """Returns, for each user and each chosen item, how many free items are before it, as one key."""
        rows = self.chosen.query_of_pair
        rank = self.chosen.items - (np.arange(len(rows)) - self.chosen.indptr[rows])
        return rows * (self.items + 1) + rank

    def _with_neighbors(
        self, nodes: Int[np.ndarray, " n"], shares: Float[np.ndarray, "n 1"]
    ) -> Int32[np.ndarray, "n _"]:
        """Returns the nodes, each before some of its neighbors.

        A uniform number sets off equal steps through the sorted neighbors (systematic sampling), so
        each is as likely as another, and none is there twice.
        """
        start, degree = self._indptr[nodes][:, None], np.diff(self._indptr)[nodes][:, None]
        place = np.arange(NEIGHBORS)
        spread = ((place + shares) * (degree / NEIGHBORS)).astype(np.int64)
        chosen = start + np.where(degree > NEIGHBORS, np.minimum(spread, degree - 1), place)
        is_there = place < degree
        found = self._neighbors[np.where(is_there, chosen, 0)]
        rows = np.concatenate([nodes[:, None], np.where(is_there, found, NO_NODE)], axis=1)
        return rows.astype(np.int32)


class _Names(Sequence[str]):
    """The names of users, items and interactions, made on access."""

    def __init__(self, rows: InteractionRows, pairs: Int[np.ndarray, "pairs 2"]):
        self._rows, self.pairs = rows, pairs

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        users, nodes = self._rows.users, self._rows.users + self._rows.items
        if index < users:
            return f"user {index}"
        if index < nodes:
            return f"item {index - users}"
        user, item = self.pairs[index - nodes]
        return f"user {user}, item {item}"


def read_interactions(name: str, path: Path) -> Source:
    """Reads the interactions of a .npz file with ``train`` and ``test``, pairs of a user and an item.

    Both are counted from 0. The source's rows are those of `InteractionRows`. Users with a test
    interaction are the queries, all items the database, training interactions the training items. A
    query should find its test items, and must not find its training items. The label of an item is its
    own number; users have none.

    Args:
        name: name of the source.
        path: the file.

    Raises:
        UserError: if the file cannot be read, or an array holds no such pairs.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file of interactions; `data_dir` names its folder"
        )
    arrays = read_npz(path, "train", "test")
    notes = []
    train, test = (_read_pairs(arrays[part], part, path, notes) for part in ("train", "test"))
    users, items = (int(n) + 1 for n in np.maximum(train.max(axis=0), test.max(axis=0)))
    for what, count in (("users", users), ("items", items)):
        if count > _MAX_IDS * (len(train) + len(test)):
            raise UserError(
                f"{path}: {what} are numbered to {count - 1:,} in {len(train) + len(test):,} "
                "interactions; number them from 0, without large gaps"
            )
    both = _keys(test, items)[np.isin(_keys(test, items), _keys(train, items))]
    if len(both):
        user, item = divmod(int(both[0]), items)
        raise UserError(
            f"{path}: {len(both):,} test interactions are training interactions too, the first of user "
            f"{user} and item {item}"
        )
    rows = InteractionRows(train, users, items)
    if (full := rows.chosen.sizes.max()) >= items:
        raise UserError(
            f"{path}: a user has chosen all {full:,} items in training: nothing is left to rank"
        )
    query = np.unique(test[:, 0])
    notes.append(
        f"{users:,} users and {items:,} items; the {len(query):,} users with test interactions are the "
        "queries, and do not find their training items"
    )
    unseen = len(query) - np.isin(query, train[:, 0]).sum()
    new = items - len(np.unique(train[:, 1]))
    if unseen or new:
        notes.append(f"without a training interaction: {unseen:,} queries, {new:,} items")
    relevant = ItemLists.from_pairs(test, queries=users)
    part_ids = np.concatenate([np.full(users, -1), np.ones(items), np.zeros(len(train))])
    part_ids[query] = 2
    return Source(
        name,
        rows,
        np.concatenate([np.full(users, UNLABELLED), np.arange(items), train[:, 1]]),
        tuple(map(str, range(items))),
        part_ids.astype(np.int8),
        parts=("train", "database", "query"),
        item_names=_Names(rows, train),
        notes=tuple(notes),
        relevant=relevant.take(query),
        excluded=rows.chosen.take(query),
    )


def _keys(pairs: Int[np.ndarray, "pairs 2"], items: int) -> Int[np.ndarray, " pairs"]:
    return pairs[:, 0] * items + pairs[:, 1]


def _read_pairs(
    pairs: Shaped[np.ndarray, "..."], part: str, path: Path, notes: list[str]
) -> Int[np.ndarray, "pairs 2"]:
    """Returns the distinct pairs of a part, sorted, and notes how many were repeated."""
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu" or not len(pairs):
        raise UserError(
            f"{path}: expected {part} [interactions, 2] of integers, a user and an item, got shape "
            f"{pairs.shape} of {pairs.dtype}"
        )
    if pairs.min() < 0 or pairs.max() >= 2**30:
        raise UserError(
            f"{path}: {part} must be numbers from 0 to {2**30 - 1:,}, got {pairs.min()} to {pairs.max()}"
        )
    distinct = np.unique(pairs.astype(np.int64), axis=0)
    if repeated := len(pairs) - len(distinct):
        notes.append(f"repeated {part} interactions, taken once: {repeated:,}")
    return distinct
