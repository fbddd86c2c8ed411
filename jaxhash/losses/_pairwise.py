"""Pairwise losses of inner products: likelihoods of the similarities of pairs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import (
    PairCounts,
    Reduce,
    balanced_mean_over_pairs,
    check_pairs,
    mean_over_pairs,
)
from jaxhash.ops.arguments import as_real
from jaxhash.ops.codes import binarize
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32, inner_products, inner_products_or_inf


@on_any_mesh
def pairwise_likelihood(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    scale: float | Float[Array, ""] = 0.5,
    where: Shaped[ArrayLike, "n m"] | None = None,
    reduce_fn: Reduce | None = None,
) -> Float[Array, "..."]:
    r"""Negative log-likelihood of the similarities under a logistic model of the inner products.

    .. math:: \ell_{ij} = \log(1 + e^{\theta_{ij}}) - s_{ij}\,\theta_{ij},
              \qquad \theta_{ij} = \mathrm{scale}\cdot u_i \cdot v_j.

    Args:
        codes: codes of any kind.
        others: the same for the columns.
        scale: factor of the inner product.
        where: True for the valid pairs; the loss of the others is 0.
        reduce_fn: reduction over all pairs, with masked pairs as 0; None (the default) returns the
            matrix [n, m].

    Returns:
        The loss of each pair [n, m] in float32, or its reduction.

    Example:
        >>> u = jnp.array([[2.0, 0.0]])
        >>> pairwise_likelihood(u, u, jnp.array([[True]])).round(4)  # log(1 + e^2) - 2
        Array([[0.1269]], dtype=float32)

    Reference:
        Xia et al., "Supervised hashing for image retrieval via image representation learning",
        AAAI 2014, and Li et al., "Feature learning based deep supervised hashing with pairwise
        labels" (DPSH), IJCAI 2016; both with scale 1/2.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    loss = _softplus(_signed_logits(codes, others, similar, scale))
    if where is not None:
        loss = jnp.where(where, loss, 0.0)
    return loss if reduce_fn is None else reduce_fn(loss)


def _signed_logits(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Bool[Array, "n m"],
    scale: float | Float[Array, ""],
) -> Float[Array, "n m"]:
    """Returns -theta for similar pairs and theta for others: no difference of large numbers."""
    theta = scale * inner_products(codes, others)
    return jnp.where(similar, -theta, theta)


@jax.custom_jvp
def _softplus(x: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """Computes log(1 + e^x); value and derivative share one exponential."""
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@_softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    tail = jnp.exp(-jnp.abs(x))
    derivative = jnp.where(x >= 0, 1.0, tail) / (1.0 + tail)
    return jnp.maximum(x, 0.0) + jnp.log1p(tail), derivative * dx


@on_any_mesh
def hashnet(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    scale: float | Float[Array, ""],
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
    pair_counts: PairCounts | None = None,
) -> Float[Array, ""]:
    r"""Pairwise likelihood of HashNet: similar and dissimilar pairs have equal total weight.

    .. math:: L = \operatorname{mean}_{s_{ij}=1} \ell_{ij} + \operatorname{mean}_{s_{ij}=0} \ell_{ij}

    with :math:`\ell` of `pairwise_likelihood`. The paper's weights :math:`|S|/|S_1|` and
    :math:`|S|/|S_0|`, divided by the number of pairs :math:`|S|`, give these two means. A kind of
    pair that does not occur contributes 0.

    Args:
        codes: relaxed codes, tanh(beta u).
        others: relaxed codes of the columns.
        scale: factor of the inner product; 10 / bits in the code of HashNet.

    Example:
        >>> z = jnp.array([[1.0], [1.0], [-1.0]])
        >>> same = jnp.array([[True, True, False], [True, True, False], [False, False, True]])
        >>> hashnet(z, z, same, scale=1.0).round(4)  # twice log(1 + 1/e): every pair agrees
        Array(0.6265, dtype=float32)

    Reference:
        Cao, Long, Wang, Yu, "HashNet: Deep Learning to Hash by Continuation", ICCV 2017, eq. (4).
        As in the released code, the pair of a row with itself counts if ``others`` contains it.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    loss = _softplus(_signed_logits(codes, others, similar, scale))
    return balanced_mean_over_pairs(loss, similar, where, axis_name, pair_counts)


@on_any_mesh
def mean_likelihood(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    scale: float | Float[Array, ""] = 0.5,
    margin: float = 0.0,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
    pair_counts: PairCounts | None = None,
) -> Float[Array, ""]:
    r"""Mean of `pairwise_likelihood` over pairs; with a margin, the loss of DFH.

    .. math:: L = \operatorname{mean}_{ij} \log\big(1 + e^{m - \tilde s_{ij}\theta_{ij}}\big),
              \qquad \theta_{ij} = \mathrm{scale}\cdot u_i \cdot v_j,
              \qquad \tilde s_{ij} = 2 s_{ij} - 1.

    Without a margin m this is :math:`\log(1 + e^\theta) - s\,\theta`, the loss of DPSH, DHN,
    DSDH, DBDH and LCDSH. With a margin, :math:`\theta` should exceed m for a similar pair, and lie
    below -m for a dissimilar pair.

    Args:
        codes: codes of any kind.
        scale: factor of the inner product.
        margin: m, in units of theta.

    Example:
        >>> u, v = jnp.array([[2.0]]), jnp.array([[-1.0], [-3.0]])  # theta = -1 and -3
        >>> neither = jnp.array([[False, False]])
        >>> round(float(mean_likelihood(u, v, neither, where=~neither)), 4)
        0.1809
        >>> first = jnp.array([[True, False]])  # log(1 + e^(1 - 1))
        >>> round(float(mean_likelihood(u, v, neither, where=first, margin=1.0)), 4)
        0.6931

    Reference:
        Li, Wang, Kang, "Feature learning based deep supervised hashing with pairwise labels"
        (DPSH), IJCAI 2016, and Zhu, Long, Wang, Cao, "Deep hashing network for efficient similarity
        retrieval" (DHN), AAAI 2016. The margin: Li, Pei, Zha, van Gemert, "Push for quantization:
        deep Fisher hashing" (DFH), BMVC 2019. Departure: a mean over pairs; DPSH and DHN sum.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    loss = _softplus(margin + _signed_logits(codes, others, similar, scale))
    return mean_over_pairs(loss, where, axis_name, pair_counts)


@on_any_mesh
def lcdsh_locality(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    *,
    scale: float = 0.5,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
    pair_counts: PairCounts | None = None,
) -> Float[Array, ""]:
    r"""Squared change of the similarity of a pair when its codes are binarized (LCDSH).

    .. math:: L = \operatorname{mean}_{ij}
              \big(\sigma(\theta_{ij}) - \sigma(\theta^b_{ij})\big)^2,
              \qquad \theta_{ij} = \mathrm{scale}\cdot u_i \cdot v_j,
              \qquad \theta^b_{ij}
              = \mathrm{scale}\cdot \operatorname{sign} u_i \cdot \operatorname{sign} v_j.

    It needs no labels. The signs are constants for the gradient.

    Args:
        codes: raw outputs of the network.
        others: the same for the columns.
        scale: factor of both inner products.

    Example:
        >>> u, v = jnp.array([[0.0, 3.0]]), jnp.array([[1.0, 0.0]])  # theta = 0, and 1 of the signs
        >>> lcdsh_locality(u, v).round(4)  # (1/2 - 1 / (1 + 1/e))^2
        Array(0.0534, dtype=float32)

    Reference:
        Zhu, Gao, "Locality constrained deep supervised hashing for image retrieval" (LCDSH), IJCAI
        2017. The form is that of a public reimplementation; the paper's text was not at hand.
        Departure: a mean over pairs.
    """
    codes, others, _, where = check_pairs(codes, others, None, where)
    signs, other_signs = (binarize(each).astype(each.dtype) for each in (codes, others))
    change = jax.nn.sigmoid(scale * inner_products_or_inf(codes, others)) - jax.nn.sigmoid(
        scale * inner_products(signs, other_signs)
    )
    return mean_over_pairs(change**2, where, axis_name, pair_counts)


@on_any_mesh
def idhn(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    scale: float | None = None,
    gamma: float = 0.1,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
    pair_counts: PairCounts | None = None,
) -> Float[Array, ""]:
    r"""IDHN: a likelihood for pairs that share all labels or none, a regression for the others.

    .. math:: \ell_{ij} = \begin{cases}
              \log(1 + e^{\theta_{ij}}) - s_{ij}\,\theta_{ij} & s_{ij} \in \{0, 1\} \\
              \gamma\,\mathrm{bits} \left(\frac{1 + u_i \cdot v_j / \mathrm{bits}}2
              - s_{ij}\right)^2
              & \text{otherwise} \end{cases}
              \qquad \theta_{ij} = \mathrm{scale}\cdot u_i \cdot v_j

    averaged over pairs. For codes in {-1, 1} the fraction is the share of equal bits, so it can
    match any s in [0, 1].

    Args:
        codes: relaxed codes in (-1, 1).
        others: relaxed codes of the columns.
        similar: similarity of each pair in [0, 1], as from `jaxhash.similarity.label_cosine`;
            values within 0.01 of 0 or 1 count as 0 or 1.
        scale: factor of the inner product in the likelihood; 5 / bits by default.
        gamma: weight of the regression.

    Example:
        >>> u = jnp.array([[1.0, 1.0]])  # half of the bits agree, and the labels ask for 0.75
        >>> idhn(u, jnp.array([[1.0, -1.0]]), jnp.array([[0.75]]), gamma=1.0)  # 2 bits * 0.25^2
        Array(0.125, dtype=float32)

    Reference:
        Zhang, Zou, Lin, Chen, Wang, "Improved deep hashing with soft pairwise similarity for
        multi-label image retrieval", IEEE Transactions on Multimedia 2019. Scale and weights are
        those of the authors' released code; the equations of the paper were not at hand. A public
        reimplementation has (u.v / 2 + bits - 2 s bits)^2 for the regression, whose target for
        s = 1 is twice what codes in {-1, 1} can reach.
    """
    codes, others, _, where = check_pairs(codes, others, None, where)
    pairs = codes.shape[0], others.shape[0]
    similar = at_least_float32(as_real("similar", similar, pairs, minimum=-0.01, maximum=1.01))
    bits = codes.shape[1]
    if where is not None:
        similar = jnp.where(where, similar, 0.0)
    inner = inner_products(codes, others)
    theta = (5 / bits if scale is None else scale) * inner
    all_shared, none_shared = similar > 0.99, similar < 0.01
    likelihood = _softplus(jnp.where(all_shared, -theta, theta))
    regression = gamma * bits * ((1.0 + inner / bits) / 2.0 - similar) ** 2
    loss = jnp.where(all_shared | none_shared, likelihood, regression)
    return mean_over_pairs(loss, where, axis_name, pair_counts)
