"""Batches of P classes with K items each."""

import json
from itertools import islice

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from jaxhash.data.augment import Augment
from jaxhash.data.class_batches import PADDING, ClassBatchOrder
from jaxhash.data.pipeline import training_batches
from jaxhash.data.sources import Source
from jaxhash.utils.errors import UserError

LABELS = np.repeat(np.arange(5), (8, 8, 3, 20, 9))
SOURCE = Source("random", np.arange(48, dtype=np.float32)[:, None], LABELS, tuple("abcde"))
ITEMS = np.random.default_rng(0).permutation(48)[:45]


def training(**options):
    options = {"batch_size": 12, "batch_classes": 3, "seed": 0, "augment": Augment()} | options
    return training_batches(SOURCE, ITEMS, **options)


def first(n, batches):
    return list(islice(batches, n))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        jax.tree.map(np.testing.assert_array_equal, batch, other)


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6), data=st.data(), k=st.integers(1, 5)
)
def test_a_batch_has_k_different_items_of_p_different_classes(sizes, data, k):
    """A class with fewer than K gives all it has; labels need not be without gaps."""
    labels = np.random.default_rng(0).permutation(np.repeat(3 * np.arange(len(sizes)) + 2, sizes))
    p = data.draw(st.integers(1, len(sizes)))
    order = ClassBatchOrder(labels, batch_size=p * k, batch_classes=p, seed=1)
    for epoch in range(3):
        rows = order(epoch).reshape(-1, p, k)
        assert len(rows) == -(-len(labels) // (p * k))
        for batch in rows:
            classes = [set(labels[group[group != PADDING]].tolist()) for group in batch]
            assert all(len(ids) == 1 for ids in classes) and len(set.union(*classes)) == p
            for group, (label,) in zip(batch, classes, strict=True):
                items = group[group != PADDING]
                assert len(set(items.tolist())) == len(items) == min(k, (labels == label).sum())


def test_equally_large_classes_are_in_an_epoch_once():
    labels = np.arange(60) % 6
    order = ClassBatchOrder(labels, batch_size=10, batch_classes=2, seed=0)
    for epoch in range(3):
        np.testing.assert_array_equal(np.sort(order(epoch)), np.arange(60))


def test_classes_take_turns():
    """However large they are; and the items of each do."""
    order = ClassBatchOrder(LABELS, batch_size=4, batch_classes=2, seed=0)
    rows = np.concatenate([order(epoch)[order(epoch) != PADDING] for epoch in range(1)])
    turns = np.bincount(LABELS[rows]) / 2
    assert turns.max() - turns.min() <= 1
    for label in range(5):
        dealt = np.bincount(rows[LABELS[rows] == label])[LABELS.searchsorted(label) :]
        assert dealt.max() - dealt.min() <= 1


def test_order_changes_with_epoch_and_seed():
    one, other = (ClassBatchOrder(LABELS, batch_size=12, batch_classes=3, seed=s) for s in range(2))
    assert (one(0) != one(1)).any() and (one(0) != other(0)).any()
    np.testing.assert_array_equal(
        one(0), ClassBatchOrder(LABELS, batch_size=12, batch_classes=3, seed=0)(0)
    )


def test_batches_of_the_pipeline_are_those_of_the_order():
    rows = ClassBatchOrder(LABELS[ITEMS], batch_size=12, batch_classes=3, seed=0)
    for number, batch in enumerate(first(8, training())):
        expected = rows(number // 4).reshape(-1, 12)[number % 4]
        np.testing.assert_array_equal(batch.index, expected)
        np.testing.assert_array_equal(batch.mask, expected != PADDING)
        items = ITEMS[batch.index[batch.mask]]
        np.testing.assert_array_equal(batch.labels[batch.mask], LABELS[items])
        np.testing.assert_array_equal(batch.inputs[batch.mask], SOURCE.inputs[items])


@pytest.mark.parametrize("done", [0, 3, 4, 6])
def test_batches_go_on_where_they_stopped(done):
    expected = first(done + 6, training())[done:]
    assert_same(first(6, training(start=done)), expected)
    batches = training()
    first(done, batches)
    resumed = training()
    resumed.set_state(json.loads(json.dumps(batches.get_state())))
    assert_same(first(6, resumed), expected)


def test_processes_share_the_batches_of_one():
    shares = [first(6, training(process_index=i, process_count=4)) for i in range(4)]
    joined = [
        jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
        for parts in zip(*shares, strict=True)
    ]
    assert_same(joined, first(6, training()))


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        (np.eye(4, dtype=np.uint8), {}, "several labels"),
        (np.array([0, 1, -1, 2]), {}, "1 training items have none"),
        (np.array([0, 1, 2, 2]), {"batch_size": 5}, "must divide `batch_size=5`"),
        (np.array([0, 0, 0, 0]), {}, "above the number of classes of training items, 1"),
    ],
)
def test_labels_that_allow_no_such_batches_are_refused(labels, options, words):
    with pytest.raises(UserError, match=words) as raised:
        ClassBatchOrder(labels, **{"batch_size": 4, "batch_classes": 2, "seed": 0} | options)
    assert "`batch_classes=2`" in str(raised.value) and "\n" not in str(raised.value)
