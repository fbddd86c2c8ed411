"""Affinity propagation: what an epoch finds of the codes of all images, and what the loss makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.objectives import Batch, Context, Setup, Variables, affinity_propagation
from jaxhash.objectives._few_labels import PropagationState
from jaxhash.ops.affinity import knn_affinity, nearest_rows, propagate_labels

ITEMS, BITS, CLASSES = 40, 6, 2
SETUP = Setup(BITS, ITEMS, CLASSES, False, None, None)

#: Two clouds of codes, of which one image each has a known label.
TRUE = np.arange(ITEMS) % 2
CODES = np.where(TRUE[:, None] == np.arange(BITS) % 2, 2.0, -0.5) + np.random.default_rng(0).normal(
    scale=0.6, size=(ITEMS, BITS)
)
LABELS = np.where(np.arange(ITEMS) < 2, TRUE, -1).astype(np.int32)


def context(new_epoch):
    return Context(jax.random.key(0), jnp.float32(0), jnp.bool_(new_epoch), None, None, None)


def batch_of(rows):
    index = jnp.asarray(rows, jnp.int32)
    return Batch(None, jnp.asarray(LABELS)[index], index, jnp.ones(len(index), bool))


def run(method, state, rows, new_epoch, params=None):
    """The loss of a batch of these images with their codes; the classifier tells the clouds apart."""
    if params is None:
        kernel = np.where(np.arange(BITS)[:, None] % 2 == np.arange(CLASSES), 1.0, -1.0)
        params = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(CLASSES)}
    codes = jnp.asarray(CODES[np.asarray(rows)], jnp.float32)
    return jax.jit(method.loss)(Variables(params, state), codes, batch_of(rows), context(new_epoch))


def after_an_epoch(**options):
    """The method, and its state when all images have been seen and an epoch has begun."""
    method = affinity_propagation(**{"warmup": 1, "neighbors": 4} | options)
    state = method.init(jax.random.key(0), SETUP).state
    state = run(method, state, range(ITEMS), False).state
    return method, run(method, state, range(ITEMS), True).state


def test_before_the_warmup_ends_the_known_labels_count_alone():
    method = affinity_propagation(warmup=2, neighbors=4)
    state = method.init(jax.random.key(0), SETUP).state
    assert isinstance(state, PropagationState)
    first = run(method, state, range(8), False)
    known = run(method, state, range(2), False)
    np.testing.assert_allclose(
        first.terms["affinity_propagation"], known.terms["affinity_propagation"], rtol=1e-6
    )
    second = run(method, first.state, range(8), True).state
    assert (second.pseudo.rows[:, 0] == -1).all() and second.epochs == 1
    third = run(method, run(method, second, range(ITEMS), False).state, range(8), True).state
    assert (third.pseudo.rows[:, 0] >= 0).all() and third.epochs == 2


def test_pseudo_labels_are_those_of_the_propagation():
    _, state = after_an_epoch()
    number, weight, _ = np.asarray(state.pseudo.rows).T
    np.testing.assert_array_equal(number, TRUE)
    codes = jnp.tanh(jnp.asarray(CODES, jnp.float32))
    found = nearest_rows(codes, codes, jnp.arange(ITEMS), jnp.ones(ITEMS, bool), neighbors=4)
    seeds = jnp.asarray(np.eye(CLASSES)[TRUE] * (LABELS >= 0)[:, None], jnp.float32)
    scores = np.asarray(propagate_labels(knn_affinity(*found), seeds), float)
    share = scores / scores.sum(axis=1, keepdims=True)
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1)), axis=1)
    sure = (1 - entropy / np.log(CLASSES)) * (LABELS < 0)
    expected = np.where(LABELS >= 0, 1, sure / sure.max())  # the classes are of equal size
    np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-4)


def test_an_image_is_confident_if_classifier_and_neighbors_agree_with_its_label():
    _, state = after_an_epoch()
    assert (state.pseudo.rows[:, 2] > 0).all()
    method = affinity_propagation(warmup=1, neighbors=4)
    empty = method.init(jax.random.key(0), SETUP).state
    state = run(method, empty, range(ITEMS), False).state
    wrong = {"kernel": jnp.zeros((BITS, CLASSES)), "bias": jnp.array([1.0, 0.0])}  # always class 0
    confident = run(method, state, range(4), True, wrong).state.pseudo.rows[:, 2] > 0
    np.testing.assert_array_equal(confident, (TRUE == 0) | (LABELS >= 0))


def test_without_mining_the_second_term_holds_every_image():
    terms = {}
    for mining in (True, False):
        method, state = after_an_epoch(mining=mining)
        doubtful = state.pseudo.rows.at[10:, 2].set(0.0)
        state = state._replace(pseudo=state.pseudo._replace(rows=doubtful))
        terms[mining] = run(method, state, range(20), False).terms
    assert terms[True]["affinity_propagation"] == terms[False]["affinity_propagation"]
    assert terms[True]["affinity_propagation_pairs"] != terms[False]["affinity_propagation_pairs"]


def test_propagations_are_as_far_apart_as_asked():
    method = affinity_propagation(warmup=1, every=3, neighbors=4)
    state = method.init(jax.random.key(0), SETUP).state
    state = run(method, state, range(ITEMS), False).state
    found = []
    for _ in range(5):
        state = run(method, state, range(4), True).state
        found.append(float(state.pseudo.rows[0, 1]))
        zeros = jnp.zeros_like(state.pseudo.rows)
        state = state._replace(pseudo=state.pseudo._replace(rows=zeros))
    assert [value > 0 for value in found] == [True, False, False, True, False]


@pytest.mark.parametrize("several", [[1, 1], [0, 1]])
def test_a_known_label_is_never_replaced(several):
    """Nor one of several: its classes share the weight."""
    method = affinity_propagation(warmup=1, neighbors=4)
    setup = SETUP._replace(multi_label=True)
    rows = np.where((LABELS >= 0)[:, None], np.eye(CLASSES)[TRUE], 0).astype(np.int32)
    rows[0] = several  # its cloud is of class 0
    variables = method.init(jax.random.key(0), setup)
    batch = batch_of(range(ITEMS))._replace(labels=jnp.asarray(rows))
    codes = jnp.asarray(CODES, jnp.float32)
    state = method.loss(variables, codes, batch, context(False)).state
    first = jax.tree.map(lambda leaf: leaf[:1], batch)
    found = method.loss(variables._replace(state=state), codes[:1], first, context(True))
    logits = np.asarray(jnp.tanh(codes[0]) @ variables.params["kernel"], float)
    log_p = logits - np.log(np.exp(logits).sum())
    expected = -(np.array(several) / sum(several)) @ log_p
    np.testing.assert_allclose(found.terms["affinity_propagation"], expected, rtol=1e-5)


def test_the_state_is_linear_in_the_number_of_images():
    large = jax.eval_shape(
        lambda: affinity_propagation().init(jax.random.key(0), SETUP._replace(items=10**6))
    )
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(large.state))
    assert size < 10**6 * (4 * BITS + 20)
