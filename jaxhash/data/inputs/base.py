"""The types `Inputs`, `Item` and `Block`."""

import abc
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.input_form import InputForm


class Item(NamedTuple):
    """What an index says of an item.

    Attributes:
        path: path of the file below the root, with ``/``; of a row of an array its name, if rows have
            names, else ``FILE#ROW``.
        size: bytes of the file, or of the row; 0 if the file is missing.
        mtime_ns: time of the file's last change, in nanoseconds; 0 for rows of an array, of which the
            fingerprint tells whether they have changed.
        label: the label, or None.
    """

    path: str
    size: int
    mtime_ns: int
    label: str | None = None


class Block(NamedTuple):
    """Consecutive rows of some inputs, read and prepared.

    Attributes:
        inputs: the readable ones, as `jaxhash.retrieval.hasher.Hasher.encode` takes them.
        rows: their row numbers.
        digests: hexadecimal digest of the content of each: of the bytes of the file, or of the row as
            the array holds it.
        broken: reason for each row that cannot be read, by its number.
    """

    inputs: Shaped[np.ndarray, "n ..."]
    rows: Int[np.ndarray, " n"]
    digests: list[str]
    broken: dict[int, str]


class Inputs(abc.ABC):
    """Images or vectors that are read by ranges of rows.

    Attributes:
        name: name by which they were opened, for messages.
        kind: ``images`` or ``vectors``.
        notes: sentences on what was guessed or passed over when they were opened.
        source: name of the array below the root, or of the data set; None for files, whose items have
            a size and a time each.
        fingerprint: digest of the content of an array; None for files.
    """

    name: str
    kind: str
    notes: tuple[str, ...] = ()
    source: str | None = None
    fingerprint: str | None = None

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of rows, the unreadable ones included."""

    @abc.abstractmethod
    def items(self, rows: slice) -> list[Item]:
        """Returns the items of a range of rows, the unreadable ones included."""

    def labels(self, rows: slice) -> list[list[str]]:
        """Returns the labels of each of a range of rows, none where it has none."""
        return [[] if item.label is None else [item.label] for item in self.items(rows)]

    @abc.abstractmethod
    def read(self, rows: slice, form: InputForm) -> Block:
        """Reads a range of rows, and prepares them for a hash function whose inputs have this form."""

    def check(self, form: InputForm) -> None:  # noqa: B027 (files are of any size until they are read)
        """Raises a `UserError` if no row is of the form, as far as that is known before reading."""
