"""DSDH and ADSH: their codes, epoch by epoch, against loops; on one device and on eight."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.objectives import (
    Batch,
    Context,
    Setup,
    Variables,
    _asymmetric,
    asymmetric_dsh,
    dsdh,
    dsdh_released,
)
from jaxhash.ops.row_blocks import RowBlocks
from jaxhash.similarity import shares_label

BITS, ITEMS, CLASSES = 4, 18, 3
IDS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 0, -1, 0, 1], np.int32)
ONE_HOT = (IDS[:, None] == np.arange(CLASSES)).astype(np.uint8)
HOT = np.maximum(ONE_HOT, np.roll(ONE_HOT, 1, axis=0) * (np.arange(ITEMS) % 4 == 0)[:, None])
KINDS = {"ids": IDS, "multi-hot": HOT}


def setup(labels):
    return Setup(BITS, ITEMS, CLASSES, labels.ndim == 2, None, None)


def context(new_epoch=False, axis_name=None):
    return Context(jax.random.key(0), jnp.float32(0), jnp.asarray(new_epoch), None, None, axis_name)


def batch(index, labels, mask=None):
    index = np.array(index, np.int32)
    mask = np.ones(len(index), bool) if mask is None else np.array(mask)
    return Batch(None, *map(jnp.asarray, (labels[index], index, mask)))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


#: Item 15 has no label where labels are ids; items 16 and 17 are never seen. Batches are filled up to seven rows.
EPOCHS = [
    [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]],
    [[12, 3, 13, 7], [14, 15, 1, 0]],
    [[4, 2]],
]


def walk(objective, labels):
    """The results of a few steps over three epochs, with the codes of each step."""
    state = jax.jit(partial(objective.init, setup=setup(labels)))(jax.random.key(1)).state
    step = jax.jit(
        lambda state, u, batch, new_epoch: objective.loss(
            Variables((), state), u, batch, context(new_epoch)
        )
    )
    for epoch, rows in enumerate(EPOCHS):
        for number, index in enumerate(rows):
            u = normal(len(index), BITS, seed=10 * epoch + number)
            spare = 7 - len(index)
            padded = batch(index + [16] * spare, labels, np.arange(7) < len(index))
            filled = jnp.pad(u, [(0, spare), (0, 0)], constant_values=np.nan)
            result = step(state, filled, padded, epoch > 0 and number == 0)
            yield epoch, index, np.asarray(u), state, result
            for now, then in zip(*map(jax.tree.leaves, (state, result.state)), strict=True):
                assert (now.shape, now.dtype) == (then.shape, then.dtype)
            state = result.state


def value_and_slope(objective):
    """A compiled step: the result and the gradient of its value in the codes."""

    @jax.jit
    def step(state, u, batch, new_epoch=False):
        def cost(u):
            result = objective.loss(Variables((), state), u, batch, context(new_epoch))
            return result.value, result

        (_, result), slope = jax.value_and_grad(cost, has_aux=True)(u)
        return result, slope

    return step


def better_bits(codes, cost, rows):
    """Each bit in turn, of each of the rows, set to what costs less."""
    codes = codes.astype(float).copy()
    for k, i in product(range(codes.shape[1]), rows):
        tries = [np.where(np.arange(codes.shape[1]) == k, bit, codes[i]) for bit in (1.0, -1.0)]
        codes[i] = min(tries, key=partial(cost, i=i))
    return codes


# DSDH


@pytest.mark.parametrize(("kind", "sweeps"), [("ids", 1), ("multi-hot", 3)])
def test_dsdh_over_three_epochs(kind, sweeps):
    labels = KINDS[kind]
    y = (HOT if kind == "multi-hot" else ONE_HOT).astype(float)
    mu, nu, eta = 0.5, 2.0, 0.3
    objective = dsdh(mu=mu, nu=nu, penalty=eta, sweeps=sweeps)
    bank, seen, codes, last = np.zeros((ITEMS, BITS)), np.zeros(ITEMS, bool), None, 0
    changed = 0
    for epoch, index, u, before, result in walk(objective, labels):
        if codes is None:
            codes = np.asarray(before.codes.rows, float)
            assert set(codes.ravel()) == {-1.0, 1.0}
        if epoch != last:
            for _ in range(sweeps):
                rows = np.flatnonzero(seen & y.any(axis=1))
                b = codes[rows]
                w = np.linalg.solve(b.T @ b + nu / mu * np.eye(BITS), b.T @ y[rows])

                def cost(row, i, w=w):
                    of_labels = mu * np.sum((y[i] - row @ w) ** 2) if y[i].any() else 0.0
                    return of_labels + eta * np.sum((row - bank[i]) ** 2)

                found = better_bits(codes, cost, np.flatnonzero(seen))
                changed += np.sum(found != codes)
                codes = found
            np.testing.assert_allclose(result.state.of_class, w, rtol=1e-4, atol=1e-5)
            last = epoch
        bank[index], seen[index] = u, True
        np.testing.assert_array_equal(result.state.codes.rows, codes)
        np.testing.assert_array_equal(result.state.bank.codes, bank.astype(np.float32))
        similar = np.asarray(shares_label(labels[index], labels))[:, seen]
        theta = u @ bank[seen].T / 2
        likelihood = np.mean(np.log1p(np.exp(theta)) - similar * theta)
        distance = np.mean((codes[index] - u) ** 2)
        np.testing.assert_allclose(result.terms["dsdh"], likelihood, rtol=1e-5)
        np.testing.assert_allclose(result.terms["dsdh_penalty"], distance, rtol=1e-5)
        np.testing.assert_allclose(result.value, likelihood + eta * distance, rtol=1e-5)
    assert changed > 10 and np.array_equal(codes[16:], before.codes.rows[16:])


def test_codes_of_dsdh_follow_the_labels_and_not_the_bank_alone():
    """With a small eta the classes that share a code in the bank are told apart."""
    labels = np.array([0, 0, 0, 1, 1, 1] * 3, np.int32)
    objective = dsdh(mu=1.0, nu=0.1, penalty=1e-4, sweeps=5)
    state = objective.init(jax.random.key(3), setup(labels)).state
    everything, u = batch(range(ITEMS), labels), 0.1 * normal(ITEMS, BITS)
    step = value_and_slope(objective)
    for epoch in range(3):
        state = step(state, u, everything, epoch > 0)[0].state
    predicted = jnp.argmax(state.codes.rows @ state.of_class, axis=1)
    np.testing.assert_array_equal(predicted, labels)
    assert np.mean(state.codes.rows == np.sign(u)) < 0.9


def test_released_dsdh_is_the_likelihood_alone():
    labels, u = IDS, normal(3, BITS)
    values = {}
    for name, objective in {
        "released": dsdh_released(unseen="ignored"),
        "no penalty": dsdh(penalty=0.0),
        "paper": dsdh(),
        "diluted": dsdh_released(),
    }.items():
        start = objective.init(jax.random.key(0), setup(labels))
        values[name] = objective.loss(start, u, batch([0, 1, 2], labels), context())
    assert values["released"].value == values["no penalty"].value == values["paper"].terms["dsdh"]
    assert list(values["released"].terms) == ["dsdh_released"]
    seen = 3 / ITEMS  # of the images; the others cost log 2
    diluted = seen * values["released"].value + (1 - seen) * np.log(2)
    np.testing.assert_allclose(values["diluted"].value, diluted, rtol=1e-5)


def test_gradient_of_dsdh_draws_to_the_codes():
    u, rows = normal(2, BITS), batch([4, 7], IDS)
    start = dsdh().init(jax.random.key(0), setup(IDS)).state
    slope = value_and_slope(dsdh(penalty=0.7))(start, u, rows)[1]
    alone = value_and_slope(dsdh_released(unseen="ignored"))(start.bank, u, rows)[1]
    pull = 0.7 * 2 / u.size * (u - start.codes.rows[jnp.array([4, 7])])
    np.testing.assert_allclose(slope - alone, pull, atol=1e-6)


# ADSH


@pytest.fixture(params=["few", "many"])
def size(request, monkeypatch):
    """Of few images and classes, or in the way of many of them."""
    if request.param == "many":
        monkeypatch.setattr(_asymmetric, "_GROUPED_FROM", 1)
        monkeypatch.setattr(_asymmetric, "_SCATTERED_FROM", 1)
        monkeypatch.setattr(_asymmetric, "_ROWS_PER_STEP", 4)
        monkeypatch.setattr(_asymmetric, "_SETS_PER_BLOCK", 5)
    return request.param


@pytest.mark.parametrize(("kind", "balanced"), [("ids", True), ("multi-hot", False)])
def test_asymmetric_dsh_over_three_epochs(kind, balanced, size):
    labels, gamma = KINDS[kind], 20.0
    objective = asymmetric_dsh(balanced=balanced, penalty=gamma)
    all_similar = np.asarray(shares_label(labels, labels))
    bank, seen, codes, last = np.zeros((ITEMS, BITS)), np.zeros(ITEMS, bool), None, 0
    changed = 0

    def wanted(similar):
        ratio = similar.sum() / (~similar).sum()
        return np.where(similar, 1.0, -min(ratio, 1.0) if balanced else -1.0)

    for epoch, index, u, before, result in walk(objective, labels):
        if codes is None:
            codes = np.asarray(before.codes.rows, float)
            assert set(codes.ravel()) == {-1.0, 1.0}
        if epoch != last:
            rows = np.flatnonzero(seen)
            s = np.zeros((ITEMS, ITEMS))
            s[np.ix_(rows, rows)] = wanted(all_similar[np.ix_(rows, rows)])

            def cost(row, i, s=s, rows=rows):
                of_pairs = np.sum((bank[rows] @ row - BITS * s[rows, i]) ** 2)
                return of_pairs + gamma * np.sum((row - bank[i]) ** 2)

            found = better_bits(codes, cost, rows)
            changed += np.sum(found != codes)
            codes, last = found, epoch
        h = np.tanh(u)
        bank[index], seen[index] = h, True
        np.testing.assert_array_equal(result.state.codes.rows, codes)
        s = wanted(all_similar[index][:, seen])
        of_pairs = np.mean((h @ codes[seen].T / BITS - s) ** 2)
        distance = np.mean((codes[index] - h) ** 2)
        np.testing.assert_allclose(result.terms["asymmetric_dsh"], of_pairs, rtol=1e-5)
        np.testing.assert_allclose(result.terms["asymmetric_dsh_penalty"], distance, rtol=1e-5)
        expected = of_pairs + gamma / (BITS * ITEMS) * distance
        np.testing.assert_allclose(result.value, expected, rtol=1e-5)
    assert changed > 10 and np.array_equal(codes[16:], before.codes.rows[16:])


@pytest.mark.parametrize("size", ["many"], indirect=True)
@pytest.mark.parametrize("sets", [6, 17])
def test_sums_over_similar_images_by_sets_of_labels(size, sets):
    """Of few sets, and of one set for each image, against all pairs; 17 are no whole number of blocks."""
    every = np.array(list(product((0, 1), repeat=5)), np.uint8)[1 : sets + 1]
    labels = every[np.random.default_rng(0).permutation(np.arange(17) % sets)]
    rows = normal(17, 3)
    blocks = RowBlocks.of(rows=17, size=7)

    def block(number):
        return None, blocks.cut(rows, number) * blocks.are_new(number)[:, None]

    sums = jax.jit(lambda: _asymmetric._sums_over_similar(jnp.asarray(labels), blocks, block, None))
    expected = (labels.astype(int) @ labels.T > 0) @ rows
    np.testing.assert_allclose(sums(), expected, rtol=1e-5, atol=1e-5)


def test_weight_of_the_penalty_is_the_papers_sum_divided():
    """The paper's sums over one batch of all images, divided by pairs and by bits squared."""
    u, gamma = normal(ITEMS, BITS), 200.0
    objective = asymmetric_dsh(balanced=False, penalty=gamma)
    start = objective.init(jax.random.key(0), setup(IDS))
    h, v = np.tanh(np.asarray(u)), np.asarray(start.state.codes.rows)
    s = np.where(shares_label(IDS, IDS), 1.0, -1.0)
    total = np.sum((h @ v.T - BITS * s) ** 2) + gamma * np.sum((v - h) ** 2)
    value = objective.loss(start, u, batch(range(ITEMS), IDS), context()).value
    np.testing.assert_allclose(value, total / ITEMS**2 / BITS**2, rtol=1e-5)


def test_codes_of_asymmetric_dsh_by_hand():
    """12 of 36 pairs are similar: S is 1 or -1/2. The classes' codes sum to 0.4, 1 and 0."""
    labels = np.array([0, 0, 1, 1, 2, 2], np.int32)
    objective, u = asymmetric_dsh(penalty=0.0), np.arctanh([0.2, 0.2, 0.5, 0.5, 0.0, 0.0])
    state = objective.init(jax.random.key(0), Setup(1, 6, 3, False, None, None)).state
    step, u = value_and_slope(objective), jnp.asarray(u[:, None], jnp.float32)
    for epoch in range(2):
        state = step(state, u, batch(range(6), labels), epoch > 0)[0].state
    drive = np.array([0.4 - 1 / 2, 1 - 0.4 / 2, 0 - 1.4 / 2])
    np.testing.assert_array_equal(state.codes.rows[:, 0], np.sign(drive)[labels])


def test_asymmetric_dsh_without_its_penalty():
    objective = asymmetric_dsh(penalty=0.0)
    start = objective.init(jax.random.key(0), setup(IDS))
    result = objective.loss(start, normal(2, BITS), batch([0, 1], IDS), context())
    assert result.terms == {"asymmetric_dsh": result.value}


def test_codes_of_asymmetric_dsh_are_alike_within_a_class():
    """From a bank that already tells two classes apart, and with similarity as the only voice."""
    labels = np.array([0, 1] * (ITEMS // 2), np.int32)
    objective = asymmetric_dsh(penalty=0.0)
    state = objective.init(jax.random.key(3), setup(labels)).state
    u = np.where(labels == 0, 1.0, -1.0)[:, None] * np.sign(normal(1, BITS))
    u = u + 0.1 * normal(ITEMS, BITS)
    everything, step = batch(range(ITEMS), labels), value_and_slope(objective)
    for epoch in range(4):
        state = step(state, u, everything, epoch > 0)[0].state
    np.testing.assert_array_equal(state.codes.rows, np.sign(u))


# Both


@pytest.mark.parametrize("make", [dsdh, asymmetric_dsh])
def test_multi_hot_rows_of_one_label_are_the_ids(make, size):
    for one, other in zip(walk(make(), IDS), walk(make(), ONE_HOT), strict=True):
        np.testing.assert_allclose(one[-1].value, other[-1].value, rtol=1e-6)
        np.testing.assert_array_equal(one[-1].state.codes.rows, other[-1].state.codes.rows)
