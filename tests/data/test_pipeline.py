"""The pipeline: complete, seeded, resumable, and independent of the number of processes."""

import json
from itertools import islice

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxhash.data.augment import Augment
from jaxhash.data.pipeline import evaluation_batches, training_batches
from jaxhash.data.sources import Source
from jaxhash.objectives import Batch

IMAGES = np.random.default_rng(0).integers(1, 256, (40, 5, 5, 1)).astype(np.uint8)
SOURCE = Source("random", IMAGES, np.arange(40, dtype=np.int32) % 7, tuple("abcdefg"))
ITEMS = np.random.default_rng(1).permutation(40)[:21]  # three batches of 8, the last one short
STILL = Augment()

property_test = hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
sizes = {"n": st.integers(1, 40), "batch_size": st.integers(1, 50)}


def training(items=ITEMS, batch_size=8, seed=0, augment=STILL, **options):
    return training_batches(
        SOURCE, items, batch_size=batch_size, seed=seed, augment=augment, **options
    )


def evaluation(items=ITEMS, batch_size=8):
    return evaluation_batches(SOURCE, items, batch_size=batch_size)


def first(n, batches):
    return list(islice(batches, n))


def assert_same(batches, others):
    """Bit for bit, with equal dtypes."""
    for batch, other in zip(batches, others, strict=True):
        for array, of_other in zip(batch, other, strict=True):
            assert array.dtype == of_other.dtype
            np.testing.assert_array_equal(array, of_other)


def rows(batches):
    """The rows of the batches that are not padding."""
    return np.concatenate([batch.index[batch.mask] for batch in batches])


@property_test
@hypothesis.given(**sizes)
def test_each_epoch_holds_each_item_once(n, batch_size):
    steps = -(-n // batch_size)
    batches = first(2 * steps, training(np.arange(n), batch_size))
    for epoch in (batches[:steps], batches[steps:]):
        np.testing.assert_array_equal(np.sort(rows(epoch)), np.arange(n))
        assert [len(batch.index) for batch in epoch] == [batch_size] * steps
        assert all(batch.mask.all() for batch in epoch[:-1])


@pytest.mark.parametrize("batches", [training, evaluation])
def test_rows_fit_each_other(batches):
    """Inputs and labels are those of the item; the index counts in the items given."""
    for batch in first(3, batches()):
        assert batch.index.dtype == np.int32 and batch.mask.dtype == bool
        items = ITEMS[batch.index[batch.mask]]
        np.testing.assert_array_equal(batch.inputs[batch.mask], IMAGES[items])
        np.testing.assert_array_equal(batch.labels[batch.mask], SOURCE.labels[items])


def test_order_and_augmentation_change_from_epoch_to_epoch():
    batches = first(6, training(augment=Augment(2, True)))
    epochs = batches[:3], batches[3:]
    assert (rows(epochs[0]) != rows(epochs[1])).any()
    inputs = [np.concatenate([batch.inputs[batch.mask] for batch in epoch]) for epoch in epochs]
    ordered = [x[np.argsort(rows(epoch))] for x, epoch in zip(inputs, epochs, strict=True)]
    same = (ordered[0] == ordered[1]).all(axis=(1, 2, 3))
    assert same.mean() < 0.3  # by chance one in 50


def test_batches_are_fixed_by_the_seed():
    augment = Augment(1, True)
    batches = first(6, training(augment=augment))
    assert_same(first(6, training(augment=augment)), batches)
    others = first(6, training(augment=augment, seed=1))
    assert (rows(others) != rows(batches)).any()


def test_augmentation_is_fixed_by_the_seed():
    """Batches of one item, so that the order cannot tell the seeds apart."""
    one = dict(items=ITEMS[:1], batch_size=1, augment=Augment(2, True))
    inputs, same, others = (
        np.stack([batch.inputs for batch in first(6, training(seed=seed, **one))])
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(inputs, same)
    assert (inputs != others).any()


@pytest.mark.parametrize("done", [0, 2, 3, 4, 7])
def test_training_goes_on_where_it_stopped(done):
    """Within an epoch and across epochs, from a state that went through JSON."""
    batches = training(augment=Augment(1, True))
    first(done, batches)
    state = json.loads(json.dumps(batches.get_state()))
    resumed = training(augment=Augment(1, True))
    resumed.set_state(state)
    assert_same(first(5, resumed), first(5, batches))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_the_batches_of_one(processes):
    """Order, padding and augmentation do not depend on the number of processes."""
    augment = Augment(2, True)
    shares = zip(
        *(
            first(6, training(augment=augment, process_index=i, process_count=processes))
            for i in range(processes)
        ),
        strict=True,
    )
    joined = [Batch(*map(np.concatenate, zip(*parts, strict=True))) for parts in shares]
    assert_same(joined, first(6, training(augment=augment)))


def test_batch_that_processes_cannot_share():
    with pytest.raises(ValueError, match="batch_size 8 is no multiple of 3 processes"):
        training(process_count=3)


@property_test
@hypothesis.given(**sizes)
def test_evaluation_holds_each_item_once_in_order(n, batch_size):
    items = np.random.default_rng(n).permutation(40)[:n]
    batches = list(evaluation(items, batch_size))
    assert [len(batch.inputs) for batch in batches] == [batch_size] * -(-n // batch_size)
    np.testing.assert_array_equal(rows(batches), np.arange(n))
    inputs = np.concatenate([batch.inputs[batch.mask] for batch in batches])
    np.testing.assert_array_equal(inputs, IMAGES[items])
