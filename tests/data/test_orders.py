"""The order of an epoch: complete, seeded, the same for any range of places, windowed by blocks."""

import numpy as np
import pytest

from jaxhash.data import orders
from jaxhash.data.orders import epoch_order, item_order
from jaxhash.data.rows import Blocks

ITEMS = np.sort(np.random.default_rng(0).choice(100, 53, replace=False))
BLOCKS = Blocks(np.array([0, 10, 25, 26, 60, 90]), 2)


@pytest.fixture(params=["held", "computed", "windowed", "windowed, items in another order"])
def make(request, monkeypatch):
    """A function from a seed to an order of 53 items."""
    if request.param == "computed":
        monkeypatch.setattr(orders, "MAX_HELD_ORDER", 10)
    items = np.random.default_rng(1).permutation(ITEMS) if "other" in request.param else ITEMS
    blocks = BLOCKS if request.param.startswith("windowed") else None
    return lambda seed=0: epoch_order(items, seed, blocks)


def test_each_epoch_holds_each_row_once_in_an_order_of_its_own(make):
    order = make()
    epochs = [order(epoch, slice(0, 53)) for epoch in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(53))
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
    assert (make(seed=1)(0, slice(0, 53)) != epochs[0]).any()


def test_any_range_of_places_is_part_of_the_whole(make):
    """Also in an order made anew, as after a restart, and out of turn."""
    whole = [make()(epoch, slice(0, 53)) for epoch in range(2)]
    order = make()
    for epoch, start, stop in ((1, 48, 64), (0, 0, 16), (1, 0, 1), (0, 13, 47), (0, 52, 53)):
        np.testing.assert_array_equal(order(epoch, slice(start, stop)), whole[epoch][start:stop])


def test_up_to_the_limit_the_order_is_a_permutation_of_numpy():
    """Stored runs depend on it."""
    expected = np.random.default_rng([7, 2]).permutation(53)
    np.testing.assert_array_equal(epoch_order(ITEMS, 7)(2, slice(0, 53)), expected)
    assert orders.MAX_HELD_ORDER == 2**24


@pytest.mark.parametrize("window", [1, 2, 3, 9])
def test_a_window_holds_the_items_of_its_blocks_alone(window):
    order = epoch_order(ITEMS, 0, BLOCKS._replace(window=window))(0, slice(0, 53))
    assert (np.diff(order) == 1).mean() < 0.3  # shuffled within it
    block = np.searchsorted(BLOCKS.starts, ITEMS[order], side="right") - 1
    places = {number: np.flatnonzero(block == number) for number in np.unique(block)}
    turns = sorted(places, key=lambda number: places[number].min())
    sizes = [len(places[number]) for number in np.unique(block)]
    found, start = [], 0
    while start < 53:
        here = set(block[start:])
        end = start
        held = set()
        while end < 53 and (block[end] in held or len(held) < window):
            held.add(block[end])
            end += 1
        assert all(set(places[number]) <= set(range(start, end)) for number in held)
        found.append(held)
        start = end
        assert here
    assert sum(map(len, found)) == len(sizes) == len(turns)


def test_a_computed_order_scatters_neighbors(monkeypatch):
    monkeypatch.setattr(orders, "MAX_HELD_ORDER", 10)
    order = epoch_order(np.arange(20_000), 3)(0, slice(0, 2000))
    assert abs(order.mean() - 10_000) < 600 and (np.abs(np.diff(order)) < 20).mean() < 0.02


def test_the_order_of_evaluation_is_that_of_the_items():
    np.testing.assert_array_equal(item_order(10)(4, slice(8, 12)), [8, 9])
