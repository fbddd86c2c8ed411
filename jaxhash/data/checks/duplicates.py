"""Equal inputs: items whose bytes are those of another one, which a split by number cannot see."""

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from rich.console import Console

from jaxhash.data.rows import Rows, row_digest
from jaxhash.data.splits import DISJOINT_PARTS, Split
from jaxhash.utils.console import track_progress

#: A part of which this share of items, or more, is found again where it must not be leaks.
LEAK_SHARE = 0.01

#: Of equal items of two parts so many are named.
_EXAMPLES = 3

#: Inputs hashed at a time.
_BLOCK = 512


class Equal(NamedTuple):
    """Which items of a split have equal inputs; JSON holds it.

    Attributes:
        counts: by two parts, how many items of the first have the input of another item of the second,
            a matrix over the parts that are not empty, as `Split.overlaps` has it.
        examples: the first few where parts must be apart: a part, its item, another part, its item.
        sha256: digest of all inputs, in the order of their items.
    """

    counts: dict[str, dict[str, int]]
    examples: list[tuple[str, int, str, int]]
    sha256: str = ""


def equal_inputs(split: Split, inputs: Rows, console: Console | None = None) -> Equal:
    """Look for items whose input is that of another item.

    Inputs are compared by digests of 8 bytes, so memory is a few numbers for each item: of a million
    different inputs two have the same digest with a probability of 3e-8.

    Args:
        split: the parts.
        inputs: the items themselves, read a block at a time.
        console: where progress is printed.

    Example:
        >>> split = Split("some", np.array([0]), np.array([1, 2]), np.array([3]))
        >>> equal_inputs(split, np.array([[5], [5], [7], [7]])).counts["query"]
        {'train': 1, 'database': 1}
    """
    items = np.unique(np.concatenate(list(split.parts.values())))
    digests = _digests(inputs, items, console)
    _, content = np.unique(digests, return_inverse=True)
    of_part = {
        name: np.searchsorted(items, np.unique(members)) for name, members in split.parts.items()
    }
    found, examples = {}, []
    for first, mine in of_part.items():
        found[first] = {}
        for second, theirs in of_part.items():
            if first != second:
                holders = np.bincount(content[theirs], minlength=len(items))
                has_other = holders[content[mine]] - np.isin(mine, theirs) > 0
                found[first][second] = int(has_other.sum())
                for item in (
                    mine[has_other][:_EXAMPLES] if (first, second) in DISJOINT_PARTS else ()
                ):
                    other = theirs[(content[theirs] == content[item]) & (theirs != item)][0]
                    examples.append((first, int(items[item]), second, int(items[other])))
    return Equal(found, examples, hashlib.sha256(digests.astype("<u8")).hexdigest())


def name_equal(equal: Equal, name_of: Callable[[int], str]) -> list[str]:
    """A sentence that names the examples of equal inputs; none where there are none.

    Args:
        equal: what `equal_inputs` returns.
        name_of: from an item to what it is called.

    Example:
        >>> name_equal(Equal({}, [("query", 3, "train", 5)]), "cat/{}.png".format)
        ['equal inputs: query cat/3.png and train cat/5.png']
    """
    pairs = [
        f"{first} {name_of(item)} and {second} {name_of(other)}"
        for first, item, second, other in equal.examples
    ]
    return [f"equal inputs: {'; '.join(pairs)}"] if pairs else []


def tell_equal(
    found: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """What equal inputs make of a split, a sentence each.

    Args:
        found: the counts of `equal_inputs`.
        sizes: items of each part.

    Returns:
        Leaks, where at least `LEAK_SHARE` of a part is in another that it must be apart from; and the
        pairs with fewer.

    Example:
        >>> tell_equal({"query": {"database": 3}}, {"query": 100, "database": 500})[0]
        ['3 of 100 query items (3 %) have an equal input in database']
    """
    leaks, few = [], []
    for first, second in DISJOINT_PARTS:
        count, size = found.get(first, {}).get(second, 0), sizes.get(first, 0)
        if count:
            share = 100 * count / size
            sentence = f"{count:,} of {size:,} {first} items ({share:.3g} %) have an equal input in {second}"
            (leaks if count >= LEAK_SHARE * size else few).append(sentence)
    return leaks, few


def _digests(
    inputs: Rows, items: Int[np.ndarray, " items"], console: Console | None
) -> Shaped[np.ndarray, " items"]:
    """A digest of each item; those that are known from when the set was opened are not read again."""
    digests = np.zeros(len(items), np.uint64)
    known = getattr(inputs, "digests", ())
    if len(known):
        digests = known[items].copy()
    missing = np.flatnonzero(digests == 0)
    blocks = range(0, len(missing), _BLOCK)
    for start in track_progress(blocks, "looking for equal inputs", len(blocks), console):
        places = missing[start : start + _BLOCK]
        rows = inputs[items[places]]
        rows = rows + rows.dtype.type(0)  # which makes of -0.0, that equals 0.0, the same bytes
        digests[places] = [row_digest(row) for row in rows]
    return digests
