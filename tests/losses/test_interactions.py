"""The losses of interactions against values worked by hand and loops over the formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash import losses

USER = jnp.array([[1.0, -1, 1, 1]])
ITEM = jnp.ones((1, 4))
OTHER = jnp.array([[[-1.0, -1, 1, -1]]])

RNG = np.random.default_rng(0)
CODES, CHOSEN = (jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32) for _ in range(2))
REST = jnp.asarray(RNG.normal(size=(6, 3, 5)), jnp.float32)
WHERE = np.arange(6) != 4


def softplus(x):
    return np.log(1 + np.exp(x))


def naive(name, temperature):
    total = rows = 0
    for u, v, others, kept in zip(CODES, CHOSEN, REST, WHERE, strict=True):
        if not kept:
            continue
        positive = float(u @ v) / temperature
        negative = [float(u @ w) / temperature for w in others]
        if name == "bpr":
            total += sum(softplus(s - positive) for s in negative) / len(negative)
        else:
            total += (softplus(-positive) + sum(map(softplus, negative))) / (1 + len(negative))
        rows += 1
    return total / rows


def test_the_worked_scores_of_two_and_zero():
    bpr = losses.bpr(USER, ITEM, OTHER)
    cross_entropy = losses.interaction_cross_entropy(USER, ITEM, OTHER)
    np.testing.assert_allclose([bpr, 2 * cross_entropy], [0.126928, 0.820075], atol=1e-6)


@pytest.mark.parametrize("name", ["bpr", "interaction_cross_entropy"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_loops_over_the_formula(name, temperature):
    loss = getattr(losses, name)
    found = loss(CODES, CHOSEN, REST, temperature=temperature, where=WHERE)
    np.testing.assert_allclose(found, naive(name, temperature), rtol=1e-5)


@pytest.mark.parametrize("name", ["bpr", "interaction_cross_entropy"])
def test_gradients(name):
    def loss(*codes):
        return getattr(losses, name)(*map(jnp.asarray, codes), temperature=2.0, where=WHERE)

    check_grads(loss, (CODES, CHOSEN, REST), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_scores_of_64_bits_have_no_slope_without_a_temperature():
    """Why there is one: an item ahead by 16 bits of 64 stays where it is."""
    user = jnp.ones((1, 64))
    item, other = (user.at[0, :bits].set(-1.0) for bits in (24, 40))

    def slope(temperature):
        loss = partial(losses.bpr, negatives=other[:, None], temperature=temperature)
        return float(jnp.abs(jax.grad(loss)(user, item)).max())

    assert slope(1.0) < 1e-12 and slope(8.0) > 1e-3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"others": CHOSEN[:5]}, "others must have shape"),
        ({"negatives": REST[:, :, :4]}, "negatives must have shape"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_wrong_arguments_are_named(unchecked, wrong, words):
    given = {"others": CHOSEN, "negatives": REST} | wrong
    with pytest.raises(ValueError, match=words):
        losses.bpr(CODES, **given)
