"""The codes and items of an index as the exports read them: in pieces, with progress."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8
from rich.console import Console

import jaxhash
from jaxhash.utils.console import track_progress
from jaxhash.utils.errors import UserError

#: Codes of a piece: few enough that their items take little memory as Python objects.
_PIECE = 8192

_CHANGED = "the index changed while it was exported; export it again"


@runtime_checkable
class CodeStore(Protocol):
    """What is exported: a `jaxhash.retrieval.index.Index`.

    Attributes:
        bits: length of a code.
        digest: digest of the hash function.
        check_code: its check code, in hexadecimal digits.
    """

    bits: int
    digest: str
    check_code: str

    def __len__(self) -> int:
        """Returns the number of codes."""
        ...

    def blocks(self) -> Iterable[tuple[Int64[np.ndarray, " n"], UInt8[np.ndarray, "n bytes"]]]:
        """Yields ids and packed codes, each code once."""
        ...

    def tables(self, columns: Sequence[str]) -> Iterable[pa.Table]:
        """Yields columns of the items table, for the same items as `blocks`."""
        ...


class Row(NamedTuple):
    """Id, packed code, path and label of an item."""

    id: int
    code: bytes
    path: str
    label: str | None


class ExportSource:
    """The codes of an index, in pieces of bounded size.

    Each pass shows its progress, and raises `UserError` unless it is over as many codes as were there
    at the start, since headers are written before the codes are counted.

    Args:
        index: the index.
        console: where progress is printed; the error stream by default.
    """

    def __init__(self, index: CodeStore, console: Console | None = None):
        self._index, self._console = index, console
        self.bits, self._count = index.bits, len(index)

    def __len__(self) -> int:
        """Returns the number of codes."""
        return self._count

    @property
    def code_bytes(self) -> int:
        """Bytes of a packed code."""
        return -(-self.bits // 8)

    @property
    def about(self) -> dict[str, Any]:
        """What a reader of the codes has to know, as JSON values."""
        return {
            "count": len(self),
            "bits": self.bits,
            "bit_order": "big",
            "zero": "+1",
            "digest": self._index.digest,
            "check_code": self._index.check_code,
            "jaxhash": jaxhash.__version__,
        }

    def codes(self) -> Iterator[tuple[Int64[np.ndarray, " n"], UInt8[np.ndarray, "n bytes"]]]:
        """Yields ids and packed codes."""
        pieces = (
            (ids[start : start + _PIECE], codes[start : start + _PIECE])
            for ids, codes in self._index.blocks()
            for start in range(0, len(ids), _PIECE)
        )
        return self._counted(pieces)

    def tables(self) -> Iterator[pa.Table]:
        """Yields tables with the columns id, path, label and code, the codes as lists of uint8."""
        for ids, codes, items in self._counted(self._with_items()):
            offsets = np.arange(len(ids) + 1, dtype=np.int32) * self.code_bytes
            code = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(codes).ravel()))
            yield pa.table(
                {
                    "id": items["id"],
                    "path": items["path"],
                    "label": items["label"].cast(pa.string()),
                    "code": code,
                }
            )

    def rows(self) -> Iterator[Row]:
        """Yields the items one by one."""
        for ids, codes, items in self._counted(self._with_items()):
            columns = (items[name].to_pylist() for name in ("path", "label"))
            yield from map(Row, ids.tolist(), map(bytes, codes), *columns)

    def _with_items(self) -> Iterator[tuple[np.ndarray, np.ndarray, pa.Table]]:
        """Yields ids, codes and items in pieces."""
        tables = self._index.tables(["id", "path", "label"])
        for (ids, codes), items in zip(self._index.blocks(), tables, strict=True):
            if not np.array_equal(items["id"].to_numpy(), ids):
                raise UserError(_CHANGED)
            for start in range(0, len(ids), _PIECE):
                rows = slice(start, start + _PIECE)
                yield ids[rows], codes[rows], items.slice(start, _PIECE)

    def _counted(self, pieces: Iterator[tuple]) -> Iterator[tuple]:
        """Yields the pieces with progress, and checks their number of codes at the end."""
        count = 0
        for piece in track_progress(
            pieces, "exporting codes", len(self), self._console, size=lambda piece: len(piece[0])
        ):
            count += len(piece[0])
            yield piece
        if count != len(self):
            raise UserError(_CHANGED)
