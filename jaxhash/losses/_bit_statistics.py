"""Losses of what the bits do over the batch: balance, decorrelation, entropy, spread.

They say nothing about how binary a code is: codes of 0 are balanced and decorrelated. Each is to be
joined by a quantization penalty.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Shaped

from jaxhash.losses._common import Reduce, check_codes, pad_empty_batch
from jaxhash.ops.arguments import concrete_values
from jaxhash.ops.collectives import masked_mean, psum_local_grad, row_count, row_indices
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import normalize_rows


@on_any_mesh
def bit_balance_penalty(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Squared mean of each bit over the batch, 0 where it is +1 as often as -1.

    .. math:: L_j = \Big(\frac1N \sum_{i=1}^N h_{ij}\Big)^2

    Every row of the batch is pushed the same way. `hswd` moves the codes next to 0 across it, which
    is what the balance of the *signs* takes.

    Args:
        codes: relaxed codes in [-1, 1], as tanh(u). On raw codes one far away outweighs many.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.
        reduce_fn: reduction over bits; None returns the loss of each bit, with shape [bits].

    Returns:
        The loss in float32: a scalar, or one value a bit with ``reduce_fn=None``.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> bit_balance_penalty(jnp.array([[1.0, 1.0], [1.0, -1.0]]), reduce_fn=None)
        Array([1., 0.], dtype=float32)

    Reference:
        The balance constraint of Weiss, Torralba, Fergus, "Spectral Hashing", NIPS 2008, as the
        penalty :math:`\lVert H^\top \mathbf 1 \rVert^2` that many methods have made of it.
        Departure: means over batch and bits instead of sums. Some implementations average over the
        bits of a row instead, which balances no bit.
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
    r"""Mean squared second moment of two different bits, 0 where no bit tells of another.

    .. math:: L = \frac1{b (b - 1)} \sum_{j \ne k} C_{jk}^2,
              \qquad C = \frac1N \sum_{i=1}^N (h_i - m)(h_i - m)^\top,

    with m = 0, or the mean of the batch where ``centered``. The diagonal is left to the quantization
    penalty. N independent uniform signs cost 1/N, signs that copy each other 1. Bits may still
    depend on each other by three and more: their parity is no concern of a second moment.

    Args:
        codes: relaxed codes in [-1, 1], as tanh(u): with raw codes the scale of each counts.
        centered: whether covariances count, instead of second moments. A bit that never changes
            then costs nothing.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar; 0 for one bit.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit.

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
        # Moving the mean alone does not change C: that gradient is 0 over the whole batch.
        codes = codes - lax.stop_gradient(masked_mean(codes, where, axis_name))[None, :]
        codes = codes if where is None else jnp.where(where[:, None], codes, 0.0)
    products = jnp.matmul(codes.T, codes, precision=lax.Precision.HIGHEST)
    count = jnp.maximum(row_count(codes, where, axis_name), 1)
    moments = psum_local_grad(products / count, axis_name)
    bits = codes.shape[1]
    apart = jnp.where(jnp.eye(bits, dtype=bool), 0.0, moments)
    return jnp.sum(apart**2) / max(bits * (bits - 1), 1)


@on_any_mesh
def bernoulli_kl(
    codes: Float[Array, "n bits"],
    *,
    mass: Float[ArrayLike, "..."] = 0.5,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Divergence of each bit's frequency over the batch from its due.

    With :math:`q_j = \frac1N \sum_i \sigma(2 u_{ij})`, the mean chance of +1 (:math:`\sigma(2u)` is
    :math:`\tanh u` moved to [0, 1]),

    .. math:: L_j = \mathrm{KL}\big(\mathrm{Bern}(q_j) \,\Vert\, \mathrm{Bern}(p)\big)
              = q_j \log \frac{q_j}{p} + (1 - q_j) \log \frac{1 - q_j}{1 - p}.

    For p = 1/2 this is log 2 less the entropy of the bit, so at most log 2. It is of the *mean* over
    the batch: each code may be as sure of its bits as it likes.

    Args:
        codes: raw outputs of the network, unbounded. Rows are the batch.
        mass: the share p of +1, above 0 and below 1: one number, or one a bit.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.
        reduce_fn: reduction over bits; None returns the loss of each bit, with shape [bits].

    Returns:
        The loss in float32: a scalar, or one value a bit with ``reduce_fn=None``.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit, or mass is not between 0 and 1.

    Example:
        >>> codes = jnp.array([[0.0, 50.0], [0.0, 50.0]])  # 0 and log 2
        >>> bernoulli_kl(codes).round(4)
        Array(0.3466, dtype=float32)

    Reference:
        A form of the entropy regularisers of unsupervised hashing; no one paper's. The term of JMLH
        (Shen et al., 2019) is another: it draws each code on its own towards being unsure.
    """
    codes, where = check_codes(codes, where)
    bits = codes.shape[1]
    values = concrete_values(mass)
    if values is not None and not ((values > 0.0) & (values < 1.0)).all():
        raise ValueError(f"mass must be above 0 and below 1, got {mass}")
    if jnp.shape(mass) not in ((), (bits,)):
        raise ValueError(f"mass must be a number or have shape {(bits,)}, got {jnp.shape(mass)}")

    # Each chance from a sigmoid of its own: 1 - q would lose the small ones.
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
    r"""Spread of the codes over the sphere: each is pushed from its nearest neighbor (KoLeo).

    With :math:`v_i = u_i / \lVert u_i \rVert`,

    .. math:: L = -\frac1N \sum_{i=1}^N \log \rho_i,
              \qquad \rho_i^2 = \epsilon^2 + \min_{j \ne i} \lVert v_i - v_j \rVert^2,

    which is the differential entropy as Kozachenko and Leonenko estimate it, but for the sign, a
    factor and a constant. It may be negative.

    Args:
        codes: raw outputs of the network, unbounded. Rows are the batch.
        epsilon: distance below which neighbors push each other less again, so that duplicates are
            finite. Two signs that differ in one bit are :math:`2 / \sqrt{\mathrm{bits}}` apart, 0.18
            at 128 bits.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`. Neighbors are
            searched in the batch of all devices.

    Returns:
        The loss, a float32 scalar; 0 without a neighbor. A row of zeros has no direction, and no
        gradient. Nor have exact duplicates, for want of a direction away from each other.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit, or epsilon is not above 0.

    Example:
        >>> koleo(jnp.array([[2.0, 0.0], [0.0, 1.0], [0.0, -9.0]])).round(4)  # -log sqrt 2
        Array(-0.3466, dtype=float32)

    Reference:
        Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019.
        Departure: epsilon, without which duplicates cost infinitely much.
    """
    if epsilon <= 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}")
    codes, where = pad_empty_batch(*check_codes(codes, where))
    codes = normalize_rows(codes)
    others, valid = codes, jnp.ones(codes.shape[0], bool) if where is None else where
    columns = valid
    if axis_name is not None:
        others, columns = lax.all_gather((codes, valid), axis_name, tiled=True)

    products = jnp.matmul(*lax.stop_gradient((codes, others.T)), precision=lax.Precision.HIGHEST)
    rows = row_indices(codes.shape[0], axis_name)
    another = rows[:, None] != jnp.arange(others.shape[0])[None, :]
    nearest = jnp.argmax(jnp.where(columns[None, :] & another, products, -jnp.inf), axis=1)
    squares = jnp.sum((codes - others[nearest]) ** 2, axis=1)
    cost = -0.5 * jnp.log(epsilon**2 + squares)

    count = row_count(codes, where, axis_name)
    share = jnp.sum(jnp.where(valid & (count > 1), cost, 0.0)) / jnp.maximum(count, 1)
    return psum_local_grad(share, axis_name)


def _relative_entropy(
    chance: Float[Array, " bits"], due: Float[Array, "..."]
) -> Float[Array, " bits"]:
    """One term of a divergence, 0 at a chance of 0, where the slope stays finite."""
    floor = math.ldexp(1.0, -126)  # the least normal number of float32
    return chance * (jnp.log(jnp.maximum(chance, floor)) - jnp.log(due))
