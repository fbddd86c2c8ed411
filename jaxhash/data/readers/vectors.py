"""Rows of vectors that stay on disk: memory maps of .npz files, and .npy files of any size."""

import functools
import itertools
from pathlib import Path

import numpy as np
import xxhash
from jaxtyping import Float, Shaped

from jaxhash.data.readers.arrays import read_npy_header
from jaxhash.data.readers.file_ranges import FileRanges
from jaxhash.data.rows import Index, row_numbers
from jaxhash.utils.errors import UserError, printable

#: Bytes of a .npy file up to which a training reads all of it before its first step; of a larger one it
#: reads a sample.
READ_THROUGH_BYTES = 2**30

#: Rows from which the fingerprint of a .npy file is made, evenly spaced.
FINGERPRINT_ROWS = 1024


class NpyRows:
    """The array of a .npy file, [items, dimensions], whose rows are read from disk on access.

    It is read and not mapped into memory: the pages of a map would count as memory of the process, and
    processes that load data would each get a copy.

    Args:
        path: the file.
        dtype: dtype of the values in the file.
        shape: shape of the array.
        start: byte at which the values begin.

    Attributes:
        path: the file.
        dtype: dtype of the values.
        shape: shape of the array.
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...], start: int):
        self.path, self.dtype, self.shape, self._start = path, dtype, shape, start
        self._files = FileRanges()

    @classmethod
    def open(cls, path: Path) -> "NpyRows":
        """Opens a file.

        Raises:
            UserError: if it cannot be read, or its values lie column by column.
        """
        header = read_npy_header(path)
        if header.fortran and len(header.shape) > 1:
            raise UserError(
                f"{path}: its values lie column by column, so that no row can be read by itself; "
                "np.save of np.ascontiguousarray(features) writes them row by row"
            )
        return cls(path, header.dtype, header.shape, header.start)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Index) -> Shaped[np.ndarray, "*n dimensions"]:
        numbers = row_numbers(rows, len(self))
        flat = numbers.reshape(-1)
        values = np.empty((len(flat), *self.shape[1:]), self.dtype)
        row_bytes = self.dtype.itemsize * self.shape[1]
        content = values.view(np.uint8).reshape(len(flat), row_bytes)
        runs = np.unique(np.r_[0, np.flatnonzero(np.diff(flat) != 1) + 1, len(flat)]).tolist()
        for first, last in itertools.pairwise(runs):  # of adjacent rows
            offset = self._start + int(flat[first]) * row_bytes
            self._files.read_into(self.path, offset, content[first:last])
        return values.reshape(*numbers.shape, *self.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.size * self.dtype.itemsize


class ScaledVectors:
    """Rows of a feature file as float32, multiplied by one factor per dimension.

    They are converted on access: the array may be a memory map, of any dtype of numbers.

    Example:
        >>> ScaledVectors(np.array([[2, 3]], np.int8), np.array([0.5, 1.0]))[0]
        array([1., 3.], dtype=float32)
    """

    def __init__(
        self,
        features: Shaped[np.ndarray, "items dimensions"] | NpyRows,
        scale: Shaped[np.ndarray, " #dimensions"],
    ):
        self._features, self._scale = features, np.asarray(scale, np.float32)

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, rows: Index) -> Float[np.ndarray, "..."]:
        with np.errstate(over="ignore"):  # infinite values are refused elsewhere
            return np.asarray(self._features[rows]).astype(np.float32) * self._scale

    @property
    def shape(self) -> tuple[int, int]:
        """Number of items and of dimensions."""
        return self._features.shape


class StoredVectors(ScaledVectors):
    """Vectors of a .npy file as float32, which are checked as they are read.

    Args:
        rows: the array of the file.
        scale: factor of each dimension.
        names: names of the items, for messages.
    """

    def __init__(
        self,
        rows: NpyRows,
        scale: Shaped[np.ndarray, " #dimensions"],
        names: Shaped[np.ndarray, " items"] | None = None,
    ):
        super().__init__(rows, scale)
        self._rows, self._names = rows, names

    def __getitem__(self, rows: Index) -> Float[np.ndarray, "..."]:
        vectors = super().__getitem__(rows)
        finite = np.isfinite(vectors).all(axis=-1)
        if not finite.all():
            item = int(np.atleast_1d(row_numbers(rows, len(self)))[np.argmin(finite)])
            named = "" if self._names is None else f" ({printable(str(self._names[item]))})"
            raise UserError(
                f"{self._rows.path}: item {item:,}{named} holds a value that is not finite"
            )
        return vectors

    @property
    def left_unchecked(self) -> str | None:
        """What a training leaves out of a file of more than `READ_THROUGH_BYTES`."""
        if self._rows.nbytes <= READ_THROUGH_BYTES:
            return None
        return (
            f"{self._rows.path.name} is too large to be read before the first step: equal inputs are not "
            "looked for, a sample of the training items gives the scale, values are checked as they are read, "
            "and a change of the file is noticed by its labels and a sample"
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of shape, dtype, scale and `FINGERPRINT_ROWS` rows."""
        rows = np.unique(np.linspace(0, len(self) - 1, FINGERPRINT_ROWS).astype(np.int64))
        digest = xxhash.xxh3_128(f"{self.shape} {self._rows.dtype.str}".encode())
        digest.update(self._scale.tobytes())
        digest.update(self._rows[rows].tobytes())
        return digest.hexdigest()
