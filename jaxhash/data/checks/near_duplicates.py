"""Finds near duplicates: different inputs that show the same thing, such as a photograph in two croppings.

How near two inputs must be for that depends on the data: the codes of two photographs differ in many
bits, those of two pictures of shoes before a white wall in few. So two inputs are near duplicates if they
are far nearer to one another than either is to most of its neighbors, which is measured by the codes of
`input_codes`, and if their pixels or values are similar.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt8
from rich.console import Console

from jaxhash.data.checks.input_codes import InputCoder, make_input_coder
from jaxhash.data.rows import Rows, TreeRows
from jaxhash.data.splits import DISJOINT_PARTS, Split
from jaxhash.retrieval.near_duplicates.join import (
    DistinctCodes,
    Pairs,
    TooManyPairs,
    distinct_codes,
    join_within,
)
from jaxhash.retrieval.search import search_codes
from jaxhash.utils.console import track_progress

#: The neighbor of an item, by rank, that the distance of a near duplicate is compared with.
NEIGHBOR = 16

#: Greatest share of the distance to that neighbor at which an item is a near duplicate.
MAX_SHARE = 0.5

#: Probability that an item without near duplicates has another that near by chance. In data of few
#: dimensions that makes the share smaller.
_CHANCE = 1e-4

#: Share below which near duplicates are not looked for: even equal codes are common by chance.
_MIN_SHARE = 0.05

#: Of an item with many copies, that neighbor is one, too: it counts as no nearer than this share of the
#: median over items.
_LEAST_REACH = 0.25

#: Least similarity of near duplicates.
MIN_SIMILARITY = 0.75

#: Pairs of codes up to which all are compared; of more, only those with an item that is held out.
_MAX_COMPARED = 2 * 10**11

#: Pairs of codes that are examined; with more, the radius becomes smaller.
_MAX_PAIRS = 2**22

#: Codes whose neighbors tell the largest radius that is of use.
_SAMPLE = 1000

#: Inputs that are read at a time.
_BLOCK_ROWS = 512

#: Parts of which an item is a leak where it is in another.
_HELD_OUT = ("query", "validation")


class NearDuplicates(NamedTuple):
    """Which items of a split have near duplicates, as JSON values.

    Attributes:
        measure: a sentence that says what counts as a near duplicate.
        counts: by two parts, the number of items of the first that have a near duplicate in the second:
            another item, whose input is not equal. Of items with equal codes in the second, the first
            counts. None for two parts that are not held out, where the items are too many for all to be
            compared; empty where near duplicates cannot be told from other neighbors.
        examples: the nearest few of parts that must not share items: a part, its item, another part, its
            item, and the number of bits in which their codes differ.
    """

    measure: str
    counts: dict[str, dict[str, int | None]]
    examples: list[tuple[str, int, str, int, int]]


class _Comparisons(NamedTuple):
    """Items that are compared with an item of each part, by their places among the items of the split.

    Attributes:
        item: place of the item.
        other: place of the item it is compared with.
        part: number of the part of the other.
        distance: number of bits in which their codes differ.
    """

    item: Int64[np.ndarray, " c"]
    other: Int64[np.ndarray, " c"]
    part: Int64[np.ndarray, " c"]
    distance: Int64[np.ndarray, " c"]


def find_near_duplicates(
    split: Split, inputs: Rows, console: Console | None = None, *, max_examples: int = 3
) -> NearDuplicates:
    """Finds items that are near duplicates of others.

    In memory are a code of each item and a block of the inputs. The time grows with the square of the
    number of items, from seconds for 60,000; of more than 600,000, only those that are held out are
    compared with the others.

    Args:
        split: the split.
        inputs: the inputs of all items, read a block at a time.
        console: where progress is printed; the error stream by default.
        max_examples: number of examples for each two parts.

    Example:
        >>> vectors = np.random.default_rng(0).standard_normal((100, 32), np.float32)
        >>> vectors[99] = vectors[0] + 0.01
        >>> split = Split("some", np.arange(50), np.arange(90, 100), np.arange(90))
        >>> find_near_duplicates(split, vectors).counts["query"]["train"]
        1
    """
    if isinstance(inputs, TreeRows):
        return NearDuplicates("of items of several modalities none are looked for", {}, [])
    items = np.unique(np.concatenate(list(split.parts.values())))
    coder = make_input_coder(inputs, split.train)
    codes = distinct_codes(_encode(coder, inputs, items, console))
    holds = [np.isin(items, members) for members in split.parts.values()]
    is_held_out = [name in _HELD_OUT for name in split.parts]
    compares_all = len(codes.codes) ** 2 / 2 <= _MAX_COMPARED
    some = None
    if not compares_all:
        in_parts = np.any([holds[number] for number in np.flatnonzero(is_held_out)], axis=0)
        some = np.unique(_code_of_row(codes)[in_parts])
    rule = _choose_rule(codes.codes)
    if rule.share < _MIN_SHARE:
        return NearDuplicates("the items are too few, or alike, for near duplicates", {}, [])
    pairs = _near_codes(codes.codes, rule, some, console)
    compared = _pair_items(codes, pairs, holds)
    near = _are_near(coder, inputs, items[compared.item], items[compared.other], console)
    compared = _Comparisons(*(column[near] for column in compared))
    counts, examples, names = {}, [], list(split.parts)
    for first, first_name in enumerate(names):
        counts[first_name] = {}
        for second, second_name in enumerate(names):
            here = (compared.part == second) & holds[first][compared.item]
            is_known = compares_all or is_held_out[first] or is_held_out[second]
            counts[first_name][second_name] = (
                len(np.unique(compared.item[here])) if is_known else None
            )
            if (first_name, second_name) in DISJOINT_PARTS:
                item, other, _, distance = (column[here] for column in compared)
                for place in np.lexsort((other, item, distance))[:max_examples]:
                    pair = int(items[item[place]]), int(items[other[place]])
                    examples.append(
                        (first_name, pair[0], second_name, pair[1], int(distance[place]))
                    )
    measure = (
        f"near duplicates differ in at most {100 * rule.share:.2g} % as many of the {coder.bits} bits of "
        f"{coder.code_name} as either from its neighbor number {rule.rank}, and the "
        f"{coder.similarity_name} is at least {MIN_SIMILARITY:g}"
    )
    return NearDuplicates(measure, counts, examples)


def near_duplicate_warnings(
    near: NearDuplicates, sizes: Mapping[str, int], name_of: Callable[[int], str]
) -> list[str]:
    """Returns a sentence for each two parts that must not share items, where items have near duplicates.

    Args:
        near: the result of `find_near_duplicates`.
        sizes: number of items of each part.
        name_of: maps an item to its name.

    Example:
        >>> near = NearDuplicates("", {"query": {"train": 2}}, [("query", 3, "train", 5, 8)])
        >>> near_duplicate_warnings(near, {"query": 100}, "{}.png".format)
        ['2 of 100 query items (2 %) have a near duplicate in train (3.png and 5.png; and more)']
    """
    sentences = []
    for first, second in DISJOINT_PARTS:
        if count := near.counts.get(first, {}).get(second):
            pairs = [
                f"{name_of(item)} and {name_of(other)}"
                for part, item, other_part, other, _ in near.examples
                if (part, other_part) == (first, second)
            ]
            share = 100 * count / sizes[first]
            more = "; and more" * (count > len(pairs))
            sentences.append(
                f"{count:,} of {sizes[first]:,} {first} items ({share:.3g} %) have a near duplicate in "
                f"{second} ({'; '.join(pairs)}{more})"
            )
    return sentences


def _encode(
    coder: InputCoder, inputs: Rows, items: Int[np.ndarray, " items"], console: Console | None
) -> UInt8[np.ndarray, "items bytes"]:
    codes = np.empty((len(items), -(-coder.bits // 8)), np.uint8)
    starts = range(0, len(items), _BLOCK_ROWS)
    for start in track_progress(starts, "looking for near duplicates", len(starts), console):
        block = slice(start, start + _BLOCK_ROWS)
        codes[block] = coder.encode(inputs[items[block]])
    return codes


def _code_of_row(codes: DistinctCodes) -> Int64[np.ndarray, " n"]:
    """Returns the number of the code of each row."""
    numbers = np.empty(len(codes.rows), np.int64)
    numbers[codes.rows] = np.repeat(np.arange(len(codes.codes)), np.diff(codes.starts))
    return numbers


class _Rule(NamedTuple):
    """Which codes are near: those within a share of the distance to their neighbors.

    Attributes:
        share: the share.
        rank: number of the neighbor.
        least: least distance to that neighbor that counts.
        most: greatest distance to it, of a sample.
    """

    share: float
    rank: int
    least: float
    most: int


def _choose_rule(codes: UInt8[np.ndarray, "m bytes"]) -> _Rule:
    """Returns the rule for some distinct codes, by the distances of a sample to their neighbors.

    Where points are evenly spread in d dimensions, of k neighbors k share^d are expected within the share
    of the distance to the last one; d is estimated by maximum likelihood (E. Levina and P. Bickel, NIPS
    2004).
    """
    rank = min(NEIGHBOR, len(codes) - 1)
    if rank < 2:
        return _Rule(0.0, rank, 0.0, 0)
    sample = codes[:: -(-len(codes) // _SAMPLE)]
    distances = search_codes(sample, codes, rank + 1).distances[:, 1:]
    reach = distances[:, -1]
    inverse_dimension = np.median(np.log(reach[:, None] / distances[:, :-1]).mean(axis=1))
    share = min(MAX_SHARE, float((_CHANCE / rank) ** inverse_dimension))
    return _Rule(share, rank, _LEAST_REACH * float(np.median(reach)), int(reach.max()))


def _near_codes(
    codes: UInt8[np.ndarray, "m bytes"],
    rule: _Rule,
    some: Int64[np.ndarray, " s"] | None,
    console: Console | None,
) -> Pairs:
    """Returns the pairs of distinct codes that are near.

    Args:
        codes: the distinct codes.
        rule: which are near.
        some: numbers of those of which all pairs are looked for; all by default.
        console: where progress is printed.
    """
    radius = int(rule.share * rule.most)
    queries, others = (codes, None) if some is None else (codes[some], codes)
    while True:
        try:
            found = list(
                join_within(queries, radius, others=others, max_pairs=_MAX_PAIRS, console=console)
            )
            break
        except TooManyPairs:
            radius //= 2
    empty = [np.empty(0, np.int64)] * 2 + [np.empty(0, np.int32)]
    first, second, distances = map(np.concatenate, zip(empty, *found, strict=True))
    if some is not None:
        first = some[first]
        # Two of them are found twice, and each is found by itself.
        once = (first < second) | ~np.isin(second, some)
        first, second, distances = first[once], second[once], distances[once]
    involved, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    reach = np.empty(len(involved), np.int32)
    starts = range(0, len(involved), _BLOCK_ROWS)
    for start in track_progress(starts, "comparing with neighbors", len(starts), console):
        block = slice(start, start + _BLOCK_ROWS)
        reach[block] = search_codes(codes[involved[block]], codes, rule.rank + 1)[0][:, rule.rank]
    nearer = np.minimum(*np.split(reach[places], 2))
    near = distances <= rule.share * np.maximum(nearer, rule.least)
    return Pairs(first[near], second[near], distances[near])


def _pair_items(
    codes: DistinctCodes, pairs: Pairs, holds: Sequence[Bool[np.ndarray, " n"]]
) -> _Comparisons:
    """Returns what items are compared with: of each part, the first other item of each near code.

    Args:
        codes: the distinct codes, and the places of the items that have each.
        pairs: pairs of near codes.
        holds: for each part, whether it has each item.
    """
    sizes = np.diff(codes.starts)
    repeated = np.flatnonzero(sizes > 1)
    code = np.concatenate([pairs.first, pairs.second, repeated])
    near_code = np.concatenate([pairs.second, pairs.first, repeated])
    distance = np.concatenate([pairs.distances, pairs.distances, np.zeros(len(repeated), np.int32)])
    per_pair = sizes[code]
    ends = np.cumsum(per_pair)
    places = np.repeat(codes.starts[code] - (ends - per_pair), per_pair)
    item = codes.rows[places + np.arange(len(places))]
    near_code, distance = np.repeat(near_code, per_pair), np.repeat(distance, per_pair)
    code_of_row, columns = _code_of_row(codes), []
    for part, held in enumerate(holds):
        rows = np.flatnonzero(held)
        first, second = (np.full(len(sizes), -1) for _ in range(2))
        for of_code in (first, second):
            distinct, index = np.unique(code_of_row[rows], return_index=True)
            of_code[distinct] = rows[index]
            rows = np.delete(rows, index)
        other = np.where(first[near_code] == item, second[near_code], first[near_code])
        is_there = other >= 0
        number = np.full(int(is_there.sum()), part)
        columns.append((item[is_there], other[is_there], number, distance[is_there]))
    return _Comparisons(*map(np.concatenate, zip(*columns, strict=True)))


def _are_near(
    coder: InputCoder,
    inputs: Rows,
    items: Int[np.ndarray, " c"],
    others: Int[np.ndarray, " c"],
    console: Console | None,
) -> Bool[np.ndarray, " c"]:
    """Returns whether two inputs are near by their pixels or values, and not equal."""
    pairs, places = np.unique(
        np.sort(np.stack([items, others], axis=1), axis=1), axis=0, return_inverse=True
    )
    near = np.empty(len(pairs), bool)
    starts = range(0, len(pairs), _BLOCK_ROWS)
    for start in track_progress(starts, "comparing near duplicates", len(starts), console):
        block = pairs[start : start + _BLOCK_ROWS]
        first, second = inputs[block[:, 0]], inputs[block[:, 1]]
        differs = (first != second).reshape(len(block), -1).any(axis=1)
        is_similar = coder.similarity(first, second) >= MIN_SIMILARITY
        near[start : start + _BLOCK_ROWS] = differs & is_similar
    return near[places.reshape(-1)]
