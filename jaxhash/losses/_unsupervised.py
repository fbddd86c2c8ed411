"""Losses without labels: codes match the similarities of features, or agree between two views."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import check_codes, check_pairs, mean_over_pairs
from jaxhash.ops.arguments import as_floating, as_real, check_shape
from jaxhash.ops.collectives import all_gather, psum_local_grad, row_count, row_indices
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32, cosine_similarity, inner_products, normalize_rows


@on_any_mesh
def cosine_regression(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similarity: Float[ArrayLike, "n m"],
    *,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Squared error between the cosines of codes and given similarities.

    .. math:: L = \operatorname{mean}_{ij} \big(\cos(u_i, v_j) - s_{ij}\big)^2.

    Args:
        codes: codes of any kind; their lengths do not matter.
        similarity: targets of the cosines, in [-1, 1]; for example the cosines of fixed features.

    Example:
        >>> u = jnp.array([[1.0, 1.0], [1.0, -1.0]])
        >>> cosine_regression(u, u, jnp.array([[1.0, 0.5], [0.5, 1.0]]))  # cosines 1, 0, 0, 1
        Array(0.125, dtype=float32)

    Reference:
        The unsupervised loss of Su, Zhang, Han, Tian, "Greedy Hash: Towards Fast Optimization for
        Accurate Hash Coding in CNN", NeurIPS 2018, and of Li, van Gemert, "Deep Unsupervised Image
        Hashing by Maximizing Bit Entropy", AAAI 2021. Both released codes pair the first half of a
        batch with its second half; here the caller selects the pairs.
    """
    similarity = as_floating("similarity", similarity, ndim=2)
    codes, others, similarity, valid = _check_similarity(codes, others, similarity, where)
    return mean_over_pairs((cosine_similarity(codes, others) - similarity) ** 2, valid, axis_name)


@on_any_mesh
def semantic_structure(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similarity: Shaped[ArrayLike, "n m"],
    *,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Squared error between inner products and pseudo-similarities of +1 and -1 (SSDH).

    .. math:: L = \operatorname{mean}_{ij:\, s_{ij} \ne 0}
              \Big(\frac{h_i \cdot h_j}{\mathrm{bits}} - s_{ij}\Big)^2.

    Args:
        codes: relaxed codes, tanh(u).
        others: relaxed codes of the columns.
        similarity: +1 for a similar pair, -1 for a dissimilar pair, 0 for a pair that is left out.

    Returns:
        The loss; 0 if no pair is +1 or -1.

    Example:
        >>> h = jnp.array([[1.0, 1.0], [1.0, 0.0]])  # inner products over bits: 1, 1/2, 1/2, 1/2
        >>> semantic_structure(h, h, jnp.array([[1.0, -1.0], [-1.0, 0.0]]))
        Array(1.5, dtype=float32)

    Reference:
        Yang, Deng, Liu, Liu, Tao, "Semantic Structure-based Unsupervised Deep Hashing" (SSDH),
        IJCAI 2018; from memory of the paper, the text was not at hand. Departure: a mean over the
        pairs of +1 and -1, so that the loss does not depend on their share; public codes divide by
        the number of all pairs.
    """
    codes, others, similarity, valid = _check_similarity(codes, others, similarity, where)
    products = inner_products(codes, others) / codes.shape[1]
    return mean_over_pairs((products - similarity) ** 2, valid & (similarity != 0), axis_name)


@on_any_mesh
def semantic_consistency(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similarity: Shaped[ArrayLike, "n m"],
    confidence: Shaped[ArrayLike, "n m"],
    *,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Squared error between inner products and pseudo-similarities, weighted by confidence (CIMON).

    .. math:: L = \operatorname{mean}_{ij}\; w_{ij} \Big(\frac{h_i \cdot h_j}{\mathrm{bits}}
              - s_{ij}\Big)^2.

    The mean is over all valid pairs, whatever their confidence. Where ``others`` holds the row
    itself, as in CIMON, its own pair draws the code to -1 and 1.

    Args:
        codes: relaxed codes, tanh(u).
        others: relaxed codes of the columns.
        similarity: +1 for a similar pair, -1 for a dissimilar pair.
        confidence: weight of each pair, in [0, 1]; see `jaxhash.similarity.semantic_confidence`.

    Example:
        >>> h = jnp.array([[1.0, 1.0], [1.0, 0.0]])  # inner products over bits: 1, 1/2, 1/2, 1/2
        >>> signs, trust = jnp.array([[1, -1], [-1, 1]]), jnp.array([[1.0, 0.5], [0.5, 1.0]])
        >>> semantic_consistency(h, h, signs, trust)  # (0 + 9/8 + 9/8 + 1/4) / 4
        Array(0.625, dtype=float32)

    Reference:
        Luo et al., "CIMON: Towards High-quality Hash Codes", IJCAI 2021; read in the authors' code.
    """
    codes, others, similarity, valid = _check_similarity(codes, others, similarity, where)
    weight = as_real("confidence", confidence, similarity.shape, minimum=0.0, maximum=1.0)
    weight = jnp.where(valid, at_least_float32(weight), 0.0)
    products = inner_products(codes, others) / codes.shape[1]
    return mean_over_pairs(weight * (products - similarity) ** 2, valid, axis_name)


@on_any_mesh
def nt_xent(
    codes: Float[Array, "n bits"],
    others: Float[Array, "n bits"],
    *,
    temperature: float = 0.3,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Contrastive loss of two views: each is classified among all views of the batch (NT-Xent).

    With the 2N codes :math:`z` of both views and :math:`p(i)` the other view of i's image,

    .. math:: L = \frac1{2N} \sum_{i=1}^{2N}
              \Big[\log \sum_{k \ne i} e^{\cos(z_i, z_k) / \tau} - \cos(z_i, z_{p(i)}) / \tau\Big].

    Args:
        codes: codes of the first view.
        others: codes of the same rows in the second view [n, bits].
        temperature: :math:`\tau`; by default that of CIBHash.
        axis_name: see `jaxhash.losses`. Each view is compared with the views of all devices.

    Returns:
        The loss; 0 for a single image.

    Raises:
        ValueError: if ``temperature`` is not above 0.

    Example:
        >>> z = jnp.array([[1.0, 1.0], [1.0, -1.0]])
        >>> nt_xent(z, z, temperature=1.0).round(4)  # log(e^1 + 2 e^0) - 1
        Array(0.5514, dtype=float32)

    Reference:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations"
        (SimCLR), ICML 2020; on binary codes Qiu et al., "Unsupervised Hashing with Contrastive
        Information Bottleneck" (CIBHash), IJCAI 2021.
    """
    codes, others, where = _check_views(codes, others, where)
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    views = [normalize_rows(codes), normalize_rows(others)]
    image = row_indices(codes.shape[0], axis_name)
    all_views, valid = all_gather((views, where), axis_name)
    rows, columns = jnp.concatenate(views), jnp.concatenate(all_views)
    scores = inner_products(rows, columns) / temperature

    total = all_views[0].shape[0]
    own_column = jnp.concatenate([image, image + total])
    partner = jnp.concatenate([image + total, image])
    column = jnp.arange(2 * total)
    candidate = jnp.tile(valid, 2)[None, :] & (column[None, :] != own_column[:, None])
    # The partner is a candidate of masked rows too, so that no logarithm of 0 occurs.
    candidate |= column[None, :] == partner[:, None]
    positive = jnp.take_along_axis(scores, partner[:, None], axis=1)[:, 0]
    cost = jax.nn.logsumexp(jnp.where(candidate, scores, -jnp.inf), axis=1) - positive
    share = jnp.sum(jnp.where(jnp.tile(where, 2), cost, 0.0))
    count = row_count(codes, where, axis_name)
    return psum_local_grad(share / (2 * jnp.maximum(count, 1)), axis_name)


@on_any_mesh
def view_divergence(
    codes: Float[Array, "n bits"],
    others: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Symmetric Kullback-Leibler divergence between the bits of two views, as Bernoulli variables.

    With :math:`p = \sigma(u)` and :math:`q = \sigma(v)`, the probabilities that a bit is +1,

    .. math:: L = \frac1N \sum_i \sum_j \tfrac12 \big[
              \mathrm{KL}(p_{ij} \,\|\, \bar q_{ij}) + \mathrm{KL}(q_{ij} \,\|\, \bar p_{ij}) \big],

    where no gradient flows through the distributions with a bar. It is a *sum* over bits.

    Args:
        codes: raw outputs of the network for the first view: log-odds.
        others: the same for the second view [n, bits].

    Example:
        >>> u, v = jnp.array([[0.0, 1.0]]), jnp.array([[jnp.log(3.0), 1.0]])  # 1/2 against 3/4
        >>> view_divergence(u, v).round(4)  # log(3) / 8: (p - q) (logit p - logit q) / 2
        Array(0.1373, dtype=float32)

    Reference:
        Qiu, Su, Ou, Yu, Chen, "Unsupervised Hashing with Contrastive Information Bottleneck"
        (CIBHash), IJCAI 2021; in the form of its released code. Departure: that code adds
        1e-8 inside logarithms, which distorts the divergence of nearly binary bits; log-odds need
        no such constant.
    """
    u, v, where = _check_views(codes, others, where)
    both = _bernoulli_kl(u, lax.stop_gradient(v)) + _bernoulli_kl(v, lax.stop_gradient(u))
    count = row_count(codes, where, axis_name)
    return psum_local_grad(0.5 * jnp.sum(both) / jnp.maximum(count, 1), axis_name)


def _bernoulli_kl(u: Float[Array, "n bits"], v: Float[Array, "n bits"]) -> Float[Array, "n bits"]:
    """Computes KL(sigmoid(u) || sigmoid(v)) of each entry."""
    positive = jax.nn.sigmoid(u) * (jax.nn.log_sigmoid(u) - jax.nn.log_sigmoid(v))
    negative = jax.nn.sigmoid(-u) * (jax.nn.log_sigmoid(-u) - jax.nn.log_sigmoid(-v))
    return positive + negative


def _check_views(
    codes: Float[Array, "n bits"],
    others: Float[Array, "n bits"],
    where: Shaped[ArrayLike, " n"] | None,
) -> tuple[Float[Array, "n bits"], Float[Array, "n bits"], Bool[Array, " n"]]:
    """Returns the checked views in the accumulation dtype, 0 where masked, and the mask."""
    codes, where = check_codes(codes, where)
    others = at_least_float32(as_floating("others", others, ndim=2))
    check_shape("others", others, codes.shape)
    where = jnp.ones(len(codes), bool) if where is None else where
    return codes, jnp.where(where[:, None], others, 0.0), where


def _check_similarity(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similarity: Shaped[ArrayLike, "n m"],
    where: Shaped[ArrayLike, "n m"] | None,
) -> tuple[Float[Array, "n bits"], Float[Array, "m bits"], Float[Array, "n m"], Bool[Array, "n m"]]:
    """Returns the checked codes and similarities in the accumulation dtype, 0 where masked."""
    codes, others, _, where = check_pairs(codes, others, None, where)
    pairs = len(codes), len(others)
    similarity = at_least_float32(
        as_real("similarity", similarity, pairs, minimum=-1.01, maximum=1.01)
    )
    where = jnp.ones(similarity.shape, bool) if where is None else where
    return codes, others, jnp.where(where, similarity, 0.0), where
