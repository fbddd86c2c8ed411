"""Split protocols: which items are for training, which are queries, which are the database."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Int

from jaxhash.errors import UserError


@dataclasses.dataclass(frozen=True)
class Split:
    """Three disjoint sets of items.

    Attributes:
        name: protocol and seed.
        train: items that the model learns from.
        query: items that are searched with.
        database: items that are searched.
    """

    name: str
    train: Int[np.ndarray, " train"]
    query: Int[np.ndarray, " query"]
    database: Int[np.ndarray, " database"]

    def __post_init__(self):
        for first, second in (("train", "query"), ("train", "database"), ("query", "database")):
            shared = np.intersect1d(getattr(self, first), getattr(self, second))
            if len(shared):
                raise ValueError(
                    f"split {self.name}: {first} and {second} share {len(shared)} items"
                )

    @property
    def sha256(self) -> str:
        """Digest of the three sets, in order; equal digests mean the same split."""
        digest = hashlib.sha256()
        for items in (self.train, self.query, self.database):
            digest.update(len(items).to_bytes(8, "little"))
            digest.update(items.astype("<i8").tobytes())
        return digest.hexdigest()


def per_class(
    labels: Int[np.ndarray, " items"], *, queries: int, train: int, seed: int = 0
) -> Split:
    """A fixed number of queries and training items of each class; the rest is the database.

    Each class is permuted by the seed: its first ``queries`` items are queries, the next ``train``
    are for training. 100 and 500 on the pooled 60,000 images is the usual CIFAR-10 protocol.

    Args:
        labels: class ids.
        queries: queries of each class.
        train: training items of each class.
        seed: seed of the permutations.

    Raises:
        UserError: if a class has too few items to leave one for the database.

    Example:
        >>> split = per_class(np.repeat([0, 1], 5), queries=1, train=2)
        >>> [len(items) for items in (split.train, split.query, split.database)]
        [4, 2, 4]
    """
    classes, sizes = np.unique(labels, return_counts=True)
    label, size = classes[sizes.argmin()], sizes.min()
    if size <= queries + train:
        raise UserError(
            f"class {label} has {size} items, too few for {queries} queries, {train} training items "
            "and a database; lower --queries-per-class or --train-per-class"
        )
    rng = np.random.default_rng(seed)
    parts = {"query": [], "train": [], "database": []}
    for label in classes:
        items = rng.permutation(np.flatnonzero(labels == label))
        for name, chosen in zip(parts, np.split(items, [queries, queries + train]), strict=True):
            parts[name].append(chosen)
    return Split(
        name=f"per-class-{queries}-{train}-rest-seed{seed}",
        **{name: np.sort(np.concatenate(chosen)) for name, chosen in parts.items()},
    )
