"""Memory banks: blocks of a large one, and the ring buffer of the last rows."""

from collections import deque
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash import losses
from jaxhash.objectives import (
    METHODS,
    Bank,
    Batch,
    Context,
    Setup,
    Variables,
    _discrete,
    _pairs,
    asymmetric_dsh,
    dsah,
    dsdh,
    hashnet,
)
from jaxhash.objectives._banks import empty_recent_bank, update_recent_bank

BITS, ITEMS, CLASSES, ROWS = 4, 50, 3, 7


def context(progress=0.0):
    return Context(jax.random.key(0), jnp.float32(progress), jnp.bool_(False), None, None, None)


def setup(multi_label=False, items=ITEMS, bits=BITS):
    return Setup(bits, items, CLASSES, multi_label, None, None)


def batches(multi_label=False, steps=3, items=ITEMS):
    """Yields codes and batches; the last two rows are padding."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        labels = rng.integers(-1, CLASSES, ROWS).astype(np.int32)
        if multi_label:
            labels = rng.random((ROWS, CLASSES)) < 0.4
        index = rng.permutation(items)[:ROWS].astype(np.int32)
        rows = Batch(None, labels, index, np.arange(ROWS) < ROWS - 2)
        yield (
            jnp.asarray(rng.normal(size=(ROWS, BITS)), jnp.float32),
            jax.tree.map(jnp.asarray, rows),
        )


def run(objective, multi_label=False):
    """Returns values, gradients and the last state of some steps."""
    start = objective.init(jax.random.key(0), setup(multi_label))
    state = start.state

    @jax.jit
    def step(codes, state, batch):
        def value(codes):
            found = objective.loss(start._replace(state=state), codes, batch, context())
            return found.value, found.state

        return jax.value_and_grad(value, has_aux=True)(codes)

    found = []
    for codes, batch in batches(multi_label):
        (value, state), gradient = step(codes, state, batch)
        found.append((value, gradient))
    return found, state


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 8 rows, which do not divide the bank."""
    monkeypatch.setattr(_pairs, "MAX_PAIRS", 0)
    monkeypatch.setattr(_pairs, "BLOCK_PAIRS", 8 * ROWS)


@pytest.mark.parametrize(
    "name, options, multi_label",
    [
        ("hashnet", {"unseen": "dissimilar"}, False),
        ("dpsh", {}, True),
        ("lcdsh", {"pairs": "bank"}, False),
        ("dbdh", {"pairs": "bank"}, False),
        ("idhn", {"pairs": "bank"}, True),
        ("dfh", {"steps": 2, "margin": 2.0}, False),
        ("dch", {"pairs": "bank"}, False),
        ("dsh", {"pairs": "bank"}, False),
        ("qsmih", {"pairs": "bank"}, False),
        ("wglhh", {"pairs": "bank"}, False),
        ("hashnet", {"bank_size": 13}, True),
        ("asymmetric-dsh", {}, False),
    ],
)
def test_blocks_are_one_block(request, name, options, multi_label):
    objective = METHODS[name].make(**options)
    whole = run(objective, multi_label)
    request.getfixturevalue("small_blocks")
    # A row without a label is dissimilar to itself: dch divides the rounding of its distance by 1e-3.
    compare = partial(np.testing.assert_allclose, rtol=2e-5, atol=5e-6)
    jax.tree.map(compare, run(objective, multi_label), whole)


def random_bank(seen):
    rng = np.random.default_rng(1)
    bank = Bank(
        rng.normal(size=(ITEMS, BITS)).astype(np.float32),
        rng.integers(0, CLASSES, ITEMS).astype(np.int32),
        seen,
    )
    return jax.tree.map(jnp.asarray, bank)


def test_gradients_of_blocks_are_those_of_finite_differences(small_blocks):
    codes, batch = next(batches())
    bank = random_bank(np.arange(ITEMS) % 3 > 0)

    loss = partial(losses.hashnet, scale=0.5)

    def value(codes):
        return _pairs.loss_over_bank(loss, jnp.asarray(codes), batch, bank, axis_name=None)

    check_grads(value, (codes,), order=1, modes=("fwd", "rev"), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("seen, compared", [([], 0), ([0], 1), ([3, 30, 49], 3), (range(50), 7)])
def test_a_block_without_a_row_that_was_seen_is_not_compared(small_blocks, seen, compared):
    codes, batch = next(batches())
    blocks = []

    def loss(codes, others, similar, **options):
        jax.debug.callback(lambda: blocks.append(1))
        return losses.mean_likelihood(codes, others, similar, **options)

    bank = random_bank(np.isin(np.arange(ITEMS), list(seen)))
    value = jax.jit(lambda c: _pairs.loss_over_bank(loss, c, batch, bank, axis_name=None))(codes)
    jax.effects_barrier()
    assert len(blocks) == compared
    where = batch.mask[:, None] & bank.seen[None, :]
    similar = (batch.labels[:, None] == bank.labels[None, :]) & (batch.labels[:, None] >= 0)
    expected = losses.mean_likelihood(codes, bank.codes, similar, where=where)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_numbers_of_pairs_above_int32():
    """2^32 pairs of 2 similar ones to 2 others: an int32 would be 0."""
    rows = jnp.full(1 << 16, 1 << 15, jnp.int32)
    assert _pairs._sum_counts(rows, None) == 2.0**31
    shape = jax.ShapeDtypeStruct((1 << 16, 1 << 16), bool)
    count = jax.eval_shape(lambda where: losses._common.pair_count(where, None), shape)
    assert count.dtype == jnp.float32


def temporary_bytes(items):
    objective, of_setup = hashnet(), setup(items=items, bits=16)
    shapes = jax.eval_shape(lambda: objective.init(jax.random.key(0), of_setup))
    codes = jax.ShapeDtypeStruct((32, 16), jnp.float32)
    ids = jax.ShapeDtypeStruct((32,), jnp.int32)
    batch = Batch(None, ids, ids, jax.ShapeDtypeStruct((32,), bool))

    def step(state, codes, batch):
        def value(codes):
            found = objective.loss(Variables((), state), codes, batch, context())
            return found.value, found.state

        return jax.value_and_grad(value, has_aux=True)(codes)

    step = jax.jit(step, donate_argnums=0)
    return step.lower(shapes.state, codes, batch).compile().memory_analysis().temp_size_in_bytes


def test_memory_of_a_step_does_not_grow_with_the_bank():
    """Beside the bank itself, it is that of a block."""
    least = _pairs.MAX_PAIRS // 32 + 1
    sizes = [temporary_bytes(items) for items in (least, 8 * least)]
    assert sizes[0] == sizes[1] < 32 * _pairs.BLOCK_PAIRS


# Codes of all images, once an epoch


def after_an_epoch(objective, multi_label):
    """Returns the state after three steps, of which an epoch ends before the last."""
    start = objective.init(jax.random.key(0), setup(multi_label))
    state = start.state
    loss = jax.jit(
        lambda state, codes, batch, new_epoch: objective.loss(
            start._replace(state=state), codes, batch, context()._replace(new_epoch=new_epoch)
        )
    )
    for number, (codes, batch) in enumerate(batches(multi_label)):
        state = loss(state, codes, batch, jnp.bool_(number == 2)).state
    return state


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    "make", [partial(dsdh, sweeps=2), partial(asymmetric_dsh, penalty=1.0), dsah]
)
def test_codes_of_all_images_by_blocks(monkeypatch, make, multi_label):
    """Blocks of 8 of 50 rows."""
    whole = after_an_epoch(make(), multi_label)
    monkeypatch.setattr(_discrete, "_ROWS_PER_BLOCK", 8)
    compare = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(compare, after_an_epoch(make(), multi_label), whole)
    start = make().init(jax.random.key(0), setup(multi_label)).state
    assert (whole.codes.rows != start.codes.rows).any()


def bytes_of_step(objective, items, bits, classes):
    """Returns the memory of a compiled step beside its arguments, which it may overwrite."""
    of_setup = Setup(bits, items, classes, False, None, None)
    start = jax.eval_shape(lambda: objective.init(jax.random.key(0), of_setup))
    ids = jax.ShapeDtypeStruct((32,), jnp.int32)
    batch = Batch(None, ids, ids, jax.ShapeDtypeStruct((32,), bool))

    def step(state, codes, batch, new_epoch):
        of_step = context()._replace(new_epoch=new_epoch)
        return objective.loss(start._replace(state=state), codes, batch, of_step)

    codes, flag = jax.ShapeDtypeStruct((32, bits), jnp.float32), jax.ShapeDtypeStruct((), bool)
    program = jax.jit(step, donate_argnums=0).lower(start.state, codes, batch, flag).compile()
    return program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("make", "blocks"), [(dsdh, 2), (asymmetric_dsh, 2), (dsah, 3)])
def test_neither_labels_nor_codes_of_all_images_are_copied(make, blocks):
    """Of 2^20 images labels would be a matrix of 839 MB, and tables of codes of 268 MB each."""
    items, block = 1 << 20, _discrete._ROWS_PER_BLOCK
    labels = blocks * block * 800 + 6 * items * 32
    assert bytes_of_step(make(), items, 8, 200) < labels < items * 800
    new_codes, of_block = items * 256, block * 256
    assert bytes_of_step(make(), items, 64, 10) < new_codes + 5 * of_block < 2.5 * new_codes


# The last rows


class NaiveRecentBank:
    """The last rows as a queue; an image that comes again leaves its older row empty."""

    def __init__(self, size):
        self.rows = deque(maxlen=size)

    def add(self, codes, batch):
        for code, label, item, valid in zip(codes, *batch[1:], strict=True):
            if valid:
                self.rows = deque(
                    (None if row is None or row[0] == item else row for row in self.rows),
                    maxlen=self.rows.maxlen,
                )
                self.rows.append((int(item), label, np.asarray(code)))

    @property
    def filled(self):
        return [row for row in self.rows if row is not None]


@pytest.mark.parametrize("size", [3, 5, 12, 23])
@pytest.mark.parametrize("multi_label", [False, True])
def test_recent_bank_is_a_queue(size, multi_label):
    """Few items, so that many come again; the smallest bank is smaller than a batch."""
    items = 23
    objective, naive = hashnet(scale=1.0, bank_size=size), NaiveRecentBank(size)
    state = objective.init(jax.random.key(0), setup(multi_label, items=items)).state
    loss = jax.jit(lambda *args: objective.loss(Variables((), args[0]), *args[1:], context()))
    for codes, batch in batches(multi_label, steps=9, items=items):
        value, state, _ = loss(state, codes, batch)
        naive.add(np.tanh(codes), batch)
        found = {int(item): row for row, item in enumerate(state.items) if item >= 0}
        assert sorted(found) == sorted(item for item, _, _ in naive.filled)
        for item, label, code in naive.filled:
            np.testing.assert_array_equal(state.labels[found[item]], label)
            np.testing.assert_allclose(state.codes[found[item]], code, rtol=1e-6)
        others = jnp.array([code for _, _, code in naive.filled])
        labels = np.array([label for _, label, _ in naive.filled])
        if multi_label:
            similar = np.asarray(batch.labels, int) @ labels.T > 0
        else:
            similar = (np.asarray(batch.labels)[:, None] == labels) & (labels >= 0)
        where = np.asarray(batch.mask)[:, None] & np.ones(len(others), bool)
        expected = losses.hashnet(jnp.tanh(codes), others, similar, scale=1.0, where=where)
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_of_an_image_twice_in_a_batch_the_last_row_counts():
    objective = hashnet(bank_size=4)
    state = objective.init(jax.random.key(0), setup()).state
    codes = jnp.array([[1.0] * BITS, [-1.0] * BITS, [2.0] * BITS])
    batch = Batch(None, jnp.zeros(3, jnp.int32), jnp.array([7, 8, 7]), jnp.ones(3, bool))
    state = objective.loss(Variables((), state), codes, batch, context()).state
    assert state.items.tolist() == [-1, 8, 7, -1]
    assert state.next == 3


@pytest.mark.parametrize(
    "options", [{"pairs": "batch"}, {"unseen": "dissimilar"}, {"bank_size": ITEMS + 1}]
)
def test_a_recent_bank_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="bank_size"):
        hashnet(**{"bank_size": 5, **options}).init(jax.random.key(0), setup())


def test_no_two_rows_of_a_batch_are_written_at_one_position():
    """Of more rows than the bank has, the last stay, in whatever order rows are written."""

    class Writes:
        @property
        def at(self):
            return self

        def __getitem__(self, positions):
            self.positions = positions
            return self

        def set(self, codes, *, mode):
            return self

    writes, (codes, batch) = Writes(), next(batches())
    bank = empty_recent_bank(3, setup())._replace(codes=writes, next=jnp.int32(2))
    update_recent_bank(bank, codes, batch, context())
    assert writes.positions.tolist() == [3, 3, 1, 2, 0, 3, 3]  # 3 is dropped
