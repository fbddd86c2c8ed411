"""Pairwise losses of distances and angles between codes."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from jaxhash.losses._common import (
    PairCounts,
    balanced_mean_over_pairs,
    check_pairs,
    count_pairs,
    mean_over_pairs,
)
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import cosine_similarity, inner_products

#: Added to the distance of a dissimilar pair, in bits, so that it can be divided by.
EPSILON = 1e-3


@on_any_mesh
def dch(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    gamma: float = 20.0,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
    pair_counts: PairCounts | None = None,
) -> Float[Array, ""]:
    r"""Deep Cauchy hashing: weighted likelihood of the similarities under a Cauchy distribution.

    .. math:: L = \operatorname{mean}_{s_{ij}=1} \log\Big(1 + \frac{d_{ij}}\gamma\Big)
              + \operatorname{mean}_{s_{ij}=0} \log\Big(1 + \frac\gamma{d_{ij} + \epsilon}\Big),
              \qquad d_{ij} = \frac{\mathrm{bits}}2 (1 - \cos(u_i, v_j)).

    d is the Hamming distance if both codes are in {-1, 1}. The paper's weights :math:`|S|/|S_1|`
    and :math:`|S|/|S_0|`, divided by the number of pairs :math:`|S|`, give the two means. A kind of
    pair that does not occur contributes 0.

    Args:
        codes: raw outputs of the network; their lengths do not matter.
        others: the same for the columns.
        gamma: scale of the Cauchy distribution, in bits.

    Raises:
        ValueError: if gamma is not above 0.

    Example:
        >>> u = jnp.array([[3.0, 0.0]])  # 0 bits from the first of the others, 2 from the second
        >>> v = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
        >>> dch(u, v, jnp.array([[True, False]]), gamma=2.0).round(3)  # log 1 + log(1 + 2/2)
        Array(0.693, dtype=float32)

    Reference:
        Cao, Long, Liu, Wang, "Deep Cauchy Hashing for Hamming Space Retrieval", CVPR 2018. The two
        terms are :math:`s \log(d/\gamma) + \log(1 + \gamma/d)` for s = 1 and s = 0: the first is
        finite at d = 0. Departures: epsilon, 0.001 bits, keeps dissimilar images of the same code
        finite; and each kind of pair is averaged, where the paper sums. A public reimplementation
        clips the cosine at 0.99 instead, so closer pairs, similar or not, have no gradient; the
        authors' released code uses squared distances and weights dissimilar pairs by 1.
    """
    if gamma <= 0:
        raise ValueError(f"gamma must be above 0, got {gamma}")
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    distance = 0.5 * codes.shape[-1] * (1.0 - cosine_similarity(codes, others))
    distance = jnp.maximum(distance, 0.0)  # a cosine may round to above 1
    loss = jnp.where(similar, jnp.log1p(distance / gamma), jnp.log1p(gamma / (distance + EPSILON)))
    return balanced_mean_over_pairs(loss, similar, where, axis_name, pair_counts)


@on_any_mesh
def dsh(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    margin: float | None = None,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
    pair_counts: PairCounts | None = None,
) -> Float[Array, ""]:
    r"""Deep supervised hashing (DSH): contrastive loss of squared distances.

    .. math:: L = \operatorname{mean}_{ij}
              \frac{s_{ij}}2 \lVert u_i - v_j\rVert^2
              + \frac{1 - s_{ij}}2 \max(0, m - \lVert u_i - v_j\rVert^2).

    Each bit that differs between codes in {-1, 1} adds 4 to the squared distance.

    Args:
        codes: raw outputs of the network.
        others: the same for the columns.
        margin: m; 2 bits by default, the squared distance of codes that differ in half of the bits.

    Raises:
        ValueError: if the margin is not above 0.

    Example:
        >>> u, v = jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 0.0], [0.5, 0.5]])  # squares 1 and 0.5
        >>> dsh(u, v, jnp.array([[True, False]]))  # (1 / 2 + (4 - 0.5) / 2) / 2
        Array(1.125, dtype=float32)

    Reference:
        Liu, Wang, Shan, Chen, "Deep Supervised Hashing for Fast Image Retrieval", CVPR 2016.
        Departure: a mean over pairs; the paper sums. Squared distances are computed from inner
        products, in memory n m instead of n m bits, with an error of about 1e-7 times the squared
        lengths of the codes.
    """
    if margin is not None and margin <= 0:
        raise ValueError(f"margin must be above 0, got {margin}")
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    margin = 2.0 * codes.shape[1] if margin is None else margin
    squares = jnp.sum(codes**2, axis=1)[:, None] + jnp.sum(others**2, axis=1)[None, :]
    distance = jnp.maximum(squares - 2.0 * inner_products(codes, others), 0.0)
    loss = 0.5 * jnp.where(similar, distance, jnp.maximum(margin - distance, 0.0))
    return mean_over_pairs(loss, where, axis_name, pair_counts)


@on_any_mesh
def qsmi(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    needs: float | None = None,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
    pair_counts: PairCounts | None = None,
) -> Float[Array, ""]:
    r"""Quadratic spherical mutual information (QSMI) of codes and classes, square clamped form.

    .. math:: L = \operatorname{mean}_{ij}\;
              (s_{ij} Y_{ij} - 1)^2 + \frac{Y_{ij}^2}M,
              \qquad Y_{ij} = \frac{1 + \cos(u_i, v_j)}2.

    A similar pair is drawn to Y = 1 and every pair, weakly, to Y = 0, so the optimum of a similar
    pair is Y = M / (M + 1). The first term of a dissimilar pair is the constant 1.

    Args:
        codes: raw outputs of the network; their lengths do not matter.
        others: the same for the columns.
        needs: M, the number of information needs, which is the number of classes if these are
            equally frequent. By default the number of valid pairs of the whole batch over that of
            similar pairs; without a similar pair there is no second term.

    Raises:
        ValueError: if ``needs`` is not above 0.

    Example:
        >>> u, v = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 1.0], [-1.0, 0.0]])  # Y = 1/2 and 0
        >>> qsmi(u, v, jnp.array([[True, False]]))  # M = 2: (1/4 + 1/4 / 2 + 1 + 0) / 2
        Array(0.6875, dtype=float32)

    Reference:
        Passalis, Tefas, "Deep supervised hashing using quadratic spherical mutual information for
        efficient image retrieval", Signal Processing: Image Communication 2021 (arXiv 1901.05135);
        the form is that of the authors' released code. Departure: a mean over pairs; the code
        sums.
    """
    if needs is not None and needs <= 0:
        raise ValueError(f"needs must be above 0, got {needs}")
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    closeness = (1.0 + cosine_similarity(codes, others)) / 2.0
    if needs is None:
        pair_counts = count_pairs(similar, where, axis_name) if pair_counts is None else pair_counts
        rarity = (pair_counts.similar / jnp.maximum(sum(pair_counts), 1)).astype(codes.dtype)
    else:
        rarity = 1.0 / needs
    loss = jnp.where(similar, (closeness - 1.0) ** 2, 1.0) + rarity * closeness**2
    return mean_over_pairs(loss, where, axis_name, pair_counts)


@on_any_mesh
def wglhh(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    alpha: float = 0.1,
    similar_weight: float = 1.0,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
    pair_counts: PairCounts | None = None,
) -> Float[Array, ""]:
    r"""Weighted Gaussian loss (WGLHH): divergence between similarity and a Gaussian of distance.

    .. math:: L = \operatorname{mean}_{ij}\; w_{ij}\, e^{|Y_{ij} - s_{ij}|}\,
              \Big(p_{ij} \log\frac{2 p_{ij}}{p_{ij} + s_{ij}}
              + s_{ij} \log\frac{2 s_{ij}}{p_{ij} + s_{ij}}\Big)

    .. math:: p_{ij} = e^{-\alpha d_{ij}^2}, \qquad
              d_{ij} = \frac{\mathrm{bits}}2 (1 - \cos(u_i, v_j)), \qquad
              Y_{ij} = \frac{1 + \cos(u_i, v_j)}2

    with :math:`0 \log 0 = 0`. The bracket is a divergence of p and s: 0 if they are equal,
    :math:`p \log 2` for a dissimilar pair and :math:`\log 2` for a similar pair that is far apart.
    The exponential is the attention to badly trained pairs. The gradient flows through it too; for
    a similar pair that is far apart, where the gradient of p vanishes, it is the only gradient.

    Args:
        codes: raw outputs of the network; their lengths do not matter.
        others: the same for the columns.
        alpha: parameter of the Gaussian, whose variance is 1 / (2 alpha) squared bits.
        similar_weight: w of a similar pair; a dissimilar pair has weight 1.

    Raises:
        ValueError: if ``alpha`` or ``similar_weight`` is not above 0.

    Example:
        >>> u = jnp.array([[1.0, 0.0]])
        >>> wglhh(u, u, jnp.array([[True]])), wglhh(u, u, jnp.array([[False]])).round(4)  # e log 2
        (Array(0., dtype=float32), Array(1.8842, dtype=float32))

    Reference:
        Tu, Mao, Kong, Shao, Li, Wei, Huang, "Weighted Gaussian Loss based Hamming Hashing", ACM
        Multimedia 2021. The paper's equations were not at hand: two public implementations agree on
        p, on the attention and on alpha = 0.1; the divergence is that of the more literal one,
        which adds small constants against 0 / 0 and weights similar pairs by 1.1 to 1.7, depending
        on the bits. The other one omits the factors 2.
    """
    for name, value in (("alpha", alpha), ("similar_weight", similar_weight)):
        if value <= 0:
            raise ValueError(f"{name} must be above 0, got {value}")
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    cosine = cosine_similarity(codes, others)
    closeness = (1.0 + cosine) / 2.0
    exponent = alpha * (0.5 * codes.shape[-1] * (1.0 - cosine)) ** 2
    p = jnp.exp(-exponent)
    negative = p * jnp.log(2.0)
    positive = (1.0 + p) * (jnp.log(2.0) - jnp.log1p(p)) - exponent * p  # p log p without log 0
    loss = jnp.where(
        similar,
        similar_weight * jnp.exp(1.0 - closeness) * positive,
        jnp.exp(closeness) * negative,
    )
    return mean_over_pairs(loss, where, axis_name, pair_counts)
