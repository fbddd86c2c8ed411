"""Counts by distance: any number of bits, queries and devices, in no more memory than they need."""

import tracemalloc

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from oracles import frozen

from jaxhash.metrics import _counts, _values, distance_counts, leave_one_out
from jaxhash.metrics._counts import _make_counter

KINDS = ("ids", "multi-hot", "graded")


def problem(kind, bits, queries=6, items=300, seed=0):
    """Draws codes and labels of both sides, including the extreme distances."""
    rng = np.random.default_rng(seed)
    sides = []
    for n in (queries, items):
        sides.append(rng.random((n, bits)) < rng.uniform(0.2, 0.8, bits))
        sides.append(rng.integers(-1, 5, n) if kind == "ids" else rng.random((n, 6)) < 0.3)
    sides[2][:2] = sides[0][0], ~sides[0][0]
    return tuple(map(frozen, sides))


def count(sides, kind="ids", **options):
    return distance_counts(*sides, relevance="graded" if kind == "graded" else "shared", **options)


def naive_counts(query_codes, query_labels, codes, labels):
    """Counts by distance of all items, [queries, distances], and by number of labels in common."""
    distance = (query_codes[:, None] != codes).sum(axis=2)
    if query_labels.ndim == 1:
        shared = (query_labels[:, None] == labels).astype(int) * (query_labels != -1)[:, None]
    else:
        shared = query_labels.astype(int) @ labels.T.astype(int)
    at = (distance[..., None] == np.arange(query_codes.shape[1] + 1)).astype(float)
    gains = (shared[..., None] == np.arange(1, shared.max() + 1)).astype(float)
    return at.sum(axis=1), at.swapaxes(1, 2) @ gains


def assert_counts(found, sides):
    total, gains = naive_counts(*sides)
    np.testing.assert_array_equal(found.total, total)
    np.testing.assert_array_equal(found.relevant, gains.sum(axis=2))
    if found.gains is not None:
        levels = gains.shape[2]
        np.testing.assert_array_equal(found.gains[..., :levels], gains)
        assert not found.gains[..., levels:].any()


def assert_equal(some, other):
    for found, expected in zip(some, other, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert expected is None or found.dtype == expected.dtype == np.int64


@pytest.fixture(scope="module")
def one_device():
    return jax.local_devices()[:1]


@pytest.mark.parametrize("bits", [1, 7, 8, 9, 64, 256])
def test_any_number_of_bits(bits, one_device):
    sides = problem("ids", bits)
    assert_counts(count(sides, devices=one_device), sides)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [1, 64, 130])
def test_any_number_of_queries(kind, queries, one_device):
    """Also more queries than one call takes."""
    sides = problem(kind, bits=10, queries=queries, items=70)
    assert_counts(count(sides, kind, devices=one_device), sides)


@pytest.mark.parametrize("items", [1, 31, 32, 33, 255, 256, 257, 1000])
def test_any_number_of_items(items):
    sides = problem("ids", bits=5, items=max(items, 2))
    sides = (*sides[:2], *(side[:items] for side in sides[2:]))
    assert_counts(count(sides), sides)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_devices_do_not_matter(kind):
    """Blocks of 600 items: one, several, a last one that is not full, and the smallest."""
    sides = problem(kind, bits=6, queries=70, items=600)
    found = count(sides, kind)
    assert_counts(found, sides)
    for devices, block in ((1, 599), (3, 1), (3, 10**9), (8, 200)):
        some = count(sides, kind, block=block, devices=jax.local_devices()[:devices])
        assert_equal(some, found)


def test_devices_may_be_any():
    sides = problem("ids", bits=13, items=500)
    some = count(sides, devices=tuple(jax.local_devices()[i] for i in (6, 1)))
    assert_equal(some, count(sides))


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_the_database_does_not_matter(kind, one_device):
    sides = problem(kind, bits=13, items=500)
    found = count(sides, kind, devices=one_device)
    order = np.random.default_rng(1).permutation(500)
    for some in (order, np.argsort(order), np.arange(500)[::-1]):
        shuffled = (*sides[:2], *(side[some] for side in sides[2:]))
        assert_equal(count(shuffled, kind, devices=one_device, block=100), found)


def test_order_of_bits_and_their_signs_do_not_matter(one_device):
    query_codes, query_labels, codes, labels = problem("ids", bits=13)
    rng = np.random.default_rng(1)
    order, flips = rng.permutation(13), rng.random((1, 13)) < 0.5
    other = (query_codes ^ flips)[:, order], query_labels, (codes ^ flips)[:, order], labels
    found = count((query_codes, query_labels, codes, labels), devices=one_device)
    assert_equal(count(other, devices=one_device), found)


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
@hypothesis.given(data=st.data(), items=st.integers(1, 32))
def test_counts_of_anything_are_naive_counts(data, items):
    """Equal codes, labels without items, one item: cases that random problems lack."""
    bits = 9

    def array(*shape, elements):
        kind = hypothesis.extra.numpy.arrays(np.int8, shape, elements=elements)
        return frozen(data.draw(kind))

    codes, labels = st.sampled_from([0, 1]), st.integers(-1, 2)
    sides = tuple(
        side
        for n in (3, items)
        for side in (array(n, bits, elements=codes), array(n, elements=labels))
    )
    assert_counts(count(sides, devices=jax.local_devices()[:1]), sides)


@pytest.mark.parametrize("items", [2, 3])
def test_no_item_is_relevant_to_a_query_without_label(items):
    codes = np.ones((items, 4), bool)
    for labels in (np.full(items, -1), np.zeros((items, 3), bool)):
        for relevance in ("shared", "equal", "graded"):
            some = distance_counts(codes, labels, codes, labels, relevance=relevance)
            assert some.total[:, 0].tolist() == [items] * items
            assert not some.relevant.any()


@pytest.mark.parametrize(("block", "devices"), [(0, 1), (-1, 1), (None, 0), (10, 0)])
def test_no_block_or_no_devices_are_refused(block, devices):
    with pytest.raises(ValueError, match="block and devices"):
        count(problem("ids", bits=3), block=block, devices=jax.local_devices()[:devices])


# Memory


def counter_memory(kind, queries, words, bits=16, classes=6):
    """Returns the bytes that a call needs besides its arguments and results."""
    devices = tuple(jax.local_devices()[:1])
    multi_hot, levels = kind != "ids", 3 if kind == "graded" else 1
    counter = _make_counter(bits, multi_hot, levels, devices, None)
    shapes = [(queries, bits), (queries, classes), (bits, words), (classes, words), (1, words)]
    arguments = [jax.ShapeDtypeStruct(shape, np.uint32) for shape in shapes]
    return counter.lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_memory_of_a_call_is_that_of_one_query(kind):
    """More queries add the memory of their counts, not one bit per pair."""
    queries, words = 512, 2048
    added = counter_memory(kind, queries, words) - counter_memory(kind, 2, words)
    assert added < queries * words * 4 / 16


def test_memory_on_the_host_is_that_of_the_database(one_device):
    """A byte per pair would take 16 times the memory of the codes, a bit per pair twice."""
    queries, items, bits = 256, 100_000, 16
    rng = np.random.default_rng(0)
    codes = rng.choice(np.array([-1, 1], np.int8), (items, bits))
    labels = rng.integers(2, size=items)
    sides = codes[:queries], labels[:queries], codes, labels
    count(sides, devices=one_device, block=2**14)  # what is compiled stays
    tracemalloc.start()
    count(sides, devices=one_device, block=2**14)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < queries * items / 4


@pytest.mark.parametrize("labels", ["ids", "multi-hot"])
def test_labels_take_the_memory_of_a_block(one_device, labels, monkeypatch):
    """Ids in int64 alone would take eight bytes an item."""
    monkeypatch.setattr(_values, "_VALUES", 2**13)
    rng, peaks = np.random.default_rng(0), {}
    for items in (2**15, 2**17):
        codes = rng.integers(0, 256, (items, 2), np.uint8)
        held = rng.integers(9, size=items) if labels == "ids" else rng.random((items, 9)) < 0.2
        sides = codes[:8], held[:8], codes, held
        count(sides, devices=one_device, block=2**13)  # what is compiled stays
        tracemalloc.start()
        count(sides, devices=one_device, block=2**13)
        peaks[items] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[2**17] - peaks[2**15] < 2**17 / 2


@pytest.mark.parametrize("relevance", ["shared", "graded"])
def test_batched_queries_count_as_single_ones(monkeypatch, relevance):
    """Queries are batched on an accelerator, which a single query would leave idle."""
    rng = np.random.default_rng(0)
    sides = [
        part for n in (70, 300) for part in (rng.random((n, 20)) < 0.5, rng.random((n, 4)) < 0.4)
    ]
    alone = distance_counts(*sides, relevance=relevance)
    made = _counts._make_counter
    monkeypatch.setattr(_counts, "_make_counter", lambda *options: made(*options[:-1], 16))
    for found, expected in zip(distance_counts(*sides, relevance=relevance), alone, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("labels", ["ids", "multi-hot"])
@pytest.mark.parametrize("relevance", ["shared", "equal", "graded"])
def test_leave_one_out_counts_the_others(labels, relevance):
    rng = np.random.default_rng(0)
    codes = rng.choice([-1, 1], (40, 4)).astype(np.int8)  # many are equal
    of = rng.integers(-1, 3, 40) if labels == "ids" else rng.random((40, 5)) < 0.3
    together = distance_counts(codes, of, codes, of, relevance=relevance)
    found = leave_one_out(together)
    assert found.total.sum() == together.total.sum() - 40
    for i in range(len(codes)):
        others = np.delete(codes, i, 0), np.delete(of, i, 0)
        alone = distance_counts(codes[[i]], of[[i]], *others, relevance=relevance)
        np.testing.assert_array_equal(found.total[[i]], alone.total)
        np.testing.assert_array_equal(found.relevant[[i]], alone.relevant)
        if relevance == "graded":
            levels = alone.gains.shape[2]  # the query has no more labels than that
            np.testing.assert_array_equal(found.gains[[i], :, :levels], alone.gains)
            assert not found.gains[i, :, levels:].any()
        else:
            assert found.gains is None


def test_leave_one_out_does_not_modify_its_argument():
    codes, labels = np.array([[1, 1], [1, -1]], np.int8), np.array([[1, 1], [0, 1]])
    counts = distance_counts(codes, labels, codes, labels, relevance="graded")
    before = [part.copy() for part in counts]
    leave_one_out(counts)
    np.testing.assert_equal(list(counts), before)


def test_leave_one_out_refuses_queries_outside_the_database():
    codes = np.array([[1, 1], [1, -1]], np.int8)
    labels = np.array([0, 1])
    with pytest.raises(ValueError, match="leave_one_out"):
        leave_one_out(distance_counts(codes, labels, codes[:1], labels[:1]))


@pytest.mark.parametrize(
    ("queries", "items", "message"),
    [
        ((3, 8), (5, 9), "8 bits.* 9"),
        ((0, 8), (5, 8), r"query codes.*\(0, 8\)"),
        ((3, 8), (0, 8), r"database codes.*\(0, 8\)"),
    ],
)
def test_sides_that_do_not_fit_or_are_empty_are_an_error(unchecked, queries, items, message):
    codes, others = np.ones(queries, np.int8), np.ones(items, np.int8)
    with pytest.raises(ValueError, match=message):
        distance_counts(codes, np.zeros(len(codes), int), others, np.zeros(len(others), int))
