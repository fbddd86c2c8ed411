"""Counting on bit planes, where one instruction on 32-bit words handles 32 items.

A *plane* is an array of 32-bit words in which item i is bit ``i % 32`` of word ``i // 32``. A number
per item is a list of planes, its binary digits, lowest first. A few adders of words give the Hamming
distances of 32 items; the items at one distance are an AND of planes, whose ones are counted by the
population count of the hardware. Nothing is stored per pair of a query and an item.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, UInt32

#: Items in a word.
WORD = 32
ONES = np.uint32(0xFFFFFFFF)

Plane = UInt32[Array, "*words"]


def slice_bits(
    bits: Bool[np.ndarray, "items bits"], words: int
) -> UInt32[np.ndarray, "bits words"]:
    """Converts the bits of items to planes; items missing in the last words are 0.

    Example:
        >>> slice_bits(np.array([[True, False], [True, True]]), words=1)
        array([[3], [2]], dtype=uint32)
    """
    planes = np.zeros((bits.shape[1], 4 * words), np.uint8)
    packed = np.packbits(np.ascontiguousarray(bits.T), axis=1, bitorder="little")
    planes[:, : packed.shape[1]] = packed
    return planes.view("<u4").astype(np.uint32, copy=False)


def count_ones(planes: UInt32[Array, " planes *words"]) -> list[Plane]:
    """Counts the planes in which each item's bit is set; returns the planes of that number.

    Planes are added seven at a time into three (a sum and two carries). The barriers keep the
    compiler from recomputing a carry wherever it is used.
    """
    sevens = len(planes) // 7
    if sevens < 2:
        return _add([list(planes)])
    summed = lax.optimization_barrier(
        _seven_to_three(planes[: 7 * sevens].reshape(7, sevens, *planes.shape[1:]))
    )
    rest = planes[7 * sevens :]
    columns = [jnp.concatenate([summed[0], rest]) if len(rest) else summed[0], *summed[1:]]
    weights: list[list[Plane]] = []
    for place, column in enumerate(columns):
        digits = _add([list(column)]) if len(column) < 14 else count_ones(column)
        for offset, digit in enumerate(lax.optimization_barrier(digits)):
            weights.extend([] for _ in range(place + offset + 1 - len(weights)))
            weights[place + offset].append(digit)
    return _add(weights)


def minterms(digits: Sequence[Plane]) -> UInt32[Array, " numbers *words"]:
    """Returns, for each number from 0 that the digits can represent, the plane of the items with it."""
    first, *rest = digits
    planes = jnp.stack([~first, first])
    for digit in rest:
        planes = jnp.concatenate([planes & ~digit[None], planes & digit[None]])
    return planes


def _add(weights: Sequence[Sequence[Plane]]) -> list[Plane]:
    """Adds planes that are given in one list per power of two."""
    weights, total = [list(planes) for planes in weights], []
    for place, planes in enumerate(weights):  # carries extend the list
        while len(planes) > 1:
            if len(planes) > 2:
                digit, carry = _full_adder(*planes[:3])
            else:
                digit, carry = planes[0] ^ planes[1], planes[0] & planes[1]
            planes[:] = [*planes[3:], digit]
            if place + 1 == len(weights):
                weights.append([])
            weights[place + 1].append(carry)
        total += planes
    return total


def _full_adder(a: Plane, b: Plane, c: Plane) -> tuple[Plane, Plane]:
    """Returns the digits of weight 1 and 2 of a + b + c."""
    differ = a ^ b
    return differ ^ c, (a & b) | (differ & c)


def _seven_to_three(planes: UInt32[Array, " 7 *words"]) -> tuple[Plane, Plane, Plane]:
    """Returns the digits of weight 1, 2 and 4 of a sum of seven planes."""
    a, b, c, d, e, f, g = planes
    first, carry_first = _full_adder(a, b, c)
    second, carry_second = _full_adder(d, e, f)
    one, carry = _full_adder(first, second, g)
    return one, *_full_adder(carry_first, carry_second, carry)
