"""Finds equal inputs: items with the same bytes, which a split by item numbers does not show."""

import contextlib
import errno
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Int64, Shaped, UInt8, UInt64
from rich.console import Console

from jaxhash.data.rows import Rows, row_digest
from jaxhash.data.splits import DISJOINT_PARTS, Split
from jaxhash.utils.console import track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.hardware import free_memory

#: Share of the items of a part, with an equal input in a part that must not share items, from which it
#: counts as a leak.
LEAK_SHARE = 0.01

#: Number of examples per pair of parts.
_MAX_EXAMPLES = 3

#: Number of inputs that are read at a time.
_BLOCK_ROWS = 512

#: Memory in bytes that a distinct input takes while digests are compared, about.
_BYTES_PER_DIGEST = 320


class EqualInputs(NamedTuple):
    """Which items of a split have equal inputs, as JSON values.

    Attributes:
        counts: by two parts, the number of items of the first that equal another item of the second; a
            matrix over the parts that are not empty, as in `Split.overlaps`.
        examples: the first few for parts that must not share items: a part, its item, another part, its
            item.
        sha256: digest of all inputs, in the order of their items.
    """

    counts: dict[str, dict[str, int]]
    examples: list[tuple[str, int, str, int]]
    sha256: str = ""


def find_equal_inputs(
    split: Split,
    inputs: Rows,
    console: Console | None = None,
    *,
    memory_bytes: int | None = None,
    read_all: bool = False,
) -> EqualInputs:
    """Finds items whose input equals that of another item.

    Inputs are compared by digests of 8 bytes. Among a million distinct inputs, two have the same digest with
    a probability of 3e-8. Where the memory does not hold the digests, they are in a temporary file, and
    those of one remainder after the other are compared.

    Args:
        split: the split.
        inputs: the inputs of all items, read a block at a time.
        console: console for the progress; None prints none.
        memory_bytes: memory that the comparison may take beside 9 bytes for each item; by default half
            of what is free.
        read_all: whether every input is read. By default digests that a data set knows count, which may be of
            the stored bytes: the same pixels in two files of other bytes are not equal then.

    Raises:
        UserError: if there is no space for the temporary file.

    Example:
        >>> split = Split("some", np.array([0]), np.array([1, 2]), np.array([3]))
        >>> find_equal_inputs(split, np.array([[5], [5], [7], [7]])).counts["query"]
        {'train': 1, 'database': 1}
    """
    memory_bytes = free_memory() // 2 if memory_bytes is None else memory_bytes
    names = list(split.parts)
    pairs = [(names.index(a), names.index(b)) for a, b in DISJOINT_PARTS if {a, b} <= {*names}]
    items, held = _held(list(split.parts.values()))
    counts = np.zeros((len(names), len(names)), np.int64)
    first_places: dict[tuple[int, int], list[int]] = {pair: [] for pair in pairs}
    with _temporary_file(len(items), memory_bytes // 4 + 1) as file:
        known = () if read_all else getattr(inputs, "digests", ())
        sha256 = _write_digests(file, inputs, items, known, console)
        digests = _Digests(file, held, len(names), memory_bytes)
        remainders = range(digests.divisor)
        for remainder in track_progress(remainders, "comparing digests", len(remainders), console):
            contents = digests.repeated(remainder)
            for places, content, own in digests.equal(contents, remainder):
                has_equal = (contents.holders[content] - own > 0)[:, None] & (own > 0)[:, :, None]
                counts += has_equal.sum(axis=0)
                for (first, second), found in first_places.items():
                    found += places[has_equal[:, first, second]][:_MAX_EXAMPLES].tolist()
                    found[:] = sorted(found)[:_MAX_EXAMPLES]
        examples = [
            (
                names[first],
                int(items[place]),
                names[second],
                int(items[digests.first_equal(place, second)]),
            )
            for (first, second), found in sorted(first_places.items())
            for place in found
        ]
    table = {
        first: {
            second: int(counts[row, column]) for column, second in enumerate(names) if column != row
        }
        for row, first in enumerate(names)
    }
    return EqualInputs(table, examples, sha256)


def name_examples(equal: EqualInputs, name_of: Callable[[int], str]) -> list[str]:
    """Returns a sentence that names the examples of equal inputs; none if there are none.

    Args:
        equal: the result of `find_equal_inputs`.
        name_of: maps an item to its name.

    Example:
        >>> name_examples(EqualInputs({}, [("query", 3, "train", 5)]), "cat/{}.png".format)
        ['equal inputs: query cat/3.png and train cat/5.png']
    """
    pairs = [
        f"{first} {name_of(item)} and {second} {name_of(other)}"
        for first, item, second, other in equal.examples
    ]
    return [f"equal inputs: {'; '.join(pairs)}"] if pairs else []


def equal_input_leaks(
    counts: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """Returns sentences on equal inputs in parts that must not share items.

    Args:
        counts: counts of `EqualInputs`.
        sizes: number of items of each part.

    Returns:
        The leaks, where at least `LEAK_SHARE` of a part has an equal input in the other; and warnings, where
        fewer have one.

    Example:
        >>> equal_input_leaks({"query": {"database": 3}}, {"query": 100, "database": 500})[0]
        ['3 of 100 query items (3 %) have an equal input in database']
    """
    leaks, warnings = [], []
    for first, second in DISJOINT_PARTS:
        count, size = counts.get(first, {}).get(second, 0), sizes.get(first, 0)
        if count:
            share = 100 * count / size
            sentence = f"{count:,} of {size:,} {first} items ({share:.3g} %) have an equal input in {second}"
            (leaks if count >= LEAK_SHARE * size else warnings).append(sentence)
    return leaks, warnings


def _held(
    parts: list[Int[np.ndarray, " _"]],
) -> tuple[Int64[np.ndarray, " items"], UInt8[np.ndarray, " items"]]:
    """Returns the items of all parts, ascending, and of each one a bit for each part that holds it."""
    held = np.zeros(max(int(members.max()) for members in parts) + 1, np.uint8)
    for number, members in enumerate(parts):
        held[members] |= 1 << number
    items = np.flatnonzero(held)
    return items, held[items]


@contextlib.contextmanager
def _temporary_file(items: int, max_size: int) -> Iterator[IO[bytes]]:
    """Opens a file for the digests of some items, which is in memory up to a size in bytes.

    Raises:
        UserError: if there is no space for it.
    """
    try:
        with tempfile.SpooledTemporaryFile(max_size=max_size) as file:
            yield file
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"the digests of {items:,} inputs do not fit into {tempfile.gettempdir()} "
            f"({error.strerror}); the environment variable TMPDIR names another folder"
        ) from error


def _write_digests(
    file: IO[bytes],
    inputs: Rows,
    items: Int[np.ndarray, " items"],
    known: Sequence[int] | UInt64[np.ndarray, " all"],
    console: Console | None,
) -> str:
    """Writes a digest of each item, and returns the digest of them all; known ones are not computed again."""
    of_all = hashlib.sha256()
    blocks = range(0, len(items), _BLOCK_ROWS)
    for start in track_progress(blocks, "looking for equal inputs", len(blocks), console):
        block = items[start : start + _BLOCK_ROWS]
        digests = known[block].copy() if len(known) else np.zeros(len(block), np.uint64)
        missing = np.flatnonzero(digests == 0)
        if len(missing):
            digests[missing] = _row_digests(inputs[block[missing]])
        content = digests.astype("<u8").tobytes()
        of_all.update(content)
        file.write(content)
    return of_all.hexdigest()


class _Contents(NamedTuple):
    """Inputs that several items have.

    Attributes:
        digests: their digests, ascending.
        holders: of each, the number of items in each part.
    """

    digests: UInt64[np.ndarray, " contents"]
    holders: Int32[np.ndarray, "contents parts"]


class _Digests:
    """The digests of a file, read a block at a time; a place is that of an item among all items.

    Args:
        file: the digests of all items, 8 bytes each.
        held: bits of the parts that hold each item.
        parts: number of parts.
        memory_bytes: memory that `repeated` and `equal` may take.

    Attributes:
        divisor: number by which digests are divided so that those of one remainder fit into the memory.
    """

    def __init__(
        self, file: IO[bytes], held: UInt8[np.ndarray, " items"], parts: int, memory_bytes: int
    ):
        self._file, self._held, self._parts = file, held, parts
        self.divisor = max(-(-len(held) * _BYTES_PER_DIGEST // max(memory_bytes, 1)), 1)
        self._block_rows = max(-(-len(held) // self.divisor), _BLOCK_ROWS)

    def _blocks(
        self, remainder: int | None = None
    ) -> Iterator[tuple[Int64[np.ndarray, " n"], UInt64[np.ndarray, " n"]]]:
        """Yields the places of digests of a remainder, ascending, with the digests; of all if it is None."""
        rows = self._block_rows
        for start in range(0, len(self._held), rows):
            self._file.seek(8 * start)
            digests = np.frombuffer(self._file.read(8 * rows), "<u8")
            places = np.arange(start, start + len(digests))
            if remainder is not None and self.divisor > 1:
                chosen = digests % np.uint64(self.divisor) == remainder
                digests, places = digests[chosen], places[chosen]
            yield places, digests

    def _members(self, places: Int64[np.ndarray, " n"]) -> UInt8[np.ndarray, "n parts"]:
        """Returns 1 for each part that holds an item, and else 0."""
        return self._held[places, None] >> np.arange(self._parts, dtype=np.uint8) & 1

    def repeated(self, remainder: int) -> _Contents:
        """Returns the digests of a remainder that several items have, with the number of their items."""
        waiting = [(np.empty(0, np.uint64), np.empty((0, self._parts + 1), np.int32))]
        for places, digests in self._blocks(remainder):
            each = np.ones((len(places), 1), np.int32)
            waiting.append((digests, np.hstack([self._members(places), each])))
            if sum(len(part) for part, _ in waiting[1:]) >= self._block_rows:
                waiting = [self._count(*map(np.concatenate, zip(*waiting, strict=True)))]
        digests, holders = self._count(*map(np.concatenate, zip(*waiting, strict=True)))
        is_repeated = holders[:, -1] > 1
        return _Contents(digests[is_repeated], holders[is_repeated, :-1])

    def _count(
        self, digests: UInt64[np.ndarray, " n"], holders: Int32[np.ndarray, "n columns"]
    ) -> tuple[UInt64[np.ndarray, " m"], Int32[np.ndarray, "m columns"]]:
        """Returns the distinct digests, ascending, and the sums of their holders."""
        order = np.argsort(digests)
        digests = digests[order]
        starts = np.flatnonzero(np.append(True, digests[1:] != digests[:-1])[: len(digests)])
        if not len(starts):
            return digests, holders
        return digests[starts], np.add.reduceat(holders[order], starts, axis=0, dtype=np.int32)

    def equal(
        self, contents: _Contents, remainder: int
    ) -> Iterator[
        tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], UInt8[np.ndarray, "n parts"]]
    ]:
        """Yields the places of items with one of the contents, its number, and what parts hold the item."""
        for places, digests in self._blocks(remainder) if len(contents.digests) else ():
            content = np.searchsorted(contents.digests, digests)
            content = np.minimum(content, len(contents.digests) - 1)
            is_there = contents.digests[content] == digests
            places = places[is_there]
            yield places, content[is_there], self._members(places)

    def first_equal(self, place: int, part: int) -> int:
        """Returns the place of the first other item of a part with the input of the item at a place."""
        self._file.seek(8 * place)
        [wanted] = np.frombuffer(self._file.read(8), "<u8")
        for places, digests in self._blocks():
            found = places[digests == wanted]
            found = found[(self._members(found)[:, part] == 1) & (found != place)]
            if len(found):
                return int(found[0])
        raise ValueError(f"no other item has the input of the item at {place}")


def _row_digests(rows: Any) -> Shaped[np.ndarray, " n"]:
    """Returns a digest of each row; rows of a tree are equal if all their parts are."""
    if isinstance(rows, dict):
        parts = np.stack([_row_digests(part) for part in rows.values()], axis=1)
        return np.array([row_digest(row) for row in parts], np.uint64)
    rows = rows + rows.dtype.type(0)  # gives -0.0 the bytes of 0.0, which it equals
    return np.array([row_digest(row) for row in rows], np.uint64)
