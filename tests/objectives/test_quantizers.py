"""Each quantizer as an objective is its loss on the codes that it says."""

import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses, objectives
from jaxhash.objectives import Batch, Context, Setup, Variables, combine, hashnet, weighted

KEY = jax.random.key(0)

#: The loss of each, whether it is random, and whether it is of tanh(u).
QUANTIZERS = {
    "hswd": (losses.hswd, True, False),
    "swd": (losses.sliced_wasserstein, True, False),
    "ot": (losses.optimal_transport, True, False),
    "sinkhorn": (losses.sinkhorn, True, False),
    "l1": (losses.l1_quantization, False, False),
    "l2": (losses.l2_quantization, False, False),
    "cubic": (losses.cubic_quantization, False, False),
    "log_cosh": (losses.log_cosh_quantization, False, False),
    "cosine": (losses.cosine_quantization, False, False),
    "cauchy": (losses.cauchy_quantization, False, False),
    "gaussian_bce": (losses.gaussian_bce_quantization, False, False),
    "balance": (losses.bit_balance_penalty, False, True),
    "decorrelation": (losses.bit_decorrelation, False, True),
    "bernoulli_kl": (losses.bernoulli_kl, False, False),
    "koleo": (losses.koleo, False, False),
    "parity_hswd": (losses.parity_hswd, True, False),
    "decorrelated_hswd": (losses.decorrelated_hswd, True, False),
}

#: Other options than the defaults, by the names of the objective and of the loss.
OTHERS = [
    ("hswd", {"target": "balanced", "order": 1, "mass": 0.25}, {}),
    ("hswd", {"low": -2.0, "high": 3.0}, {"levels": (-2.0, 3.0)}),
    ("hswd", {"target": "expected", "method": "sort"}, {}),
    ("swd", {"projections": 20, "block": 3}, {}),
    ("swd", {"directions": "axes"}, {}),
    ("sinkhorn", {"epsilon": 0.5, "iterations": 7}, {}),
    ("cauchy", {"gamma": 3.0}, {}),
    ("gaussian_bce", {"sigma": 0.8}, {}),
    ("decorrelation", {"centred": True}, {"centered": True}),
    ("bernoulli_kl", {"mass": 0.2}, {}),
    ("koleo", {"epsilon": 0.3}, {}),
    ("parity_hswd", {"weight": 2.0, "pairs": 5, "bound": 0.7, "target": "balanced"}, {}),
    ("decorrelated_hswd", {"weight": 2.0, "target": "balanced"}, {}),
]


def context():
    return Context(KEY, jnp.float32(0), jnp.bool_(False), None, None, None)


def batch(mask):
    rows = np.arange(len(mask), dtype=np.int32)
    return Batch(None, *map(jnp.asarray, (rows % 2, rows, mask)))


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("name", "options", "of_loss"), [*((name, {}, {}) for name in QUANTIZERS), *OTHERS]
)
def test_is_its_loss(name, options, of_loss):
    loss, random, relaxed = QUANTIZERS[name]
    mask = np.array([True, True, False, True, True])
    codes = (2 * normal(5, 4)).at[2].set(jnp.nan)
    keywords = of_loss or options
    keywords = keywords | ({"key": KEY} if random else {})

    @jax.jit
    def of_loss_itself(codes):
        return loss(jnp.tanh(codes) if relaxed else codes, where=jnp.asarray(mask), **keywords)

    objective = getattr(objectives, name)(**options)

    def value_and_result(codes):
        result = objective.loss(Variables(), codes, batch(mask), context())
        return result.value, result

    slope, result = jax.jit(jax.grad(value_and_result, has_aux=True))(codes)
    np.testing.assert_allclose(result.value, of_loss_itself(codes), rtol=1e-5)
    assert result.terms == {name: result.value} and result.state == ()
    assert jnp.isfinite(slope).all() and not slope[2].any()


def test_joins_a_method():
    """Each under a name of its own, and of a size that a weight of 0.1 suits."""
    names = [name for name, (_, random, _) in QUANTIZERS.items() if not random]
    quantizers = (weighted(0.1, getattr(objectives, name)()) for name in names)
    objective = combine(hashnet(), *quantizers)
    start = objective.init(KEY, Setup(16, 32, 2, False, None, None))
    loss = jax.jit(lambda codes: objective.loss(start, codes, batch(np.ones(32, bool)), context()))
    result = loss(normal(32, 16))
    assert set(result.terms) == {"hashnet", *names}
    assert all(abs(float(result.terms[name])) < 5 for name in names)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("order", {"order": 3}),
        ("mass", {"mass": 1.5}),
        ("mass", {"mass": 0.3, "target": "expected"}),
        ("levels", {"low": 1.0}),
    ],
)
def test_options_that_do_not_go_together_are_refused(unchecked, argument, options):
    with pytest.raises(ValueError, match=rf"\b{argument}\b"):
        objectives.hswd(**options)


def test_the_names_of_options_are_those_of_the_losses():
    assert typing.get_args(losses.Order) == (1, 2)
    assert typing.get_args(losses.Directions) == ("random", "axes")
