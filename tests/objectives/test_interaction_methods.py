"""HashGNN against its formula, row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.objectives import Batch, Context, Variables, hashgnn

ROWS, BITS, NEGATIVES = 400, 4, 2


def codes_of(scale=1.0):
    rng = np.random.default_rng(0)
    return tuple(
        jnp.asarray(scale * rng.normal(size=(ROWS, BITS)), jnp.float32)
        for _ in range(2 + NEGATIVES)
    )


def loss_of(codes, progress=0.0, index=None, **options):
    index = jnp.arange(ROWS) if index is None else index
    batch = Batch((), None, index, jnp.ones(ROWS, bool))
    context = Context(jax.random.key(0), jnp.float32(progress), jnp.bool_(False), None, None, None)
    return hashgnn(negatives=NEGATIVES, **options).loss(Variables(), codes, batch, context)


def softplus(x):
    return np.log1p(np.exp(x))


def formula(user, item, *others, temperature=BITS / 8, weight=0.1):
    positive = (user * item).sum(axis=1) / temperature
    negative = np.stack([(user * each).sum(axis=1) for each in others], axis=1) / temperature
    bpr = softplus(negative - positive[:, None]).mean()
    of_all = np.concatenate([softplus(-positive[:, None]), softplus(negative)], axis=1)
    return bpr + weight * of_all.mean()


def test_without_progress_codes_are_relaxed():
    codes = codes_of()
    found = loss_of(codes).value
    np.testing.assert_allclose(found, formula(*(np.tanh(u) for u in codes)), rtol=1e-5)


def test_at_the_end_codes_are_signs_with_the_gradient_of_the_relaxed_ones():
    codes = codes_of()
    found, slope = jax.value_and_grad(lambda codes: loss_of(codes, progress=1.0).value)(codes)
    np.testing.assert_allclose(found, formula(*(np.sign(u) for u in codes)), rtol=1e-5)
    assert all(np.abs(each).max() > 1e-6 for each in slope)
    saturated = tuple(50.0 * jnp.sign(u) for u in codes)
    far = jax.grad(lambda codes: loss_of(codes, progress=1.0).value)(saturated)
    assert all(np.abs(each).max() < 1e-6 for each in far)  # that of a tanh


def test_a_row_is_signs_or_not_as_a_whole_and_its_user_with_its_item():
    """With weights of 0 for all other rows, each row's loss is one of four."""
    codes = codes_of()
    relaxed, signs = [np.tanh(u) for u in codes], [np.sign(u) for u in codes]
    kinds = []
    for row in range(60):
        one = tuple(u[row : row + 1] for u in codes)
        batch = Batch((), None, jnp.array([row]), jnp.ones(1, bool))
        context = Context(jax.random.key(0), jnp.float32(0.5), jnp.bool_(False), *[None] * 3)
        found = float(hashgnn(negatives=NEGATIVES).loss(Variables(), one, batch, context).value)
        options = {}
        for pair in (0, 1):
            for first in (0, 1):
                for second in (0, 1):
                    of_views = [pair, pair, first, second]
                    chosen = [(relaxed, signs)[k][v][row : row + 1] for v, k in enumerate(of_views)]
                    options[pair, first, second] = formula(*chosen)
        kind = min(options, key=lambda name: abs(options[name] - found))
        np.testing.assert_allclose(found, options[kind], rtol=1e-4)
        kinds.append(kind)
    shares = np.mean(kinds, axis=0)
    assert ((shares > 0.25) & (shares < 0.75)).all()
    assert len(set(kinds)) > 4  # each negative has a number of its own


def test_beta_end_bounds_the_share_of_signs():
    codes = codes_of()
    relaxed = formula(*(np.tanh(u) for u in codes))
    np.testing.assert_allclose(
        loss_of(codes, progress=0.99, beta_end=0.0).value, relaxed, rtol=1e-5
    )
    some = loss_of(codes, progress=1.0, beta_end=0.18).value
    assert abs(some - relaxed) < abs(loss_of(codes, progress=1.0).value - relaxed)


def test_draws_follow_the_item_and_not_the_place():
    codes, order = codes_of(), np.random.default_rng(1).permutation(ROWS)
    moved = tuple(u[order] for u in codes)
    one, other = loss_of(codes, 0.5), loss_of(moved, 0.5, index=jnp.asarray(order))
    np.testing.assert_allclose(one.value, other.value, rtol=1e-5)


@pytest.mark.parametrize("option", [{"beta_end": 1.5}, {"beta_end": -0.1}, {"negatives": 0}])
def test_options_out_of_range_are_named(unchecked, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        hashgnn(**option)
