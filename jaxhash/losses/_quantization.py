"""Quantization losses of each code on its own, with no view of the batch.

With b = sign u, where zero counts as +1 as in `jaxhash.ops.codes`, |u| - 1 is the way from a code to its
sign but for its direction. Every loss here is written in u - b, so that a code at exactly 0 moves to
the sign that it is cut to, instead of resting at the cusp.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from jaxhash.losses._common import Reduce, check_codes
from jaxhash.ops.codes import binarize
from jaxhash.ops.collectives import masked_mean
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import normalize_rows


@on_any_mesh
def l2_quantization(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Squared distance of each code to its own sign (the L2 quantization penalty).

    .. math:: L_j = \frac1N \sum_{i=1}^N (|u_{ij}| - 1)^2
              = \frac1N \sum_{i=1}^N (u_{ij} - \operatorname{sign} u_{ij})^2

    It makes bits binary but not balanced: a bit that is +1 on every image costs 0. `hswd` is this
    penalty plus the cost of moving the codes nearest to 0 across it until the bit is balanced.

    Zero counts as +1, as in `jaxhash.ops.codes`, so its gradient is :math:`-2/N` as at :math:`0^+`: a
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
    return _of_bits(codes, lambda u, b: (u - b) ** 2, where, axis_name, reduce_fn)


@on_any_mesh
def l1_quantization(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Distance of each code to its own sign (the L1 quantization penalty).

    .. math:: L_j = \frac1N \sum_{i=1}^N \big| |u_{ij}| - 1 \big|

    The gradient has the same size however near the sign a code is, and is 0 on it.

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
        >>> l1_quantization(jnp.array([[2.0, -1.0], [-0.5, 0.0]]), reduce_fn=None)
        Array([0.75, 0.5 ], dtype=float32)

    Reference:
        The regulariser of Liu, Wang, Shan, Chen, "Deep supervised hashing for fast image retrieval"
        (DSH), CVPR 2016. Departure: a mean over batch and bits, where the paper sums over them.
    """

    def cost(u, b):
        return (u - b) * jnp.sign(u - b)  # not jnp.abs, whose slope at 0 is 1

    return _of_bits(codes, cost, where, axis_name, reduce_fn)


@on_any_mesh
def cubic_quantization(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Cubed distance of each code to its own sign.

    .. math:: L_j = \frac1N \sum_{i=1}^N \big| |u_{ij}| - 1 \big|^3

    Beside `l2_quantization` it is lenient close to the sign, and strict from a distance of 1 on.

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
        >>> cubic_quantization(jnp.array([[2.0, -1.0], [-0.5, 0.0]]), reduce_fn=None)
        Array([0.5625, 0.5   ], dtype=float32)

    Reference:
        The penalty of Su, Zhang, Han, Tian, "Greedy Hash: Towards Fast Optimization for Accurate
        Hash Coding in CNN", NeurIPS 2018, with the mean of its released code.
    """
    return _of_bits(codes, lambda u, b: jnp.abs(u - b) ** 3, where, axis_name, reduce_fn)


@on_any_mesh
def log_cosh_quantization(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Smooth distance of each code to its own sign: square when near it, straight when far.

    .. math:: L_j = \frac1N \sum_{i=1}^N \log\cosh(|u_{ij}| - 1)

    It is computed as :math:`|x| + \log(1 + e^{-2|x|}) - \log 2`, which no code overflows. The
    gradient is :math:`\tanh(u - \operatorname{sign} u)/N`, hence at most 1/N.

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
        >>> log_cosh_quantization(jnp.array([[-1.0], [51.0]])).round(2)  # (0 + 50 - log 2) / 2
        Array(24.65, dtype=float32)

    Reference:
        Zhu, Long, Wang, Cao, "Deep Hashing Network for Efficient Similarity Retrieval" (DHN),
        AAAI 2016, whose prior on codes it is. Departure: a mean over batch and bits, where the
        paper sums over them. At least one later implementation has log cosh|u| - 1 instead, which
        is least at 0 and so draws codes away from their signs.
    """

    def cost(u, b):
        size = jnp.abs(u - b)
        return size + jnp.log1p(jnp.exp(-2.0 * size)) - jnp.log(2.0)

    return _of_bits(codes, cost, where, axis_name, reduce_fn)


@on_any_mesh
def gaussian_bce_quantization(
    codes: Float[Array, "n bits"],
    *,
    sigma: float = 0.5,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Cross-entropy of each code's likelihood under two Gaussians about -1 and +1.

    With :math:`g_\pm = \exp(-(u \mp 1)^2 / 2\sigma^2)`, the binary cross-entropy
    :math:`H(g, y) = -y \log g - (1 - y) \log(1 - g)` and :math:`b = \operatorname{sign} u`,

    .. math:: L = H\!\big(g_+, \tfrac{1 + b}2\big) + H\!\big(g_-, \tfrac{1 - b}2\big)
              = \frac{(|u| - 1)^2}{2\sigma^2}
                - \log\!\Big(1 - \exp\frac{-(|u| + 1)^2}{2\sigma^2}\Big),

    averaged over the batch. The second form has no logarithm of 0 anywhere, and is the one
    computed. It is `l2_quantization` over :math:`2\sigma^2`, and a push away from 0: the least
    value lies just beyond the sign.

    Args:
        codes: raw outputs of the network, unbounded. Rows are the batch.
        sigma: deviation of the Gaussians.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.
        reduce_fn: reduction over bits; None returns the loss of each bit, with shape [bits].

    Returns:
        The loss in float32: a scalar, or one value a bit with ``reduce_fn=None``.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit, or sigma is not above 0.

    Example:
        >>> codes = jnp.array([[0.0], [-3.0]])  # 2 - log(1 - e^-2) and 8
        >>> gaussian_bce_quantization(codes).round(4)
        Array(5.0727, dtype=float32)

    Reference:
        Jang, Gu, Ko, Kang, Cho, "Deep Hash Distillation for Image Retrieval" (DHD), ECCV 2022, from
        memory of the paper; the text was not at hand. Departure: no logarithm is cut off, where a
        cross-entropy of PyTorch stops at 100 and leaves codes farther out than about 8 without a
        gradient.
    """
    if sigma <= 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    scale = 2.0 * sigma**2

    def cost(u, b):
        return (u - b) ** 2 / scale - jnp.log(-jnp.expm1(-((u + b) ** 2) / scale))

    return _of_bits(codes, cost, where, axis_name, reduce_fn)


@on_any_mesh
def cosine_quantization(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""One less the cosine between each code and its signs.

    .. math:: L = \frac1N \sum_{i=1}^N \big[1 - \cos(u_i, \operatorname{sign} u_i)\big]
              = \frac1N \sum_{i=1}^N
                \Big[1 - \frac{\lVert u_i \rVert_1}{\sqrt{\mathrm{bits}}\,\lVert u_i \rVert_2}\Big]

    The length of a code does not matter, only that its entries are of one size. A row of zeros
    has no direction: it costs 1, and its gradient is 0. With one bit every code but 0 costs 0.

    Args:
        codes: raw outputs of the network, unbounded. Rows are the batch.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar. It is one of whole rows, so there is none a bit.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> codes = jnp.array([[3.0, -3.0, 3.0, 3.0], [0.0, 2.0, 0.0, 0.0]])  # cosines 1 and 1/2
        >>> cosine_quantization(codes)
        Array(0.25, dtype=float32)

    Reference:
        Ng et al., "Unsupervised Hashing with Similarity Distribution Calibration" (SDC), BMVC 2023,
        as one of its two terms; from memory of the paper, the text was not at hand.
    """
    return _of_rows(codes, lambda u: 1.0 - _cosine_to_signs(u), where, axis_name)


@on_any_mesh
def cauchy_quantization(
    codes: Float[Array, "n bits"],
    *,
    gamma: float = 20.0,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Cauchy likelihood of each code's distance to its signs.

    .. math:: L = \frac1N \sum_{i=1}^N \log\Big(1 + \frac{d(|u_i|, \mathbf 1)}{\gamma}\Big),
              \qquad d(v, w) = \frac{\mathrm{bits}}2 (1 - \cos(v, w)).

    d is a Hamming distance where both are signs; that of a code to its signs is at most bits / 2.
    As in `cosine_quantization` lengths do not matter; a row of zeros has d = bits / 2 and no
    gradient.

    Args:
        codes: raw outputs of the network, unbounded. Rows are the batch.
        gamma: scale of the Cauchy law, in bits.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar. It is one of whole rows, so there is none a bit.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit, or gamma is not above 0.

    Example:
        >>> codes = jnp.array([[3.0, -3.0, 3.0, 3.0], [0.0, 2.0, 0.0, 0.0]])  # distances 0 and 1
        >>> cauchy_quantization(codes, gamma=1.0).round(4)  # (log 1 + log 2) / 2
        Array(0.3466, dtype=float32)

    Reference:
        Cao, Long, Liu, Wang, "Deep Cauchy Hashing for Hamming Space Retrieval" (DCH), CVPR 2018,
        the Cauchy quantization loss. Departure: a mean over the batch, where the paper sums. The
        authors' released code takes (|u| - 1)^2 instead, with a weight of 0.
    """
    if gamma <= 0:
        raise ValueError(f"gamma must be above 0, got {gamma}")

    def cost(u):
        return jnp.log1p(0.5 * u.shape[1] / gamma * (1.0 - _cosine_to_signs(u)))

    return _of_rows(codes, cost, where, axis_name)


def _of_bits(
    codes: Float[Array, "n bits"],
    cost: Callable[[Float[Array, "n bits"], Float[Array, "n bits"]], Float[Array, "n bits"]],
    where: Shaped[ArrayLike, " n"] | None,
    axis_name: str | None,
    reduce_fn: Reduce | None,
) -> Float[Array, "..."]:
    """The mean over valid rows of ``cost(codes, their signs)``, reduced over bits."""
    codes, where = check_codes(codes, where, masked=1.0)  # where all costs are smooth
    loss = masked_mean(cost(codes, binarize(codes).astype(codes.dtype)), where, axis_name)
    return loss if reduce_fn is None else reduce_fn(loss)


def _of_rows(
    codes: Float[Array, "n bits"],
    cost: Callable[[Float[Array, "n bits"]], Float[Array, " n"]],
    where: Shaped[ArrayLike, " n"] | None,
    axis_name: str | None,
) -> Float[Array, ""]:
    """The mean over valid rows of ``cost(codes)``."""
    codes, where = check_codes(codes, where, masked=1.0)
    return masked_mean(cost(codes), where, axis_name)


def _cosine_to_signs(codes: Float[Array, "n bits"]) -> Float[Array, " n"]:
    """The cosine between each row and its signs, 0 for a row of zeros."""
    along = jnp.sum(normalize_rows(codes) * binarize(codes), axis=1)
    return along / math.sqrt(codes.shape[1])
