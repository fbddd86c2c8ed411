"""When groups are refused since pairs chain, and where that begins."""

import numpy as np
import pytest

from jaxhash.retrieval.near_duplicates.groups import assign_by_star
from jaxhash.retrieval.near_duplicates.join import DistinctCodes, Pairs, join_within
from jaxhash.retrieval.near_duplicates.links import explain_chaining, link_by_radius


def ladder(count):
    """Codes of which each differs from the one before in a bit: 0, 1, 11, 111, ..."""
    codes = np.packbits(np.tri(count, count, -1, dtype=np.uint8), axis=1)
    return DistinctCodes(codes, np.arange(count + 1), np.arange(count))


def pairs_of(distinct, radius):
    parts = list(join_within(distinct.codes, radius))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def refusal(distinct, radius, kind, items=None):
    links, _ = link_by_radius(distinct, pairs_of(distinct, radius), radius)
    return explain_chaining(links, kind, items or len(distinct.rows))


def test_a_chain_by_hand():
    """Codes 0 1 11 111 1111 at radius 1: stars {0, 1}, {11, 111}, {1111}; one component, 4 bits long."""
    chain = ladder(5)
    pairs = pairs_of(chain, 1)
    assert assign_by_star(pairs, 5).kept.tolist() == [0, 0, 2, 2, 4]
    links, components = link_by_radius(chain, pairs, 1)
    assert components.tolist() == [0] * 5
    assert links[0][1:] == (0, 0, 0, 0, 0) and links[1][1:] == (1, 5, 4, 1, 5)


def test_components_are_refused_where_one_chains():
    text = refusal(ladder(5), 1, "components", items=1000)
    for figure in (
        "`radius=1`",
        "1 of 1 groups",
        "up to 4",
        "5 items, 0.5%",
        "`radius=0`",
        "`force`",
    ):
        assert figure in text
    assert refusal(ladder(5), 4, "components") is None  # all are within 4 of the first
    assert "`radius=0`" in refusal(ladder(6), 4, "components")


@pytest.mark.parametrize(
    ("length", "items", "refused"),
    [(50, 50, False), (51, 51, True), (51, 5100, False), (52, 5100, True)],
)
def test_stars_are_refused_where_a_chain_is_long(length, items, refused):
    """Above 50 items and above 1 % of all."""
    assert (refusal(ladder(length), 1, "star", items) is not None) == refused


def test_a_large_group_of_equal_items_does_not_chain():
    codes = np.zeros((1, 8), np.uint8)
    distinct = DistinctCodes(codes, np.array([0, 1000]), np.arange(1000))
    nothing = np.empty(0, np.int64)
    links, _ = link_by_radius(distinct, Pairs(nothing, nothing, nothing.astype(np.int32)), 3)
    assert links[-1].largest == 1000
    assert (
        explain_chaining(links, "star", 1000) is explain_chaining(links, "components", 1000) is None
    )
