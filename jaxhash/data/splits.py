"""The type `Split`: which items are for training, which are queries, which are the database."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int

from jaxhash.data.rows import row_blocks
from jaxhash.metrics import ItemLists, QueryLists
from jaxhash.utils.errors import UserError

#: The parts of a split, in the order in which they are used.
SPLIT_PARTS = ("train", "validation", "query", "database")

#: Pairs of parts that must not share an item. Training items may be in the database, and so may
#: validation items, which are drawn from them.
DISJOINT_PARTS = (
    ("query", "train"),
    ("query", "validation"),
    ("query", "database"),
    ("validation", "train"),
)

#: Number of items that a message lists.
_MAX_LISTED = 3


class TooFewItemsError(UserError):
    """A class, or the whole data set, has too few items for a split.

    Args:
        label: id of the class; None for the whole data set.
        problem: the message, after the name of the class.
        advice: end of the message.
        prefix: start of the message.
    """

    def __init__(self, label: int | None, problem: str, advice: str = "", prefix: str = ""):
        subject = "" if label is None else f"class {label} "
        super().__init__(f"{prefix}{subject}{problem}{advice}")
        self.label, self.problem, self.advice, self.prefix = label, problem, advice, prefix

    def of_protocol(self, protocol: str) -> "TooFewItemsError":
        """Returns the error without its advice, and with the name of the protocol at its start."""
        return TooFewItemsError(self.label, self.problem, prefix=f"`protocol={protocol}`: ")

    def with_class_name(self, class_names: Sequence[str]) -> UserError:
        """Returns the error with the name of the class, if it has one.

        Example:
            >>> str(TooFewItemsError(1, "has 2 items").with_class_name(["cat", "dog"]))
            'class dog (1) has 2 items'
        """
        label = self.label
        if label is None or label >= len(class_names) or class_names[label] == str(label):
            return self
        name = f"{class_names[label]} ({label})"
        return UserError(f"{self.prefix}class {name} {self.problem}{self.advice}")


@dataclasses.dataclass(frozen=True)
class Split:
    """The item numbers of each part; `leaks` lists what is wrong with them.

    Attributes:
        name: protocol and seed.
        train: items that the model is trained on.
        query: items that are searched with.
        database: items that are searched; the training items may be among them.
        validation: items that select the model; none by default.
        labeled: training items whose labels the training sees, sorted; None for all of them.
        relevant: what each query should find, positions in ``database``; None where labels say so.
        excluded: what each query must not find, positions in ``database``, such as what its training
            has shown already; every ranking leaves them out. None for nothing.
    """

    name: str
    train: Int[np.ndarray, " train"]
    query: Int[np.ndarray, " query"]
    database: Int[np.ndarray, " database"]
    validation: Int[np.ndarray, " validation"] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.int64)
    )
    labeled: Int[np.ndarray, " labeled"] | None = None

    def training_labels(
        self, labels: Int[np.ndarray, " items *classes"]
    ) -> Int[np.ndarray, " items *classes"]:
        """Returns the labels as the training sees them, without those that it must not know.

        Args:
            labels: class ids or multi-hot rows of all items. A hidden id becomes -1, and a hidden row
                one of zeros; both mean "no label".

        Example:
            >>> split = Split("small", np.array([0, 1]), np.array([2]), np.array([1, 3]))
            >>> split = dataclasses.replace(split, labeled=np.array([1]))
            >>> split.training_labels(np.array([5, 6, 7, 8])).tolist()
            [-1, 6, 7, 8]
        """
        if self.labeled is None:
            return labels
        hidden = np.setdiff1d(self.train, self.labeled)
        labels = labels.copy()
        labels[hidden] = -1 if labels.ndim == 1 else 0
        return labels

    relevant: ItemLists | None = None
    excluded: ItemLists | None = None

    @property
    def parts(self) -> dict[str, Int[np.ndarray, " items"]]:
        """The parts that are not empty, by name."""
        named = ((name, getattr(self, name)) for name in SPLIT_PARTS)
        return {name: items for name, items in named if len(items)}

    @functools.cached_property
    def sha256(self) -> str:
        """Digest of the parts and lists, in order; equal digests mean the same split."""
        digest = hashlib.sha256()
        parts = [self.train, self.query, self.database]
        if len(self.validation):  # keeps the digests of splits made before validation parts existed
            parts.append(self.validation)
        if self.labeled is not None:
            digest.update(b"labeled")  # as its items could be those of a validation part
            parts.append(self.labeled)
        for items in parts:
            digest.update(len(items).to_bytes(8, "little"))
            for rows in row_blocks(len(items), 8):
                digest.update(items[rows].astype("<i8"))
        for name, lists in self.lists.given.items():
            digest.update(name.encode())
            for part in lists:
                digest.update(part.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def lists(self) -> QueryLists:
        """What is listed for the queries."""
        return QueryLists(self.relevant, self.excluded)

    def overlaps(self) -> dict[str, dict[str, int]]:
        """Counts the items that each two parts share, and the distinct items of each part.

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
        """Counts the items that each part holds more than once, for parts that are not empty."""
        return {
            name: int((np.unique(items, return_counts=True)[1] > 1).sum())
            for name, items in self.parts.items()
        }

    @property
    def leaks(self) -> list[str]:
        """Sentences on what makes results with this split invalid; empty if nothing does.

        Leaks are a query among the training, validation or database items, a validation item among the
        training items, and an item that a part holds more than once.
        """
        return [sentence for sentence, _ in self._leaks]

    def named_leaks(self, name_of: Callable[[np.integer], str]) -> list[str]:
        """Returns `leaks`, each with the names of its first few items.

        Example:
            >>> split = Split("small", np.array([0, 1]), np.array([1]), np.array([2]))
            >>> split.named_leaks("cat/{}.png".format)
            ['query and train share 1 item (cat/1.png)']
        """
        return [f"{sentence} ({_first_names(items, name_of)})" for sentence, items in self._leaks]

    @functools.cached_property
    def _leaks(self) -> list[tuple[str, Int[np.ndarray, " items"]]]:
        """Each leak as a sentence, with its items."""
        return list(self._find_leaks())

    def _find_leaks(self) -> Iterator[tuple[str, Int[np.ndarray, " items"]]]:
        parts = self.parts
        for first, second in DISJOINT_PARTS:
            if first in parts and second in parts:
                shared = _shared_items(parts[first], parts[second])
                if len(shared):
                    yield f"{first} and {second} share {_count_items(len(shared))}", shared
        for name, items in parts.items():
            if _is_increasing(items):
                continue
            distinct, counts = np.unique(items, return_counts=True)
            if (counts > 1).any():
                repeated = distinct[counts > 1]
                yield f"{name} holds {_count_items(len(repeated))} more than once", repeated


def check_leaks(split: Split, leaks: Sequence[str] | None = None, *, allow: bool = False) -> None:
    """Raises if a split leaks, unless that is allowed.

    Args:
        split: the split.
        leaks: sentences on its leaks; `Split.leaks` by default.
        allow: whether leaks are allowed.

    Raises:
        UserError: with the sentences.

    Example:
        >>> check_leaks(Split("small", np.array([0]), np.array([1]), np.array([0, 2])))
    """
    leaks = split.leaks if leaks is None else leaks
    if leaks and not allow:
        raise UserError(
            f"split {split.name} leaks: {'; '.join(leaks)}; `allow_leak` takes it as it is"
        )


def with_validation(
    split: Split, labels: Int[np.ndarray, " items *classes"], *, fraction: float = 0.1, seed: int
) -> Split:
    """Moves some of the training items into ``validation``.

    It takes fraction * n of n training items, rounded, and the same share of each class, rounded up or
    down. Items of several classes are drawn regardless of their classes.

    Args:
        split: a split without validation items.
        labels: class ids, or multi-hot rows, of all items.
        fraction: share of the training items, between 0 and 1.
        seed: seed of the draw.

    Raises:
        UserError: if no training item or no validation item would be left, or the split has
            validation items already.

    Example:
        >>> split = Split("small", np.arange(40), np.arange(40, 50), np.arange(50, 60))
        >>> held_out = with_validation(split, np.arange(60) % 2, fraction=0.1, seed=0)
        >>> len(held_out.train), len(held_out.validation), held_out.name
        (36, 4, 'small-validation0.1-seed0')
    """
    if len(split.validation):
        raise UserError(
            f"split {split.name} has {len(split.validation):,} validation items already; leave "
            "`validation` at 0"
        )
    count = len(split.train)
    taken = round(fraction * count)
    if not 0 < taken < count:
        raise UserError(
            f"`validation={fraction:g}` takes {taken} of {_count_items(count, 'training item')}: it must "
            "take one and leave one"
        )
    # A second random stream, since the seed alone has drawn the split.
    order = np.random.default_rng([seed, 1]).permutation(count)
    if labels.ndim == 1:
        order = order[_group_classes(labels[split.train[order]])]
    # Evenly spaced positions in this order take the same share of each class.
    positions = (np.arange(taken) * 2 + 1) * count // (2 * taken)
    chosen = np.zeros(count, bool)
    chosen[order[positions]] = True
    return dataclasses.replace(
        split,
        name=f"{split.name}-validation{fraction:g}-seed{seed}",
        train=split.train[~chosen],
        validation=split.train[chosen],
    )


def _group_classes(labels: Int[np.ndarray, " items"]) -> Int[np.ndarray, " items"]:
    """Returns an order of the items that groups the classes, sorted by their first item."""
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(first[label], kind="stable")


def _is_increasing(items: Int[np.ndarray, " n"]) -> bool:
    """Returns whether each item is above the one before it."""
    return bool((items[1:] > items[:-1]).all())


def _shared_items(
    items: Int[np.ndarray, " n"], others: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " shared"]:
    """Returns the items that two parts share, sorted; fast if both are sorted and one is small."""
    few, many = sorted((items, others), key=len)
    if not (_is_increasing(few) and _is_increasing(many)):
        return np.intersect1d(items, others)
    places = np.searchsorted(many, few)
    return few[many[np.minimum(places, len(many) - 1)] == few]


def _count_items(count: int, what: str = "item") -> str:
    """Formats a number of items, such as ``1 item``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _first_names(items: Int[np.ndarray, " items"], name_of: Callable[[np.integer], str]) -> str:
    """Lists the names of the first few items."""
    more = len(items) - _MAX_LISTED
    return ", ".join(map(name_of, items[:_MAX_LISTED])) + (
        f" and {more:,} more" if more > 0 else ""
    )
