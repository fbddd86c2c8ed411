"""Bounds of coding theory on the smallest distance between binary codes."""

from math import comb

from jaxhash.ops.arguments import IntLike, as_int


def guaranteed_distance(bits: IntLike, codes: IntLike) -> int:
    r"""Returns the Gilbert-Varshamov distance: so many codes that far apart exist in any case.

    It is the largest d with

    .. math:: M \sum_{i < d} \binom{K}{i} \le 2^K

    for M codes of K bits: a new code can be chosen outside the balls of radius d - 1 around the others.

    Args:
        bits: length of a code.
        codes: number of codes.

    Example:
        >>> guaranteed_distance(16, 24), guaranteed_distance(128, 100)
        (5, 51)

    Reference:
        Gilbert, "A comparison of signalling alphabets", 1952; Varshamov, 1957.
    """
    bits, codes = as_int("bits", bits, minimum=1), as_int("codes", codes, minimum=1)
    return _largest(bits, lambda distance: codes * _ball(bits, distance - 1) <= 2**bits)


def largest_distance(bits: IntLike, codes: IntLike) -> int:
    r"""Returns a distance above which no so many codes can all be apart: Hamming's or Plotkin's.

    It is the largest d that both bounds allow for M codes of K bits,

    .. math:: M \sum_{i \le \lfloor (d - 1) / 2 \rfloor} \binom{K}{i} \le 2^K, \qquad
              d \le \frac{M K}{2 (M - 1)} .

    Args:
        bits: length of a code.
        codes: number of codes; one has no distance, and the length is returned.

    Example:
        >>> largest_distance(16, 24), largest_distance(16, 100)
        (8, 6)

    Reference:
        Hamming, "Error detecting and error correcting codes", 1950; Plotkin, "Binary codes with
        specified minimum distance", 1960.
    """
    bits, codes = as_int("bits", bits, minimum=1), as_int("codes", codes, minimum=1)
    if codes == 1:
        return bits
    return _largest(
        bits,
        lambda distance: (
            codes * _ball(bits, (distance - 1) // 2) <= 2**bits
            and 2 * distance * (codes - 1) <= codes * bits
        ),
    )


def _largest(bits: int, holds) -> int:
    """Returns the largest distance up to the length for which a condition holds; 0 for none."""
    return max((distance for distance in range(1, bits + 1) if holds(distance)), default=0)


def _ball(bits: int, radius: int) -> int:
    """Returns the number of codes within a distance of one."""
    return sum(comb(bits, i) for i in range(radius + 1))
