"""The pipeline: complete, seeded, resumable, and independent of the number of processes."""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from jaxhash.data.augment import Augment
from jaxhash.data.pipeline import evaluation_batches, training_batches
from jaxhash.data.sources import Source
from jaxhash.training.members import StackedBatches
from jaxhash.utils.errors import UserError

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
    """Bit for bit, with equal dtypes, and as many views."""
    for batch, other in zip(batches, others, strict=True):
        assert isinstance(batch.inputs, tuple) == isinstance(other.inputs, tuple)
        arrays, of_other = map(jax.tree.leaves, (batch, other))
        for array, expected in zip(arrays, of_other, strict=True):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)


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


def test_the_bits_stay_what_they_are():
    """Stored results depend on them."""
    digest = hashlib.sha256()
    for batch in first(7, training(seed=3, augment=Augment(2, True), views=2)):
        for leaf in jax.tree.leaves(batch):
            digest.update(str(leaf.dtype).encode() + leaf.tobytes())
    assert digest.hexdigest()[:16] == "56c232566f4ffc4d"


@pytest.mark.parametrize("start", [1, 3, 7])
@pytest.mark.parametrize("processes, augment_on", [(1, "host"), (2, "host"), (1, "device")])
def test_training_begins_at_any_batch(start, processes, augment_on):
    options = dict(
        augment=Augment(2, True),
        augment_on=augment_on,
        process_index=processes - 1,
        process_count=processes,
    )
    expected = first(start + 4, training(**options))[start:]
    assert_same(first(4, training(start=start, **options)), expected)


@pytest.mark.parametrize("number", [1, 2])
def test_the_device_makes_of_the_numbers_drawn_what_the_host_makes(number):
    augment = Augment(2, True)
    handed = first(4, training(augment=augment, views=number, augment_on="device"))
    for batch in handed:
        assert len(batch.inputs.samples) == number and batch.inputs.samples[0].dtype == np.int32
        items = ITEMS[np.where(batch.mask, batch.index, 0)]
        np.testing.assert_array_equal(batch.inputs.images, IMAGES[items])
    moved = [batch._replace(inputs=augment.on_device(batch.inputs)) for batch in handed]
    assert_same(
        [jax.tree.map(np.asarray, batch) for batch in moved],
        first(4, training(augment=augment, views=number)),
    )


class Asleep:
    """Inputs that know whether JAX has devices where they are read."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, rows):
        if multiprocessing.parent_process() is not None:
            from jax._src import xla_bridge

            assert not xla_bridge.backends_are_initialized()
        return IMAGES[rows]


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_bring_the_same_batches(workers, monkeypatch):
    """From any start, of any process, from any position; JAX has no devices there."""
    monkeypatch.setattr(f"{__name__}.SOURCE", dataclasses.replace(SOURCE, inputs=Asleep()))
    options = dict(augment=Augment(2, True), start=2, process_index=1, process_count=2)
    expected = first(9, training(**options))
    batches = training(workers=workers, **options)
    assert_same(first(5, batches), expected[:5])
    state = json.loads(json.dumps(batches.get_state()))
    assert_same(first(4, batches), expected[5:])
    batches.set_state(state)
    assert_same(first(2, batches), expected[5:7])
    threads = training(**options)
    threads.set_state(state)
    assert_same(first(2, threads), expected[5:7])


class Broken(Asleep):
    def __getitem__(self, rows):
        raise UserError("a.png: cannot be read")


def test_a_worker_says_what_went_wrong(monkeypatch):
    monkeypatch.setattr(f"{__name__}.SOURCE", dataclasses.replace(SOURCE, inputs=Broken()))
    with pytest.raises(UserError, match="^a.png: cannot be read$"):
        next(training(workers=1))


def test_workers_end_with_the_iterator():
    before = multiprocessing.active_children()
    batches = training(workers=2)
    next(batches)
    workers = set(multiprocessing.active_children()) - set(before)
    assert workers
    del batches
    assert not workers & set(multiprocessing.active_children())


def test_workers_end_with_a_process_that_is_killed(tmp_path):
    """The one that it starts tells its number, and is gone soon after its parent."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, os, signal\n"
        "from jaxhash.data.augment import Augment\n"
        "from jaxhash.data.pipeline import training_batches\n"
        "from jaxhash.data.load import load_source\n"
        "import numpy as np\n"
        "if __name__ == '__main__':\n"
        "    options = dict(batch_size=4, seed=0, augment=Augment(), workers=1)\n"
        "    batches = training_batches(load_source('digits'), np.arange(9), **options)\n"
        "    next(batches)\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    worker, end = int(done.stdout), time.monotonic() + 60
    while running(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not running(worker)


def running(process):
    """Returns whether the process exists and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("done, number", [(0, 1), (2, 1), (3, 1), (4, 1), (7, 1), (4, 2)])
def test_training_goes_on_where_it_stopped(done, number):
    """Within an epoch and across epochs, from a state that went through JSON."""
    batches = training(augment=Augment(1, True), views=number)
    first(done, batches)
    state = json.loads(json.dumps(batches.get_state()))
    resumed = training(augment=Augment(1, True), views=number)
    resumed.set_state(state)
    assert_same(first(5, resumed), first(5, batches))


@pytest.mark.parametrize("processes, number", [(1, 1), (2, 1), (4, 1), (4, 2)])
def test_processes_share_the_batches_of_one(processes, number):
    """Order, padding and augmentation do not depend on the number of processes."""
    options = dict(augment=Augment(2, True), views=number)
    shares = zip(
        *(
            first(6, training(**options, process_index=i, process_count=processes))
            for i in range(processes)
        ),
        strict=True,
    )
    joined = [jax.tree.map(lambda *rows: np.concatenate(rows), *parts) for parts in shares]
    assert_same(joined, first(6, training(**options)))


def test_the_first_of_several_views_is_the_single_one():
    augment = Augment(2, True)
    several = first(6, training(augment=augment, views=3))
    assert all(isinstance(batch.inputs, tuple) and len(batch.inputs) == 3 for batch in several)
    single = [batch._replace(inputs=batch.inputs[0]) for batch in several]
    assert_same(single, first(6, training(augment=augment)))


def test_views_are_augmented_independently():
    """By chance two views of an image are the same once in 50."""
    batches = first(20, training(augment=Augment(2, True), views=2))
    one, other = (np.concatenate([batch.inputs[i] for batch in batches]) for i in range(2))
    assert 0 < (one == other).all(axis=(1, 2, 3)).mean() < 0.1


def test_views_that_are_not_augmented_are_the_items():
    batch = next(training(views=2))
    for view in batch.inputs:
        np.testing.assert_array_equal(view, IMAGES[ITEMS[batch.index]])


def test_entries_of_vectors_are_dropped_from_each_view_and_process():
    vectors = np.ones((40, 64), np.float32)
    source = Source("vectors", vectors, SOURCE.labels, SOURCE.class_names)

    def batch(**options):
        return next(
            training_batches(
                source,
                ITEMS,
                batch_size=8,
                seed=0,
                augment=Augment(feature_dropout=0.5),
                views=2,
                **options,
            )
        )

    one, other = batch().inputs
    assert set(np.unique(one)) == set(np.unique(other)) == {0.0, 2.0}
    assert abs(np.mean(one == other) - 0.5) < 0.1
    halves = [batch(process_index=i, process_count=2).inputs for i in range(2)]
    np.testing.assert_array_equal(np.concatenate([half[1] for half in halves]), other)


def test_seeds_side_by_side_have_all_views():
    batches = StackedBatches(
        [training(augment=Augment(2, True), seed=i, views=2) for i in range(3)]
    )
    batch = next(batches)
    for number, view in enumerate(batch.inputs):
        assert view.shape == (8, 3, 5, 5, 1)
        expected = next(training(augment=Augment(2, True), seed=2, views=2)).inputs[number]
        np.testing.assert_array_equal(view[:, 2], expected)


@pytest.mark.parametrize("name, least", [("views", 1), ("start", 0), ("workers", 0)])
def test_numbers_that_are_too_small(name, least):
    with pytest.raises(ValueError, match=f"{name} must be at least {least}, got {least - 1}"):
        training(**{name: least - 1})


def test_entries_dropped_on_the_device():
    with pytest.raises(ValueError, match="feature_dropout .* on the host"):
        training(augment=Augment(feature_dropout=0.5), augment_on="device")


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
