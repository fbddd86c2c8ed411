"""The type `Source`: labeled images or feature vectors that are read by index."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.rows import Rows
from jaxhash.utils.errors import printable

#: Sets of at most this many decoded bytes are decoded once and held in memory.
MEMORY_LIMIT = 2**30

#: The parts that a set may come in.
SOURCE_PARTS = ("train", "validation", "test", "query", "database")


@dataclasses.dataclass(frozen=True)
class Source:
    """Inputs and their labels.

    Attributes:
        name: as given on the command line.
        inputs: uint8 images [height, width, channels], or float32 vectors, by index; as the set has
            them, before anything that is a model's own.
        labels: class ids from 0 (-1: no label), or multi-hot rows of 0 and 1.
        class_names: a name for each class.
        part_ids: of each item the part of its set that it comes in, a place in ``parts``; None where
            that is not known.
        coarse_labels: of each item the id of a group that its class belongs to, if there are any.
        left_out: of each file that cannot be read and is no item, its path and the reason.
        parts: the parts that the set comes in, some of `SOURCE_PARTS`; None where they are not known.
        item_names: of each item what leads back to it, such as the path of its file within the folder.
        notes: what was guessed or passed over when the set was opened, a sentence each, to be told.
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

    @property
    def part(self) -> Int[np.ndarray, " items"] | None:
        """Of each item 0 for the training part of its set, 1 for the test part.

        Test and query parts are the test part, or the validation part of a set that has neither. None
        where that, or a part to train on, is missing.
        """
        held_out = {"test", "query"} & set(self.parts or ()) or {"validation"}
        if self.parts is None or not (
            held_out & set(self.parts) and {"train", "database"} & set(self.parts)
        ):
            return None
        return np.array([name in held_out for name in self.parts], np.int8)[self.part_ids]

    @property
    def items_of_parts(self) -> dict[str, Int[np.ndarray, " n"]]:
        """The items of each part that has some, by its name, in the order of `SOURCE_PARTS`."""
        found = {
            name: np.flatnonzero(self.part_ids == number)
            for number, name in enumerate(self.parts or ())
        }
        return {name: found[name] for name in SOURCE_PARTS if len(found.get(name, ()))}

    def names_of(self, items: Int[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"] | None:
        """What leads back to these items, as an array of strings; None where nothing does."""
        if self.item_names is None or isinstance(self.item_names, np.ndarray):
            return self.item_names if self.item_names is None else self.item_names[items]
        return np.array([self.item_names[item] for item in items.tolist()], np.str_)

    def name_of(self, item: int | np.integer) -> str:
        """What an item is called in a message.

        Example:
            >>> inputs, labels = np.eye(2, dtype=np.float32), np.arange(2)
            >>> Source("pets", inputs, labels, ("cat", "dog")).name_of(1)
            'item 1'
        """
        return (
            f"item {item:,}" if self.item_names is None else printable(str(self.item_names[item]))
        )
