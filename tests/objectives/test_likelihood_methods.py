"""DPSH, DHN, DBDH, LCDSH, IDHN and DFH: their terms, their relaxation, and DFH's centers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses
from jaxhash.objectives import (
    Batch,
    Context,
    Setup,
    dbdh,
    dfh,
    dhn,
    dpsh,
    idhn,
    lcdsh,
)
from jaxhash.objectives._likelihood import _descend
from jaxhash.similarity import label_cosine

BITS, ITEMS, CLASSES = 4, 8, 3
LABELS = np.array([0, 1, 0, 2, 1, 0, 2, 1], np.int32)
ROWS = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], np.uint8)
METHODS = {"dpsh": dpsh, "dhn": dhn, "dbdh": dbdh, "lcdsh": lcdsh, "idhn": idhn, "dfh": dfh}
each_method = pytest.mark.parametrize("name", METHODS)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def context(axis_name=None):
    return Context(jax.random.key(0), jnp.float32(0), jnp.bool_(False), None, None, axis_name)


def setup(multi_label=False):
    return Setup(BITS, ITEMS, CLASSES, multi_label, None, None)


def batch(index, labels=LABELS, mask=None):
    index = np.array(index, np.int32)
    mask = np.ones(len(index), bool) if mask is None else np.array(mask)
    return Batch(None, *map(jnp.asarray, (labels[index], index, mask)))


def start(objective, multi_label=False):
    return objective.init(jax.random.key(0), setup(multi_label))


def step(objective, codes, data, variables=None, multi_label=False):
    variables = start(objective, multi_label) if variables is None else variables
    return jax.jit(lambda *given: objective.loss(*given, context()))(variables, codes, data)


def likelihoods(codes, labels, scale=0.5, margin=0.0):
    """Returns, per pair of different rows, margin and sign as in DFH's paper, in float64."""
    codes = np.asarray(codes, float)
    costs = []
    for i in range(len(codes)):
        for j in range(len(codes)):
            if i != j:
                theta = scale * codes[i] @ codes[j]
                theta = -theta if labels[i] == labels[j] else theta
                costs.append(np.log(1 + np.exp(margin + theta)))
    return np.mean(costs)


# The two terms of each


@pytest.mark.parametrize(
    ("method", "weight", "penalty"),
    [
        (dpsh, 0.1, lambda u: (np.abs(u) - 1) ** 2),
        (dhn, 0.1, lambda u: np.log(np.cosh(np.abs(u) - 1))),
    ],
)
def test_raw_codes_and_an_elementwise_penalty(method, weight, penalty):
    u, name = normal(6, BITS), method.__name__
    result = step(method(pairs="batch"), u, batch(range(6)))
    likelihood, quantization = likelihoods(u, LABELS), penalty(np.asarray(u, float)).mean()
    assert result.terms[name] == pytest.approx(likelihood, rel=1e-5)
    assert result.terms[f"{name}_penalty"] == pytest.approx(quantization, rel=1e-5)
    assert result.value == pytest.approx(likelihood + weight * quantization, rel=1e-5)


def test_dbdh_compares_signs_and_balances_each_bit_over_the_batch():
    u = normal(6, BITS)
    signs = np.sign(np.asarray(u, float))
    result = step(dbdh(), u, batch(range(6)))
    assert result.terms["dbdh"] == pytest.approx(likelihoods(signs, LABELS), rel=1e-5)
    balance = (signs.mean(axis=0) ** 2).mean()
    assert result.terms["dbdh_penalty"] == pytest.approx(balance, rel=1e-5)
    assert result.value == pytest.approx(likelihoods(signs, LABELS) + 0.1 * balance, rel=1e-5)


def test_dbdh_balance_is_not_that_of_the_bits_of_a_row():
    """Each row has as many +1 as -1, and each bit is the same on all rows."""
    u = jnp.tile(jnp.array([[1.0, 1.0, -1.0, -1.0]]), (6, 1))
    assert step(dbdh(), u, batch(range(6))).terms["dbdh_penalty"] == 1


def test_dbdh_gradient_is_that_of_the_signs():
    u = normal(6, BITS)

    def cost(codes):
        return step(dbdh(penalty=0.0), codes, batch(range(6))).value

    signs = jnp.sign(u)

    def of_signs(codes):
        similar = jnp.asarray(LABELS[:6, None] == LABELS[None, :6])
        return losses.mean_likelihood(codes, codes, similar, where=~jnp.eye(6, dtype=bool))

    np.testing.assert_allclose(jax.grad(cost)(u), jax.grad(of_signs)(signs), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("pairs", ["batch", "bank"])
def test_lcdsh_adds_three_times_the_locality(pairs):
    """With a bank, the pair of a row with itself counts."""
    u = normal(6, BITS)
    others = ~jnp.eye(6, dtype=bool) if pairs == "batch" else jnp.ones((6, 6), bool)
    locality = losses.lcdsh_locality(u, u, where=others)
    similar = jnp.asarray(LABELS[:6, None] == LABELS[None, :6])
    likelihood = losses.mean_likelihood(u, u, similar, where=others)
    result = step(lcdsh(pairs=pairs), u, batch(range(6)))
    assert result.terms["lcdsh_penalty"] == pytest.approx(float(locality), rel=1e-5)
    assert result.value == pytest.approx(float(likelihood + 3 * locality), rel=1e-5)


def test_idhn_relaxes_by_softsign_and_grades_by_the_cosine_of_labels():
    u = normal(6, BITS)
    z = u / (1 + jnp.abs(u))
    where = ~jnp.eye(6, dtype=bool)
    graded = losses.idhn(z, z, label_cosine(jnp.asarray(ROWS), jnp.asarray(ROWS)), where=where)
    result = step(idhn(pairs="batch"), u, batch(range(6), ROWS), multi_label=True)
    assert result.terms["idhn"] == pytest.approx(float(graded), rel=1e-5)
    penalty = np.mean(1 - np.abs(np.asarray(z, float)))
    assert result.terms["idhn_penalty"] == pytest.approx(penalty, rel=1e-5)
    assert result.value == pytest.approx(float(graded) + 0.1 * penalty, rel=1e-5)


def test_idhn_of_class_ids_is_a_likelihood():
    u = normal(6, BITS)
    z = np.asarray(u / (1 + jnp.abs(u)))
    result = step(idhn(scale=0.7), u, batch(range(6)))
    assert result.terms["idhn"] == pytest.approx(likelihoods(z, LABELS, scale=0.7), rel=1e-5)


# What all of them keep


@each_method
def test_bank_remembers_relaxed_codes_of_earlier_batches(name):
    relax = {"dbdh": jnp.sign, "idhn": lambda u: u / (1 + jnp.abs(u))}.get(name, lambda u: u)
    objective, first, second = METHODS[name](pairs="bank", penalty=0.0), normal(3, 4), normal(2, 4)
    state = step(objective, first, batch([0, 1, 2])).state
    result = step(objective, second, batch([2, 5]), start(objective)._replace(state=state))
    bank = jnp.concatenate([relax(first[:2]), relax(second)])
    np.testing.assert_allclose(result.state.codes[np.array([0, 1, 2, 5])], bank, rtol=1e-6)
    assert result.state.seen.tolist() == [i in (0, 1, 2, 5) for i in range(ITEMS)]


# DFH's centers


def released_centers(
    centers, labels, codes, steps, *, inter=1.0, binary=1.0, rate=0.03, falls=None
):
    """Gradient descent as the released code has it, with the gradients written out, in float64.

    Like it, the rate falls by 10 at 3/4 and at 9/10 of the steps; or before the steps that are
    given, counted from 0.
    """
    first, second = falls or (0.75 * steps, 0.9 * steps)
    classes, bits = centers.shape
    for number in range(steps):
        gap = (labels @ centers - codes) / (len(codes) * bits)
        between = (centers @ centers.T - bits * (2 * np.eye(classes) - 1)) / classes**2
        slope = 2 * labels.T @ gap + inter * 4 * between @ centers
        slope += binary * 2 * (centers - np.sign(centers)) / (classes * bits)
        slow = 1 if number < first else 0.1 if number < second else 0.01
        centers = centers - rate * slow * slope
    return centers


@pytest.mark.parametrize("labels", ["ids", "rows"])
def test_dfh_over_two_steps_is_the_released_code(labels):
    """Binary codes by the centers before the batch, centers by the binary codes."""
    multi_label = labels == "rows"
    data = batch(range(6), ROWS if multi_label else LABELS)
    rows = ROWS if multi_label else np.eye(CLASSES)[LABELS[:6]]
    has_label = rows.any(axis=1)
    objective = dfh(mu=0.4, inter=0.7, binary=0.3, steps=40, pairs="batch", margin=2.0)
    variables, centers = start(objective, multi_label), np.zeros((CLASSES, BITS))
    for seed in range(2):
        u = normal(6, BITS, seed=seed)
        result = step(objective, u, data, variables)
        binary_codes = np.sign(np.asarray(u, float) + 0.4 * rows @ np.sign(centers))
        penalty = ((np.asarray(u, float) - binary_codes) ** 2).mean()
        assert result.terms["dfh_penalty"] == pytest.approx(penalty, rel=1e-5)
        assert result.value == pytest.approx(float(result.terms["dfh"]) + 0.5 * penalty, rel=1e-5)
        centers = released_centers(
            centers, rows[has_label], binary_codes[has_label], 40, inter=0.7, binary=0.3
        )
        np.testing.assert_allclose(result.state[1], centers, rtol=1e-4, atol=1e-5)
        variables = variables._replace(state=result.state)
    if not multi_label:
        assert result.terms["dfh"] == pytest.approx(likelihoods(u, LABELS, margin=2.0), rel=1e-5)


@pytest.mark.parametrize(
    "falls", [(150, 180), (149, 179), (148, 178)], ids=["ours", "port", "authors"]
)
def test_dfh_rate_falls_where_it_is_told_to(falls):
    """A port lowers it before its step 149, the authors' code before 148, both counted from 0."""
    options = {"inter": 1.0, "binary": 1.0, "steps": 200, "falls": tuple(f / 200 for f in falls)}
    labels, codes = np.eye(CLASSES)[LABELS[:6]], np.sign(np.asarray(normal(6, BITS), float))
    start = np.random.default_rng(1).normal(size=(CLASSES, BITS))
    with jax.enable_x64(True):
        given = map(jnp.asarray, (start, labels, codes, np.ones(6, bool)))
        found = np.asarray(_descend(*given, **options))
    for one in (-1, 0, 1):
        expected = released_centers(start, labels, codes, 200, falls=(falls[0] + one, falls[1]))
        assert (np.abs(found - expected).max() < 1e-13) == (one == 0)


def test_dfh_gradient_takes_binary_codes_and_centers_as_constants():
    u, objective = normal(6, BITS), dfh(margin=0.0, pairs="batch", steps=5)
    state = (), 3 * jnp.sign(normal(CLASSES, BITS, seed=1))

    def penalty(u):
        variables = start(objective)._replace(state=state)
        return step(objective, u, batch(range(6)), variables).terms["dfh_penalty"]

    centers = np.sign(state[1])[LABELS[:6]]
    expected = 2 * (u - np.sign(u + centers)) / u.size
    np.testing.assert_allclose(jax.grad(penalty)(u), expected, rtol=1e-5, atol=1e-7)


def test_dfh_draws_codes_to_the_center_of_their_class_for_a_large_mu():
    """Where the center outweighs the code, the binary code is the center."""
    state = (), jnp.array([[1.0, -2.0, 0.5, -0.1]] * CLASSES)
    objective = dfh(mu=100.0, pairs="batch", steps=1)
    variables = start(objective)._replace(state=state)
    u = normal(6, BITS)
    result = step(objective, u, batch(range(6)), variables)
    expected = ((np.asarray(u) - np.array([1.0, -1.0, 1.0, -1.0])) ** 2).mean()
    assert result.terms["dfh_penalty"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("classes", [1, 2, 3, 10])
def test_dfh_centers_of_few_classes_stay_finite_and_apart(classes):
    """At the released rate those of two classes with 64 bits grow without bound."""
    objective = dfh()
    _, centers = objective.init(jax.random.key(0), Setup(64, 40, classes, False, None, None)).state
    labels, u = jnp.arange(40) % classes, normal(40, 64)
    data = Batch(None, labels, jnp.arange(40), jnp.ones(40, bool))
    variables = objective.init(jax.random.key(0), Setup(64, 40, classes, False, None, None))
    for _ in range(3):
        result = objective.loss(variables, u, data, context())
        variables = variables._replace(state=result.state)
    centers = np.asarray(variables.state[1])
    assert np.isfinite(centers).all() and np.abs(centers).max() < 10
    between = (centers @ centers.T)[~np.eye(classes, dtype=bool)]
    assert (between < 0.3 * 64).all()
