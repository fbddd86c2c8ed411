"""Penalties on statistics of the bits over the batch: balance, decorrelation, entropy, spread.

They do not make codes binary: codes of 0 are balanced and decorrelated. Combine each with a
quantization penalty.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Shaped

from jaxhash.losses._common import Reduce, check_codes, pad_empty_batch
from jaxhash.ops.arguments import concrete_values
from jaxhash.ops.collectives import (
    all_gather,
    masked_mean,
    psum_local_grad,
    row_count,
    row_indices,
)
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import inner_products, normalize_rows


@on_any_mesh
def bit_balance_penalty(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Squared mean of each bit over the batch: 0 for a bit that is +1 as often as -1.

    .. math:: L_j = \Big(\frac1N \sum_{i=1}^N h_{ij}\Big)^2

    Every row of the batch is moved in the same direction. `hswd` balances the *signs*, by moving
    the codes next to 0 across it. `jaxhash.metrics.bit_balance` is a metric, 1 for balanced bits.

    Args:
        codes: relaxed codes in [-1, 1], such as tanh(u); one large raw code would outweigh many.

    Example:
        >>> bit_balance_penalty(jnp.array([[1.0, 1.0], [1.0, -1.0]]), reduce_fn=None)
        Array([1., 0.], dtype=float32)

    Reference:
        The balance constraint of Weiss, Torralba, Fergus, "Spectral Hashing", NIPS 2008, as the
        penalty :math:`\lVert H^\top \mathbf 1 \rVert^2` that many methods have made of it.
        Departure: means over batch and bits instead of sums. Some implementations average over the
        bits of a row, which balances no bit.
    """
    codes, where = check_codes(codes, where)
    loss = masked_mean(codes, where, axis_name) ** 2
    return loss if reduce_fn is None else reduce_fn(loss)


@on_any_mesh
def bit_decorrelation(
    codes: Float[Array, "n bits"],
    *,
    centered: bool = False,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Mean squared second moment of two different bits: 0 for uncorrelated bits.

    .. math:: L = \frac1{b (b - 1)} \sum_{j \ne k} C_{jk}^2,
              \qquad C = \frac1N \sum_{i=1}^N (h_i - m)(h_i - m)^\top,

    with m = 0, or the mean of the batch if ``centered``. The diagonal is left to the quantization
    penalty. N independent uniform signs cost 1/N, identical bits 1. Bits may still be dependent in
    groups of three and more, which second moments do not measure.

    Args:
        codes: relaxed codes in [-1, 1], such as tanh(u); with raw codes their scale matters.
        centered: whether to use covariances instead of second moments. A constant bit then costs
            nothing.

    Returns:
        The loss; 0 for one bit.

    Example:
        >>> codes = jnp.array([[1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]])  # 1 and 2 agree, not with 3
        >>> bit_decorrelation(codes).round(4)
        Array(0.3333, dtype=float32)

    Reference:
        The independence constraint of Weiss, Torralba, Fergus, "Spectral Hashing", NIPS 2008, as
        the penalty :math:`\lVert H^\top H / N - I \rVert^2` that many methods have made of it.
        Departures: a mean over pairs of bits instead of a sum, and without the diagonal.
    """
    codes, where = check_codes(codes, where)
    if centered:
        # A common shift does not change C, so the gradient through the mean is 0.
        codes = codes - lax.stop_gradient(masked_mean(codes, where, axis_name))[None, :]
        codes = codes if where is None else jnp.where(where[:, None], codes, 0.0)
    products = jnp.matmul(codes.T, codes, precision=lax.Precision.HIGHEST)
    count = jnp.maximum(row_count(codes, where, axis_name), 1)
    moments = psum_local_grad(products / count, axis_name)
    bits = codes.shape[1]
    off_diagonal = jnp.where(jnp.eye(bits, dtype=bool), 0.0, moments)
    return jnp.sum(off_diagonal**2) / max(bits * (bits - 1), 1)


@on_any_mesh
def bernoulli_kl(
    codes: Float[Array, "n bits"],
    *,
    mass: Float[ArrayLike, "..."] = 0.5,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Divergence of the frequency of each bit over the batch from a given frequency.

    With :math:`q_j = \frac1N \sum_i \sigma(2 u_{ij})`, the mean probability of +1
    (:math:`\sigma(2u) = (1 + \tanh u) / 2`),

    .. math:: L_j = \mathrm{KL}\big(\mathrm{Bern}(q_j) \,\Vert\, \mathrm{Bern}(p)\big)
              = q_j \log \frac{q_j}{p} + (1 - q_j) \log \frac{1 - q_j}{1 - p}.

    For p = 1/2 this is log 2 minus the entropy of the bit, so at most log 2. Only the mean over the
    batch matters: each single code may be binary.

    Args:
        codes: raw outputs of the network.
        mass: the frequency p of +1, above 0 and below 1: one number, or one per bit.

    Raises:
        ValueError: if mass is not between 0 and 1.

    Example:
        >>> codes = jnp.array([[0.0, 50.0], [0.0, 50.0]])  # 0 and log 2
        >>> bernoulli_kl(codes).round(4)
        Array(0.3466, dtype=float32)

    Reference:
        A form of the entropy regularizers of unsupervised hashing, not of a single paper. The term
        of JMLH (Shen et al., 2019), `bernoulli_kl_per_code`, draws each code towards 0 instead.
    """
    codes, where = check_codes(codes, where)
    bits = codes.shape[1]
    values = concrete_values(mass)
    if values is not None and not ((values > 0.0) & (values < 1.0)).all():
        raise ValueError(f"mass must be above 0 and below 1, got {mass}")
    if jnp.shape(mass) not in ((), (bits,)):
        raise ValueError(f"mass must be a number or have shape {(bits,)}, got {jnp.shape(mass)}")

    # Each probability from its own sigmoid: 1 - q would lose small ones.
    positive, negative = jax.nn.sigmoid(2.0 * codes), jax.nn.sigmoid(-2.0 * codes)
    mass = jnp.asarray(mass, codes.dtype)
    loss = _relative_entropy(masked_mean(positive, where, axis_name), mass)
    loss += _relative_entropy(masked_mean(negative, where, axis_name), 1.0 - mass)
    return loss if reduce_fn is None else reduce_fn(loss)


@on_any_mesh
def koleo(
    codes: Float[Array, "n bits"],
    *,
    epsilon: float = 1e-2,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Spread of the codes over the sphere, by the distance to the nearest neighbor (KoLeo).

    With :math:`v_i = u_i / \lVert u_i \rVert`,

    .. math:: L = -\frac1N \sum_{i=1}^N \log \rho_i,
              \qquad \rho_i^2 = \epsilon^2 + \min_{j \ne i} \lVert v_i - v_j \rVert^2,

    which is the estimate of the differential entropy by Kozachenko and Leonenko, up to sign, a
    factor and a constant. It may be negative.

    Args:
        codes: raw outputs of the network.
        epsilon: distance below which the repulsion decreases again, so that duplicates are finite.
            Two signs that differ in one bit are :math:`2 / \sqrt{\mathrm{bits}}` apart, 0.18
            at 128 bits.
        axis_name: see `jaxhash.losses`. Neighbors are searched in the batch of all devices.

    Returns:
        The loss; 0 without a neighbor. Exact duplicates have no gradient.

    Raises:
        ValueError: if epsilon is not above 0.

    Example:
        >>> koleo(jnp.array([[2.0, 0.0], [0.0, 1.0], [0.0, -9.0]])).round(4)  # -log sqrt 2
        Array(-0.3466, dtype=float32)

    Reference:
        Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019.
        Departure: epsilon, without which the cost of duplicates is infinite.
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}")
    codes, where = pad_empty_batch(*check_codes(codes, where))
    codes = normalize_rows(codes)
    valid = jnp.ones(codes.shape[0], bool) if where is None else where
    candidates, valid_candidates = all_gather((codes, valid), axis_name)

    products = inner_products(*lax.stop_gradient((codes, candidates)))
    rows = row_indices(codes.shape[0], axis_name)
    is_other = rows[:, None] != jnp.arange(candidates.shape[0])[None, :]
    scores = jnp.where(valid_candidates[None, :] & is_other, products, -jnp.inf)
    squares = jnp.sum((codes - candidates[jnp.argmax(scores, axis=1)]) ** 2, axis=1)
    cost = -0.5 * jnp.log(epsilon**2 + squares)

    count = row_count(codes, where, axis_name)
    share = jnp.sum(jnp.where(valid & (count > 1), cost, 0.0)) / jnp.maximum(count, 1)
    return psum_local_grad(share, axis_name)


def _relative_entropy(
    probability: Float[Array, " bits"], target: Float[Array, "..."]
) -> Float[Array, " bits"]:
    """Computes one term of a divergence; at probability 0 it is 0, with a finite derivative."""
    floor = math.ldexp(1.0, -126)  # the smallest normal float32
    return probability * (jnp.log(jnp.maximum(probability, floor)) - jnp.log(target))
