"""HSWD from its definition, and the batches it is tried on.

The loss is rebuilt here from chances rather than from mean signs: if the r-th smallest target is -1
with chance p, a code u of rank r costs p (u + 1)^2 + (1 - p) (u - 1)^2.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxhash.losses import hswd

WAYS = (
    ("sampled", "select"),
    ("sampled", "sort"),
    ("balanced", "select"),
    ("balanced", "sort"),
    ("expected", "sort"),
)
KEY = jax.random.key(0)
OPTIONS = ("target", "method", "axis_name", "reduce_fn")

loss = jax.jit(hswd, static_argnames=OPTIONS)
loss_and_gradient = jax.jit(jax.value_and_grad(hswd), static_argnames=OPTIONS)
per_bit = partial(loss, key=KEY, reduce_fn=None)

each_way = pytest.mark.parametrize(("target", "method"), WAYS)
each_symmetric_way = pytest.mark.parametrize(("target", "method"), WAYS[2:])
each_method = pytest.mark.parametrize("method", ("select", "sort"))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def half_and_half(n, bits):
    return jnp.asarray(np.where(np.arange(n) < n // 2, -1.0, 1.0)[:, None].repeat(bits, axis=1))


@cache
def minus_counts(n, bits, mass=None):
    """The number of -1 among the n target signs of each bit that "sampled" draws with KEY.

    A batch of n codes +1 costs 4 K / n, which reveals its count K.
    """
    options = {} if mass is None else {"mass": jnp.asarray(mass)}
    costs = per_bit(jnp.ones((n, bits)), target="sampled", method="sort", **options)
    return np.rint(np.asarray(costs, float) * n / 4).astype(int)


def minus_chances(target, n, bits, mass=None):
    """P(the r-th smallest target sign is -1), [ranks, bits], each from its definition."""
    rank = np.arange(1, n + 1)[:, None]
    if target == "sampled":
        chance = rank <= minus_counts(n, bits, mass)
    elif target == "balanced":
        minus = n * (1 - (0.5 if mass is None else np.array(mass, float)))
        chance = np.clip(minus - (rank - 1), 0, 1)  # how much of (r-1, r] lies below it
    else:
        chance = stats.binom.sf(rank - 1, n, 0.5)  # at least r of the n signs are -1
    return np.broadcast_to(chance, (n, bits)).astype(float)


def formula(codes, chances):
    """The loss of each bit by a double loop, in float64."""
    codes = np.asarray(codes, float)
    n, bits = codes.shape
    cost = np.zeros(bits)
    for j in range(bits):
        for u, p in zip(sorted(codes[:, j]), chances[:, j], strict=True):
            cost[j] += (p * (u + 1) ** 2 + (1 - p) * (u - 1) ** 2) / n
    return cost


def columns(n, dtype=jnp.float32):
    """A bit of each kind: random, tied, constant, on a grid, signed zeros, far apart."""
    rng = np.random.default_rng(n)
    random = rng.normal(size=n)
    bits = [
        random,
        rng.choice([-1.0, 0.25, 1.0], n),
        np.full(n, 0.3),
        np.zeros(n),
        np.round(4 * random) / 4,
        rng.choice([-0.0, 0.0], n),
        np.sign(random) * 10.0 ** (3 * rng.normal(size=n)),
        np.where(random > 0, 1.0, -1.0),
    ]
    return jnp.asarray(np.stack(bits, axis=1), dtype)
