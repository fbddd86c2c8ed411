import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.objectives import Batch, Context, Setup, Variables, hashnet

BITS, ITEMS, CLASSES = 3, 6, 2
LABELS = np.array([0, 1, 0, 1, 0, 1], np.int32)


def context(progress=0.0):
    return Context(jax.random.key(0), jnp.float32(progress), jnp.bool_(False), None, None, None)


def setup(multi_label=False):
    return Setup(BITS, ITEMS, CLASSES, multi_label, None, None)


def batch(index, labels=LABELS, mask=None):
    index = np.array(index, np.int32)
    mask = np.ones(len(index), bool) if mask is None else np.array(mask)
    return Batch(None, *map(jnp.asarray, (labels[index], index, mask)))


def naive(z, bank, labels, bank_labels, columns, scale):
    """Mean over similar plus mean over dissimilar pairs, in loops."""
    losses = {True: [], False: []}
    for i, j in itertools.product(range(len(z)), range(len(bank))):
        if columns[j]:
            theta, similar = scale * z[i] @ bank[j], bool(labels[i] == bank_labels[j])
            losses[similar].append(np.log1p(np.exp(theta)) - similar * theta)
    return sum(np.mean(values) if values else 0.0 for values in losses.values())


@pytest.mark.parametrize("unseen", ["ignored", "dissimilar"])
def test_bank_over_two_steps(unseen):
    objective = hashnet(unseen=unseen)
    state = objective.init(jax.random.key(0), setup()).state
    bank, seen = np.zeros((ITEMS, BITS)), np.zeros(ITEMS, bool)
    bank_labels = np.full(ITEMS, -1)
    for rows in ([0, 1, 2], [2, 5]):  # item 2 comes twice: its row is overwritten
        u = np.random.default_rng(rows[1]).normal(size=(len(rows), BITS)).astype(np.float32)
        result = objective.loss(Variables((), state), jnp.asarray(u), batch(rows), context())
        bank[rows], seen[rows], bank_labels[rows] = np.tanh(u), True, LABELS[rows]
        columns = seen if unseen == "ignored" else np.ones(ITEMS, bool)
        expected = naive(np.tanh(u), bank, LABELS[rows], bank_labels, columns, 10 / BITS)
        np.testing.assert_allclose(result.value, expected, rtol=1e-5)
        state = result.state
        np.testing.assert_allclose(state.codes, bank, rtol=1e-6)
        np.testing.assert_array_equal(state.seen, seen)


def test_released_form_counts_unseen_rows_as_dissimilar_pairs_of_log_two():
    u = jnp.full((1, BITS), 9.0)  # one item, similar to itself alone
    released, ours = (
        objective.loss(objective.init(jax.random.key(0), setup()), u, batch([0]), context()).value
        for objective in (hashnet(unseen="dissimilar"), hashnet())
    )
    np.testing.assert_allclose(released - ours, np.log(2.0), rtol=1e-5)


def test_no_gradient_through_the_bank():
    """The gradient of a row is that of its own side of its pairs, self-pair included."""
    objective, start = hashnet(scale=1.0), hashnet().init(jax.random.key(0), setup())
    u = jnp.array([[0.3, -0.2, 0.5]])
    slope = jax.grad(lambda u: objective.loss(start, u, batch([0]), context()).value)(u)[0]
    z = np.tanh(u[0])
    theta = z @ z
    one_sided = (1 / (1 + np.exp(-theta)) - 1) * z * (1 - z**2)
    np.testing.assert_allclose(slope, one_sided, rtol=1e-5)


@pytest.mark.parametrize(
    "progress, beta_squared", [(0.0, 1), (0.0999, 1), (0.1001, 2), (0.55, 6), (0.999, 10)]
)
def test_continuation(progress, beta_squared):
    objective = hashnet()
    start = objective.init(jax.random.key(0), setup())
    u = jnp.array([[0.1, -0.4, 0.7]])
    bank = objective.loss(start, u, batch([3]), context(progress)).state.codes
    np.testing.assert_allclose(bank[3], np.tanh(np.sqrt(beta_squared) * u[0]), rtol=1e-5)
