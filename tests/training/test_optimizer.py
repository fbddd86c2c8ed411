"""The optimizer: rates per group, weight decay, clipping, schedule, frozen stages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.training.optimizer import make_optimizer

PARAMS = {
    "model": {
        "backbone": {
            "stage0_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
            "stage1_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
            "final_norm": {"scale": jnp.ones(3)},
            "tokens": jnp.ones((1, 4, 3)),
        },
        "head": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)},
    },
    "objective": {"classifier": jnp.ones((4, 5))},
}


def updates(gradient=1.0, steps=1, **options):
    defaults = dict(
        learning_rate=0.3,
        backbone_rate=1 / 3,
        freeze_stages=0,
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


def first_stage(moved):
    return moved["model"]["backbone"]["stage0_0"]


@pytest.mark.slow
def test_adams_first_step_is_the_rate_of_each_group():
    moved = updates()
    np.testing.assert_allclose(first_stage(moved)["kernel"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(moved["model"]["head"]["kernel"], -0.3, rtol=1e-5)
    np.testing.assert_allclose(moved["objective"]["classifier"], -0.3, rtol=1e-5)


def test_decay_is_decoupled_and_spares_vectors_and_tokens():
    moved = updates(gradient=0.0, weight_decay=0.01)
    np.testing.assert_allclose(first_stage(moved)["kernel"], -0.1 * 0.01, rtol=1e-5)
    assert not np.any(first_stage(moved)["bias"])
    assert not np.any(moved["model"]["backbone"]["tokens"])
    np.testing.assert_allclose(moved["objective"]["classifier"], -0.3 * 0.01, rtol=1e-5)


def test_clipping_is_by_the_norm_of_all_parameters_together():
    """Adam's first step ignores the scale, except for a gradient near its epsilon."""
    count = sum(leaf.size for leaf in jax.tree.leaves(PARAMS))
    moved = updates(gradient=5.0, clip_norm=1e-8)
    each = 1e-8 / np.sqrt(count)  # each entry of the clipped gradient
    expected = -0.1 * each / (each + 1e-8)
    np.testing.assert_allclose(first_stage(moved)["bias"], expected, rtol=1e-4)


def test_warm_up_then_cosine_to_zero():
    options = dict(warmup_steps=10, total_steps=20)
    rates = [-float(first_stage(updates(steps=n, **options))["bias"][0]) for n in (1, 6, 11, 21)]
    np.testing.assert_allclose(rates, [0.0, 0.05, 0.1, 0.0], atol=1e-6)


@pytest.mark.parametrize("stages", [0, 1, 2])
def test_frozen_stages_stay_as_they_are(stages):
    """Weight decay alone would change a parameter without a gradient."""
    moved = updates(freeze_stages=stages, weight_decay=0.1)["model"]
    still = {
        name: not any(map(np.any, jax.tree.leaves(part)))
        for name, part in moved["backbone"].items()
    }
    assert (still["stage0_0"], still["stage1_0"]) == (stages > 0, stages > 1)
    assert not still["final_norm"] and not still["tokens"]
    assert np.all(moved["head"]["kernel"])


def test_numbers_may_be_traced():
    names = ("learning_rate", "backbone_rate", "weight_decay", "clip_norm")
    values = dict(zip(names, (0.2, 0.5, 0.01, 0.3), strict=True))
    traced = jax.jit(lambda values: updates(**values))(values)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), traced, updates(**values)
    )
