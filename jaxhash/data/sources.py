"""The type `Source`: labeled images or feature vectors that are read by index."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.rows import Rows
from jaxhash.metrics import ItemLists
from jaxhash.utils.errors import printable

#: Largest size in bytes, decoded, of a set of images that is held in memory.
MEMORY_LIMIT = 2**30

#: The parts that a data set may come in.
SOURCE_PARTS = ("train", "validation", "test", "query", "database")


@dataclasses.dataclass(frozen=True)
class Source:
    """Inputs and their labels.

    Attributes:
        name: name of the data set, such as ``folder:DIR``.
        inputs: uint8 images [height, width, channels], or float32 vectors, by index; as the data set
            holds them, before any preprocessing by a model. Items of several parts, such as two
            modalities, are `jaxhash.data.rows.TreeRows`.
        labels: class ids from 0 (-1: no label), or multi-hot rows of 0 and 1.
        class_names: one name per class.
        part_ids: per item, the index in ``parts`` of the part that it comes in; None if unknown.
        coarse_labels: per item, the id of a group of classes; None if there are no groups.
        left_out: per unreadable file, which is no item, its path and the reason.
        parts: the parts that the data set comes in, some of `SOURCE_PARTS`; None if unknown.
        item_names: per item, a name that leads back to it, such as the path of its file in the folder.
        notes: sentences on what was guessed or skipped when the data set was opened.
        relevant: what each item of the part query should find, positions in the part database, where
            that is known by item and not by label; see `jaxhash.data.splits.Split`.
        excluded: what each item of the part query must not find, likewise.
    """

    name: str
    inputs: Rows
    labels: Int[np.ndarray, " items *classes"]
    class_names: tuple[str, ...]
    part_ids: Int[np.ndarray, " items"] | None = None
    coarse_labels: Int[np.ndarray, " items"] | None = None
    left_out: tuple[str, ...] = ()
    parts: tuple[str, ...] | None = None
    item_names: Sequence[str] | Shaped[np.ndarray, " items"] | None = None
    notes: tuple[str, ...] = ()
    relevant: ItemLists | None = None
    excluded: ItemLists | None = None

    @property
    def is_test(self) -> Int[np.ndarray, " items"] | None:
        """Per item, 0 for the training part of the data set and 1 for the test part.

        The parts ``test`` and ``query`` count as test; so does ``validation`` in a data set that has
        neither. None if there is no such part, or none to train on.
        """
        held_out = {"test", "query"} & set(self.parts or ()) or {"validation"}
        if self.parts is None or not (
            held_out & set(self.parts) and {"train", "database"} & set(self.parts)
        ):
            return None
        return np.array([name in held_out for name in self.parts], np.int8)[self.part_ids]

    @functools.cached_property
    def items_by_part(self) -> dict[str, Int[np.ndarray, " n"]]:
        """The items of each part that is not empty, in the order of `SOURCE_PARTS`."""
        found = {
            name: np.flatnonzero(self.part_ids == number)
            for number, name in enumerate(self.parts or ())
        }
        return {name: found[name] for name in SOURCE_PARTS if len(found.get(name, ()))}

    def names_of(self, items: Int[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"] | None:
        """Returns the names of some items as an array of strings; None if items have no names."""
        if self.item_names is None or isinstance(self.item_names, np.ndarray):
            return self.item_names if self.item_names is None else self.item_names[items]
        return np.array([self.item_names[item] for item in items.tolist()], np.str_)

    def name_of(self, item: int | np.integer) -> str:
        """Returns the name of an item for a message: its own, or its number.

        Example:
            >>> inputs, labels = np.eye(2, dtype=np.float32), np.arange(2)
            >>> Source("pets", inputs, labels, ("cat", "dog")).name_of(1)
            'item 1'
        """
        return (
            f"item {item:,}" if self.item_names is None else printable(str(self.item_names[item]))
        )
