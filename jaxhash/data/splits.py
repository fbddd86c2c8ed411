"""Splits: which items are for training, which are queries, which are the database."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int

from jaxhash.utils.errors import UserError

#: The parts of a split, in the order in which they are used.
SPLIT_PARTS = ("train", "validation", "query", "database")

#: Pairs of parts that must not share an item. Training items may be in the database, and
#: validation items, which come from the training items, with them.
APART = (
    ("query", "train"),
    ("query", "validation"),
    ("query", "database"),
    ("validation", "train"),
)


#: Of many items the first are named.
_MOST_NAMED = 3


class FewItems(UserError):
    """A class has too few items for a split.

    Args:
        label: the class's id.
        said: what is wrong with it, after its name.
        before: what stands before it.
    """

    def __init__(self, label: int | np.integer, said: str, before: str = ""):
        super().__init__(f"{before}class {label} {said}")
        self.label, self.said, self.before = int(label), said, before

    def named(self, class_names: Sequence[str]) -> UserError:
        """The same with the class's name, where it has one.

        Example:
            >>> str(FewItems(1, "has 2 items").named(["cat", "dog"]))
            'class dog (1) has 2 items'
        """
        if self.label >= len(class_names) or class_names[self.label] == str(self.label):
            return self
        name = f"{class_names[self.label]} ({self.label})"
        return UserError(f"{self.before}class {name} {self.said}")


@dataclasses.dataclass(frozen=True)
class Split:
    """Sets of items; `leaks` says what is wrong with them.

    Attributes:
        name: protocol and seed.
        train: items that the model learns from.
        query: items that are searched with.
        database: items that are searched; the training items may be among them.
        validation: items that choose the model; none by default.
    """

    name: str
    train: Int[np.ndarray, " train"]
    query: Int[np.ndarray, " query"]
    database: Int[np.ndarray, " database"]
    validation: Int[np.ndarray, " validation"] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.int64)
    )

    @property
    def parts(self) -> dict[str, Int[np.ndarray, " items"]]:
        """The parts that are not empty, by name."""
        named = ((name, getattr(self, name)) for name in SPLIT_PARTS)
        return {name: items for name, items in named if len(items)}

    @property
    def sha256(self) -> str:
        """Digest of the sets, in order; equal digests mean the same split."""
        digest = hashlib.sha256()
        sets = [self.train, self.query, self.database]
        if len(self.validation):  # without it the digest is that of the time before there was one
            sets.append(self.validation)
        for items in sets:
            digest.update(len(items).to_bytes(8, "little"))
            digest.update(items.astype("<i8").tobytes())
        return digest.hexdigest()

    def overlaps(self) -> dict[str, dict[str, int]]:
        """How many items each two parts share; of a part with itself, its distinct items.

        Returns:
            A symmetric matrix over the parts that are not empty.

        Example:
            >>> split = Split("small", np.array([0, 1]), np.array([2]), np.array([1, 2]))
            >>> split.overlaps()["query"]
            {'train': 0, 'query': 1, 'database': 1}
        """
        distinct = {name: np.unique(items) for name, items in self.parts.items()}
        return {
            row: {
                column: len(np.intersect1d(distinct[row], distinct[column], assume_unique=True))
                for column in distinct
            }
            for row in distinct
        }

    def repeated(self) -> dict[str, int]:
        """How many items each part that is not empty holds more than once."""
        return {
            name: int((np.unique(items, return_counts=True)[1] > 1).sum())
            for name, items in self.parts.items()
        }

    @property
    def leaks(self) -> list[str]:
        """What makes the numbers of this split wrong, a sentence each; empty where it is clean.

        These are a query among the training, validation or database items, a validation item among
        the training items, and an item that a part holds more than once.
        """
        return [sentence for sentence, _ in self._leaks()]

    def named_leaks(self, name_of: Callable[[np.integer], str]) -> list[str]:
        """The same, each with what the first few of its items are called.

        Example:
            >>> split = Split("small", np.array([0, 1]), np.array([1]), np.array([2]))
            >>> split.named_leaks("cat/{}.png".format)
            ['query and train share 1 item (cat/1.png)']
        """
        return [f"{sentence} ({_few(items, name_of)})" for sentence, items in self._leaks()]

    def _leaks(self) -> Iterator[tuple[str, Int[np.ndarray, " items"]]]:
        parts = self.parts
        for first, second in APART:
            if first in parts and second in parts:
                shared = np.intersect1d(parts[first], parts[second])
                if len(shared):
                    yield f"{first} and {second} share {_items(len(shared))}", shared
        for name, items in parts.items():
            distinct, counts = np.unique(items, return_counts=True)
            if (counts > 1).any():
                again = distinct[counts > 1]
                yield f"{name} holds {_items(len(again))} more than once", again


def refuse_leaks(split: Split, leaks: Sequence[str] | None = None, *, allow: bool = False) -> None:
    """Raise where a split leaks, unless that is allowed.

    Args:
        split: the split.
        leaks: what is wrong with it; `Split.leaks` if not given.
        allow: whether to let it be.

    Raises:
        UserError: with the sentences of the leaks.

    Example:
        >>> refuse_leaks(per_class(np.repeat([0, 1], 5), queries=1, train=2))
    """
    leaks = split.leaks if leaks is None else leaks
    if leaks and not allow:
        raise UserError(
            f"split {split.name} leaks: {'; '.join(leaks)}; --allow-leak takes it as it is"
        )


def with_validation(
    split: Split, labels: Int[np.ndarray, " items *classes"], *, fraction: float = 0.1, seed: int
) -> Split:
    """Move a part of the training items into ``validation``.

    Of n training items it takes fraction * n, rounded; of each class its share, up or down to a
    whole number. Items of several classes are drawn without regard to their classes.

    Args:
        split: a split without validation items.
        labels: class ids, or multi-hot rows, of all items.
        fraction: share of the training items, between 0 and 1.
        seed: seed of the draw.

    Raises:
        UserError: if no training item or no validation item would be left, or the split has
            validation items already.

    Example:
        >>> split = per_class(np.repeat([0, 1], 30), queries=5, train=20)
        >>> held_out = with_validation(split, np.repeat([0, 1], 30), fraction=0.1, seed=0)
        >>> len(held_out.train), len(held_out.validation), held_out.name
        (36, 4, 'per-class-5-20-rest-seed0-validation0.1-seed0')
    """
    if len(split.validation):
        raise UserError(
            f"split {split.name} has {len(split.validation):,} validation items already; leave "
            "--validation at 0"
        )
    count = len(split.train)
    taken = round(fraction * count)
    if not 0 < taken < count:
        raise UserError(
            f"--validation {fraction:g} takes {taken} of {_items(count, 'training item')}: it must "
            "take one and leave one"
        )
    # A stream of its own: the seed itself has drawn the split.
    order = np.random.default_rng([seed, 1]).permutation(count)
    if labels.ndim == 1:
        order = order[_classes_together(labels[split.train[order]])]
    # Evenly spaced places of this order: of each class its share.
    places = (np.arange(taken) * 2 + 1) * count // (2 * taken)
    chosen = np.zeros(count, bool)
    chosen[order[places]] = True
    return dataclasses.replace(
        split,
        name=f"{split.name}-validation{fraction:g}-seed{seed}",
        train=split.train[~chosen],
        validation=split.train[chosen],
    )


def _classes_together(labels: Int[np.ndarray, " items"]) -> Int[np.ndarray, " items"]:
    """An order of the items in which classes stand together, by their first item."""
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(first[label], kind="stable")


def _items(count: int, what: str = "item") -> str:
    """A number of items in words."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _few(items: Int[np.ndarray, " items"], name_of: Callable[[np.integer], str]) -> str:
    """What the first few of some items are called."""
    more = len(items) - _MOST_NAMED
    return ", ".join(map(name_of, items[:_MOST_NAMED])) + (
        f" and {more:,} more" if more > 0 else ""
    )
