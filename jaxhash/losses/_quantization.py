"""Quantization penalties of single codes: the distance of a code to its own signs.

With b = sign u, where 0 counts as +1 as in `jaxhash.ops.codes`, the distance to the sign is
| |u| - 1 | = |u - b|. The losses are written in u - b, so that a code at exactly 0 moves to +1, the
sign that it is binarized to, instead of staying at the cusp.
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
    penalty plus the cost of moving the codes nearest to 0 across it until the bit is balanced. The
    gradient at exactly 0 is :math:`-2/N`, as at :math:`0^+`.

    Args:
        codes: raw outputs of the network.

    Example:
        >>> codes = jnp.array([[-1.0, 0.5], [1.0, 0.5], [-1.0, 0.5], [1.0, 0.5]])
        >>> l2_quantization(codes, reduce_fn=None)
        Array([0.  , 0.25], dtype=float32)

    Reference:
        The quantization term of Li, Wang, Kang, "Feature learning based deep supervised hashing
        with pairwise labels" (DPSH), IJCAI 2016; many methods use it. Departure: a mean over the
        batch, so that its weight does not depend on the batch size; the paper sums.
    """
    return _mean_per_bit(codes, lambda u, b: (u - b) ** 2, where, axis_name, reduce_fn)


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

    The gradient has the same size at every distance from the sign, and is 0 on it.

    Args:
        codes: raw outputs of the network.

    Example:
        >>> l1_quantization(jnp.array([[2.0, -1.0], [-0.5, 0.0]]), reduce_fn=None)
        Array([0.75, 0.5 ], dtype=float32)

    Reference:
        The regularizer of Liu, Wang, Shan, Chen, "Deep supervised hashing for fast image retrieval"
        (DSH), CVPR 2016. Departure: a mean over batch and bits; the paper sums.
    """

    def cost(u, b):
        return (u - b) * jnp.sign(u - b)  # not jnp.abs, whose derivative at 0 is 1

    return _mean_per_bit(codes, cost, where, axis_name, reduce_fn)


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

    Compared with `l2_quantization` it is smaller near the sign, and larger beyond a distance of 1.

    Args:
        codes: raw outputs of the network.

    Example:
        >>> cubic_quantization(jnp.array([[2.0, -1.0], [-0.5, 0.0]]), reduce_fn=None)
        Array([0.5625, 0.5   ], dtype=float32)

    Reference:
        The penalty of Su, Zhang, Han, Tian, "Greedy Hash: Towards Fast Optimization for Accurate
        Hash Coding in CNN", NeurIPS 2018, with the mean of its released code.
    """
    return _mean_per_bit(codes, lambda u, b: jnp.abs(u - b) ** 3, where, axis_name, reduce_fn)


@on_any_mesh
def log_cosh_quantization(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""Smooth distance of each code to its own sign: quadratic near it, linear far from it.

    .. math:: L_j = \frac1N \sum_{i=1}^N \log\cosh(|u_{ij}| - 1)

    It is computed as :math:`|x| + \log(1 + e^{-2|x|}) - \log 2`, which does not overflow. The
    gradient is :math:`\tanh(u - \operatorname{sign} u)/N`, hence at most 1/N.

    Args:
        codes: raw outputs of the network.

    Example:
        >>> log_cosh_quantization(jnp.array([[-1.0], [51.0]])).round(2)  # (0 + 50 - log 2) / 2
        Array(24.65, dtype=float32)

    Reference:
        Zhu, Long, Wang, Cao, "Deep Hashing Network for Efficient Similarity Retrieval" (DHN),
        AAAI 2016: its prior on codes. Departure: a mean over batch and bits; the paper sums. At
        least one later implementation has log cosh|u| - 1 instead, whose minimum is at 0, so that
        it draws codes away from their signs.
    """

    def cost(u, b):
        size = jnp.abs(u - b)
        return size + jnp.log1p(jnp.exp(-2.0 * size)) - jnp.log(2.0)

    return _mean_per_bit(codes, cost, where, axis_name, reduce_fn)


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

    averaged over the batch. The second form is computed, since it has no logarithm of 0. It is
    `l2_quantization` over :math:`2\sigma^2` plus a repulsion from 0; its minimum lies just beyond
    the sign.

    Args:
        codes: raw outputs of the network.
        sigma: standard deviation of the Gaussians.

    Raises:
        ValueError: if sigma is not above 0.

    Example:
        >>> codes = jnp.array([[0.0], [-3.0]])  # 2 - log(1 - e^-2) and 8
        >>> gaussian_bce_quantization(codes).round(4)
        Array(5.0727, dtype=float32)

    Reference:
        Jang, Gu, Ko, Kang, Cho, "Deep Hash Distillation for Image Retrieval" (DHD), ECCV 2022, from
        memory of the paper; the text was not at hand. Departure: no logarithm is clipped; the
        cross-entropy of PyTorch clips at 100, so codes beyond about 8 have no gradient.
    """
    if sigma <= 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    scale = 2.0 * sigma**2

    def cost(u, b):
        return (u - b) ** 2 / scale - jnp.log(-jnp.expm1(-((u + b) ** 2) / scale))

    return _mean_per_bit(codes, cost, where, axis_name, reduce_fn)


@on_any_mesh
def cosine_quantization(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""One minus the cosine between each code and its signs.

    .. math:: L = \frac1N \sum_{i=1}^N \big[1 - \cos(u_i, \operatorname{sign} u_i)\big]
              = \frac1N \sum_{i=1}^N
                \Big[1 - \frac{\lVert u_i \rVert_1}{\sqrt{\mathrm{bits}}\,\lVert u_i \rVert_2}\Big]

    The length of a code does not matter, only that its entries have the same size. A row of zeros
    costs 1. With one bit every code but 0 costs 0.

    Args:
        codes: raw outputs of the network.

    Example:
        >>> codes = jnp.array([[3.0, -3.0, 3.0, 3.0], [0.0, 2.0, 0.0, 0.0]])  # cosines 1 and 1/2
        >>> cosine_quantization(codes)
        Array(0.25, dtype=float32)

    Reference:
        Ng et al., "Unsupervised Hashing with Similarity Distribution Calibration" (SDC), BMVC 2023,
        as one of its two terms; from memory of the paper, the text was not at hand.
    """
    return _mean_per_row(codes, lambda u: 1.0 - _cosine_to_signs(u), where, axis_name)


@on_any_mesh
def cauchy_quantization(
    codes: Float[Array, "n bits"],
    *,
    gamma: float = 20.0,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Negative log-likelihood of the distance of codes to their signs, with a Cauchy distribution.

    .. math:: L = \frac1N \sum_{i=1}^N \log\Big(1 + \frac{d(|u_i|, \mathbf 1)}{\gamma}\Big),
              \qquad d(v, w) = \frac{\mathrm{bits}}2 (1 - \cos(v, w)).

    d is the Hamming distance between signs; a code is at most bits / 2 from its signs. As in
    `cosine_quantization` lengths do not matter. A row of zeros has d = bits / 2.

    Args:
        codes: raw outputs of the network.
        gamma: scale of the Cauchy distribution, in bits.

    Raises:
        ValueError: if gamma is not above 0.

    Example:
        >>> codes = jnp.array([[3.0, -3.0, 3.0, 3.0], [0.0, 2.0, 0.0, 0.0]])  # distances 0 and 1
        >>> cauchy_quantization(codes, gamma=1.0).round(4)  # (log 1 + log 2) / 2
        Array(0.3466, dtype=float32)

    Reference:
        Cao, Long, Liu, Wang, "Deep Cauchy Hashing for Hamming Space Retrieval" (DCH), CVPR 2018,
        the Cauchy quantization loss. Departure: a mean over the batch; the paper sums. The authors'
        released code has (|u| - 1)^2 instead, with a weight of 0.
    """
    if gamma <= 0:
        raise ValueError(f"gamma must be above 0, got {gamma}")

    def cost(u):
        return jnp.log1p(0.5 * u.shape[1] / gamma * (1.0 - _cosine_to_signs(u)))

    return _mean_per_row(codes, cost, where, axis_name)


def _mean_per_bit(
    codes: Float[Array, "n bits"],
    cost: Callable[[Float[Array, "n bits"], Float[Array, "n bits"]], Float[Array, "n bits"]],
    where: Shaped[ArrayLike, " n"] | None,
    axis_name: str | None,
    reduce_fn: Reduce | None,
) -> Float[Array, "..."]:
    """Averages ``cost(codes, signs)`` over the valid rows, and reduces it over bits."""
    codes, where = check_codes(codes, where, masked=1.0)  # where all costs are differentiable
    loss = masked_mean(cost(codes, binarize(codes).astype(codes.dtype)), where, axis_name)
    return loss if reduce_fn is None else reduce_fn(loss)


def _mean_per_row(
    codes: Float[Array, "n bits"],
    cost: Callable[[Float[Array, "n bits"]], Float[Array, " n"]],
    where: Shaped[ArrayLike, " n"] | None,
    axis_name: str | None,
) -> Float[Array, ""]:
    """Averages ``cost(codes)`` over the valid rows."""
    codes, where = check_codes(codes, where, masked=1.0)
    return masked_mean(cost(codes), where, axis_name)


def _cosine_to_signs(codes: Float[Array, "n bits"]) -> Float[Array, " n"]:
    """Returns the cosine between each row and its signs, 0 for a row of zeros."""
    products = jnp.sum(normalize_rows(codes) * binarize(codes), axis=1)
    return products / math.sqrt(codes.shape[1])
