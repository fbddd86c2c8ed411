import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.training.optimizer import make_optimizer

PARAMS = {
    "model": {
        "backbone": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
        "head": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)},
    },
    "objective": {"classifier": jnp.ones((4, 5))},
}


def updates(gradient=1.0, steps=1, **options):
    defaults = dict(
        learning_rate=0.1,
        head_multiplier=3.0,
        weight_decay=0.0,
        clip_norm=1e9,
        warmup_steps=0,
        total_steps=1000,
    )
    optimizer = make_optimizer(**(defaults | options))
    state, grads = optimizer.init(PARAMS), jax.tree.map(lambda p: gradient * p, PARAMS)
    for _ in range(steps):
        moved, state = optimizer.update(grads, state, PARAMS)
    return moved


def test_adams_first_step_is_the_rate_of_each_group():
    moved = updates()
    np.testing.assert_allclose(moved["model"]["backbone"]["kernel"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(moved["model"]["head"]["kernel"], -0.3, rtol=1e-5)
    np.testing.assert_allclose(moved["objective"]["classifier"], -0.3, rtol=1e-5)


def test_decay_is_decoupled_and_spares_vectors():
    moved = updates(gradient=0.0, weight_decay=0.01)
    np.testing.assert_allclose(moved["model"]["backbone"]["kernel"], -0.1 * 0.01, rtol=1e-5)
    assert not np.any(moved["model"]["backbone"]["bias"])


def test_clipping_is_by_the_norm_of_all_parameters_together():
    """Adam's first step ignores scale; its epsilon shows it for a tiny clipped gradient."""
    count = sum(leaf.size for leaf in jax.tree.leaves(PARAMS))
    moved = updates(gradient=5.0, clip_norm=1e-8)
    each = 1e-8 / np.sqrt(count)  # the gradient left of each entry
    expected = -0.1 * each / (each + 1e-8)
    np.testing.assert_allclose(moved["model"]["backbone"]["bias"], expected, rtol=1e-4)


def test_warm_up_then_cosine_to_zero():
    options = dict(warmup_steps=10, total_steps=20)
    rates = [
        -float(updates(steps=n, **options)["model"]["backbone"]["bias"][0]) for n in (1, 6, 11, 21)
    ]
    np.testing.assert_allclose(rates, [0.0, 0.05, 0.1, 0.0], atol=1e-6)
