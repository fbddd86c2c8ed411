"""Finds equal inputs: items with the same bytes, which a split by item numbers does not show."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from rich.console import Console

from jaxhash.data.rows import Rows, row_digest
from jaxhash.data.splits import DISJOINT_PARTS, Split
from jaxhash.utils.console import track_progress

#: Share of the items of a part, with an equal input in a part that must not share items, from which it
#: counts as a leak.
LEAK_SHARE = 0.01

#: Number of examples per pair of parts.
_MAX_EXAMPLES = 3

#: Number of inputs that are read at a time.
_BLOCK_ROWS = 512


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


def find_equal_inputs(split: Split, inputs: Rows, console: Console | None = None) -> EqualInputs:
    """Finds items whose input equals that of another item.

    Inputs are compared by digests of 8 bytes, so it takes memory for a few numbers per item. Among a
    million distinct inputs, two have the same digest with a probability of 3e-8.

    Args:
        split: the split.
        inputs: the inputs of all items, read a block at a time.
        console: console for the progress; None prints none.

    Example:
        >>> split = Split("some", np.array([0]), np.array([1, 2]), np.array([3]))
        >>> find_equal_inputs(split, np.array([[5], [5], [7], [7]])).counts["query"]
        {'train': 1, 'database': 1}
    """
    items = np.unique(np.concatenate(list(split.parts.values())))
    digests = _digests(inputs, items, console)
    _, content = np.unique(digests, return_inverse=True)
    positions = {
        name: np.searchsorted(items, np.unique(members)) for name, members in split.parts.items()
    }
    counts, examples = {}, []
    for first, first_items in positions.items():
        counts[first] = {}
        for second, second_items in positions.items():
            if first == second:
                continue
            holders = np.bincount(content[second_items], minlength=len(items))
            is_in_both = np.isin(first_items, second_items)
            has_equal = holders[content[first_items]] - is_in_both > 0
            counts[first][second] = int(has_equal.sum())
            if (first, second) not in DISJOINT_PARTS:
                continue
            for item in first_items[has_equal][:_MAX_EXAMPLES]:
                is_equal = (content[second_items] == content[item]) & (second_items != item)
                other = second_items[is_equal][0]
                examples.append((first, int(items[item]), second, int(items[other])))
    return EqualInputs(counts, examples, hashlib.sha256(digests.astype("<u8")).hexdigest())


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


def _digests(
    inputs: Rows, items: Int[np.ndarray, " items"], console: Console | None
) -> Shaped[np.ndarray, " items"]:
    """Returns a digest of each item; digests known since the data set was opened are not computed again."""
    digests = np.zeros(len(items), np.uint64)
    known = getattr(inputs, "digests", ())
    if len(known):
        digests = known[items].copy()
    missing = np.flatnonzero(digests == 0)
    blocks = range(0, len(missing), _BLOCK_ROWS)
    for start in track_progress(blocks, "looking for equal inputs", len(blocks), console):
        block = missing[start : start + _BLOCK_ROWS]
        digests[block] = _row_digests(inputs[items[block]])
    return digests


def _row_digests(rows: Any) -> Shaped[np.ndarray, " n"]:
    """Returns a digest of each row; rows of a tree are equal if all their parts are."""
    if isinstance(rows, dict):
        parts = np.stack([_row_digests(part) for part in rows.values()], axis=1)
        return np.array([row_digest(row) for row in parts], np.uint64)
    rows = rows + rows.dtype.type(0)  # gives -0.0 the bytes of 0.0, which it equals
    return np.array([row_digest(row) for row in rows], np.uint64)
