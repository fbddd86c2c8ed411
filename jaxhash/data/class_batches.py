"""The order of an epoch whose batches hold P classes with K items each."""

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.ops.arguments import UNLABELLED
from jaxhash.utils.errors import UserError

#: Stands where a class has fewer items than a batch has rows for it.
PADDING = -1


class ClassBatchOrder:
    """The rows of all batches of an epoch, each of P classes with K items of each.

    Classes take turns in a random order that is drawn anew for each round, and each deals its items in
    a random order of its own, from the beginning again once all are dealt. An epoch has as many batches
    as without classes. Where classes are equally large and P divides their number, every item is in it
    once or, in a last batch that would be short, twice; else items of small classes are in it more
    often than those of large ones. A class of fewer than K items leaves rows of padding.

    Args:
        labels: class ids of the training items.
        batch_size: rows of a batch, P times K.
        batch_classes: P.
        seed: seed of both orders.

    Raises:
        UserError: if a batch cannot be made so of these labels.

    Example:
        >>> order = ClassBatchOrder(np.array([0, 0, 1, 1, 2, 2]), batch_size=4, batch_classes=2, seed=0)
        >>> rows = order(epoch=0).reshape(-1, 2, 2)  # two batches, of two classes, of two items
        >>> sorted(rows[0].ravel().tolist())
        [0, 1, 4, 5]
    """

    def __init__(
        self,
        labels: Shaped[np.ndarray, " n *classes"],
        *,
        batch_size: int,
        batch_classes: int,
        seed: int,
    ):
        check_class_batches(labels, batch_size=batch_size, batch_classes=batch_classes)
        _, class_of_item, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        self._items = np.split(np.argsort(class_of_item, kind="stable"), np.cumsum(sizes)[:-1])
        self._batches = -(-len(labels) // batch_size)
        self._classes, self._rows = batch_classes, batch_size // batch_classes
        self._seed, self._last = seed, (-1, np.arange(0))

    def __call__(self, epoch: int, places: slice = slice(None)) -> Int[np.ndarray, " rows"]:
        """Returns the row numbers of an epoch, batch by batch; the latest epoch is cached.

        Args:
            epoch: number of the epoch.
            places: range of places in it; all by default.
        """
        last = self._last  # read once, since another thread may replace it for another epoch
        if last[0] != epoch:
            last = self._last = (epoch, self._draw(np.random.default_rng([self._seed, epoch])))
        return last[1][places]

    def _draw(self, rng: np.random.Generator) -> Int[np.ndarray, " rows"]:
        turns = self._draw_turns(rng)
        rows = np.full((self._batches * self._classes, self._rows), PADDING)
        ends = np.cumsum(np.bincount(turns, minlength=len(self._items)))[:-1]
        turns_of_class = np.split(np.argsort(turns, kind="stable"), ends)
        for items, of_class in zip(self._items, turns_of_class, strict=True):
            each = min(len(items), self._rows)
            rows[of_class, :each] = np.resize(rng.permutation(items), (len(of_class), each))
        return rows.ravel()

    def _draw_turns(self, rng: np.random.Generator) -> Int[np.ndarray, " turns"]:
        """Returns which class has each turn; the classes of a batch differ."""
        turns, queue = [], np.arange(0)
        for _ in range(self._batches):
            if len(queue) < self._classes:
                # Those left from the last round come first, and are no second time in this batch.
                others = rng.permutation(np.setdiff1d(np.arange(len(self._items)), queue))
                room = self._classes - len(queue)
                rest = rng.permutation(np.concatenate([queue, others[room:]]))
                queue = np.concatenate([queue, others[:room], rest])
            turns.append(queue[: self._classes])
            queue = queue[self._classes :]
        return np.concatenate(turns)


def check_class_batches(
    labels: Shaped[np.ndarray, " n *classes"], *, batch_size: int, batch_classes: int
) -> None:
    """Raises a `UserError` unless batches of some classes can be made of items with these labels."""
    given = f"`batch_classes={batch_classes}`"
    if labels.ndim > 1:
        raise UserError(f"{given} needs one class for each item; these data have several labels")
    if batch_classes < 1 or batch_size % batch_classes:
        raise UserError(f"{given} must divide `batch_size={batch_size}`")
    unlabeled = int((labels == UNLABELLED).sum())
    if unlabeled:
        raise UserError(f"{given} needs labels; {unlabeled:,} training items have none")
    classes = len(np.unique(labels))
    if batch_classes > classes:
        raise UserError(f"{given} is above the number of classes of training items, {classes}")
