"""Bounds of coding theory: tabled values, small codes by exhaustion, and limits."""

import itertools

import pytest

from jaxhash.ops.code_bounds import guaranteed_distance, largest_distance

#: By number of codes: the guaranteed and the largest distance at 16, 32, 64 and 128 bits.
TABLE = {
    24: [(5, 8), (11, 16), (25, 33), (54, 66)],
    81: [(4, 8), (10, 16), (23, 32), (51, 64)],
    100: [(3, 6), (9, 16), (23, 32), (51, 64)],
}


@pytest.mark.parametrize("codes", TABLE)
def test_bounds_of_the_table(codes):
    found = [
        (guaranteed_distance(bits, codes), largest_distance(bits, codes))
        for bits in (16, 32, 64, 128)
    ]
    assert found == TABLE[codes]


@pytest.mark.parametrize(("bits", "codes"), [(3, 2), (3, 4), (4, 2), (4, 3), (5, 2), (5, 4)])
def test_the_best_code_lies_between_the_bounds(bits, codes):
    """The best of all sets of so many codes, of which one may be 0."""
    best = max(
        min(bin(a ^ b).count("1") for a, b in itertools.combinations((0, *others), 2))
        for others in itertools.combinations(range(1, 2**bits), codes - 1)
    )
    assert guaranteed_distance(bits, codes) <= best <= largest_distance(bits, codes)


def test_more_codes_than_there_are_have_no_distance():
    assert guaranteed_distance(2, 5) == largest_distance(2, 5) == 0
    assert largest_distance(7, 1) == 7
    with pytest.raises(ValueError, match="bits"):
        guaranteed_distance(0, 2)
