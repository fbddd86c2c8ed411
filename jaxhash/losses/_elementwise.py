"""Quantization losses of each code on its own, with no view of the batch."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxhash.codes import binarize
from jaxhash.losses._common import (
    Reduce,
    accumulate,
    check_floating,
    check_shape,
    sum_of_shares,
)
from jaxhash.selection import row_count


def l2_quantization(
    codes: Float[Array, "n bits"],
    *,
    where: Bool[Array, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Squared distance of each code to its own sign (the L2 quantization penalty).

    .. math:: L_j = \frac1N \sum_{i=1}^N (|u_{ij}| - 1)^2
              = \frac1N \sum_{i=1}^N (u_{ij} - \operatorname{sign} u_{ij})^2

    It makes bits binary but not balanced: a bit that is +1 on every image costs 0. `hswd` is this
    penalty plus the cost of moving the codes nearest to 0 across it until the bit is balanced.

    Zero counts as +1, as in `jaxhash.codes`, so its gradient is :math:`-2/N` as at :math:`0^+`: a
    code at exactly 0 moves to the sign that it is cut to, instead of resting at the cusp.

    Args:
        codes: raw outputs of the network, unbounded. Rows are the batch.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.
        reduce_fn: reduction over bits; None returns the loss of each bit, with shape [bits].

    Returns:
        The loss in float32: a scalar, or one value a bit with ``reduce_fn=None``.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> codes = jnp.array([[-1.0, 0.5], [1.0, 0.5], [-1.0, 0.5], [1.0, 0.5]])
        >>> l2_quantization(codes, reduce_fn=None)
        Array([0.  , 0.25], dtype=float32)

    Reference:
        The quantization term of Li, Wang, Kang, "Feature learning based deep supervised hashing
        with pairwise labels" (DPSH), IJCAI 2016; many methods use it. Departure: a mean over the
        batch, where the paper has a sum, so that its weight does not depend on the batch size.
    """
    check_floating("codes", codes, ndim=2)
    check_shape("where", where, codes.shape[:1])

    codes = accumulate(codes)
    gap = codes - binarize(codes)
    if where is not None:
        gap = jnp.where(where[:, None], gap, 0.0)
    share = jnp.sum(gap**2, axis=0) / jnp.maximum(row_count(codes, where, axis_name), 1)
    loss = sum_of_shares(share, axis_name)
    return loss if reduce_fn is None else reduce_fn(loss)
