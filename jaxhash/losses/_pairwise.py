"""Pairwise losses: codes of similar images agree, codes of dissimilar ones do not."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxhash.losses._common import (
    Reduce,
    accumulate,
    check_floating,
    check_shape,
    sum_of_shares,
)


def pairwise_likelihood(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Bool[Array, "n m"],
    *,
    scale: float | Float[Array, ""] = 0.5,
    where: Bool[Array, "n m"] | None = None,
    reduce_fn: Reduce | None = None,
) -> Float[Array, "..."]:
    r"""Negative log-likelihood of the similarities under a logistic model of the inner products.

    .. math:: \ell_{ij} = \log(1 + e^{\theta_{ij}}) - s_{ij}\,\theta_{ij},
              \qquad \theta_{ij} = \mathrm{scale}\cdot u_i \cdot v_j.

    Args:
        codes: codes of the rows.
        others: codes of the columns; the same array, a gathered batch or a memory bank.
        similar: True where the pair is similar.
        scale: factor of the inner product.
        where: True for the valid pairs; the others are 0.
        reduce_fn: reduction over all pairs, masked ones included as zeros; None (the default)
            returns the [n, m] matrix.

    Returns:
        The matrix in float32, or its reduction.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> u = jnp.array([[2.0, 0.0]])
        >>> pairwise_likelihood(u, u, jnp.array([[True]])).round(4)  # log(1 + e^2) - 2
        Array([[0.1269]], dtype=float32)

    Reference:
        Xia et al., "Supervised hashing for image retrieval via image representation learning",
        AAAI 2014, and Li et al., "Feature learning based deep supervised hashing with pairwise
        labels" (DPSH), IJCAI 2016; both with scale 1/2.
    """
    loss = _likelihood(codes, others, similar, scale, where)
    if where is not None:
        loss = jnp.where(where, loss, 0.0)
    return loss if reduce_fn is None else reduce_fn(loss)


def _likelihood(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Bool[Array, "n m"],
    scale: float | Float[Array, ""],
    where: Bool[Array, "n m"] | None,
) -> Float[Array, "n m"]:
    """The matrix, in which pairs that are not valid may hold anything but spoil no gradient."""
    check_floating("codes", codes, ndim=2)
    check_floating("others", others, ndim=2)
    check_shape("others", others, (others.shape[0], codes.shape[1]))
    check_shape("similar", similar, (codes.shape[0], others.shape[0]))
    check_shape("where", where, similar.shape)
    codes, others = accumulate(codes), accumulate(others)
    if where is not None:  # padding may hold anything, NaN included: keep it out of the product
        codes = jnp.where(where.any(axis=1)[:, None], codes, 0.0)
        others = jnp.where(where.any(axis=0)[:, None], others, 0.0)
    theta = scale * jnp.matmul(codes, others.T, precision=lax.Precision.HIGHEST)
    return _softplus(jnp.where(similar, -theta, theta))  # no difference of two large numbers


@jax.custom_jvp
def _softplus(x: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """log(1 + e^x), whose value and derivative share one exponential."""
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@_softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    tail = jnp.exp(-jnp.abs(x))
    derivative = jnp.where(x >= 0, 1.0, tail) / (1.0 + tail)
    return jnp.maximum(x, 0.0) + jnp.log1p(tail), derivative * dx


def hashnet(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Bool[Array, "n m"],
    *,
    scale: float | Float[Array, ""],
    where: Bool[Array, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""HashNet's weighted pairwise likelihood: similar and dissimilar pairs weigh the same in total.

    .. math:: L = \operatorname{mean}_{s_{ij}=1} \ell_{ij} + \operatorname{mean}_{s_{ij}=0} \ell_{ij}

    with :math:`\ell` of `pairwise_likelihood`. The paper's weights :math:`|S|/|S_1|` and
    :math:`|S|/|S_0|`, divided by the number of pairs :math:`|S|`, are these two means. A kind of
    pair that does not occur contributes 0.

    Args:
        codes: relaxed codes of this device's rows, tanh(beta u).
        others: relaxed codes of the columns: the batch itself (gathered, over devices) or a bank.
        similar: True where the pair is similar.
        scale: factor of the inner product; 10 / bits in HashNet's own code.
        where: True for the valid pairs.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> z = jnp.array([[1.0], [1.0], [-1.0]])
        >>> same = jnp.array([[True, True, False], [True, True, False], [False, False, True]])
        >>> hashnet(z, z, same, scale=1.0).round(4)  # twice log(1 + 1/e): every pair agrees
        Array(0.6265, dtype=float32)

    Reference:
        Cao, Long, Wang, Yu, "HashNet: Deep Learning to Hash by Continuation", ICCV 2017, eq. (4).
        As in the released code, the pair of a row with itself counts where ``others`` holds it.
    """
    loss = _likelihood(codes, others, similar, scale, where)
    valid = jnp.ones_like(similar) if where is None else where
    alike, unlike = (_weight(valid & kind, axis_name) for kind in (similar, ~similar))
    share = jnp.where(valid, jnp.where(similar, alike, unlike) * loss, 0.0)
    return sum_of_shares(jnp.sum(share), axis_name)


def _weight(where: Bool[Array, "n m"], axis_name: str | None) -> Float[Array, ""]:
    """One over the number of marked pairs of all devices."""
    columns = jnp.sum(where, axis=0, dtype=jnp.int32)
    count = jnp.sum(lax.optimization_barrier(columns))  # merged, XLA would hold the pairs as int32
    if axis_name is not None:
        count = lax.psum(count, axis_name)
    return 1.0 / jnp.maximum(count, 1)
