"""Losses without labels: codes that keep the similarities of features, or agree over two views."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import check_codes, check_pairs, mean_over_pairs
from jaxhash.ops.arguments import as_floating, as_real, check_shape
from jaxhash.ops.collectives import psum_local_grad, row_count, row_indices
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
    r"""Squared distance of the cosines of codes to given similarities.

    .. math:: L = \operatorname{mean}_{ij} \big(\cos(u_i, v_j) - s_{ij}\big)^2.

    Args:
        codes: codes of this device's rows. The cosine with a row of zeros is 0, and so is its
            gradient.
        others: codes of the columns: the batch itself (gathered, over devices) or a bank.
        similarity: what the cosines are to be, in [-1, 1]; of fixed features, their own cosines.
        where: True for the valid pairs.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar.

    Raises:
        TypeError: if codes, others or similarity are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> u = jnp.array([[1.0, 1.0], [1.0, -1.0]])
        >>> cosine_regression(u, u, jnp.array([[1.0, 0.5], [0.5, 1.0]]))  # cosines 1, 0, 0, 1
        Array(0.125, dtype=float32)

    Reference:
        The unsupervised loss of Su, Zhang, Han, Tian, "Greedy Hash: Towards Fast Optimization for
        Accurate Hash Coding in CNN", NeurIPS 2018, and of Li, van Gemert, "Deep Unsupervised Image
        Hashing by Maximizing Bit Entropy", AAAI 2021. Both released codes pair the first half of a
        batch with its second half; which pairs count is the caller's to say here.
    """
    similarity = as_floating("similarity", similarity, ndim=2)
    codes, others, similarity, valid = _pairs(codes, others, similarity, where)
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
    r"""Squared distance of inner products to pseudo-similarities of +1 and -1.

    .. math:: L = \operatorname{mean}_{ij:\, s_{ij} \ne 0}
              \Big(\frac{h_i \cdot h_j}{\mathrm{bits}} - s_{ij}\Big)^2.

    Args:
        codes: relaxed codes of this device's rows, tanh(u).
        others: relaxed codes of the columns: the batch itself (gathered, over devices) or a bank.
        similarity: +1 for a pair that counts as similar, -1 for one that counts as dissimilar, and
            0 for one that is left out.
        where: True for the valid pairs.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar; 0 without a pair of either kind.

    Raises:
        TypeError: if codes or others are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> h = jnp.array([[1.0, 1.0], [1.0, 0.0]])  # inner products over bits: 1, 1/2, 1/2, 1/2
        >>> semantic_structure(h, h, jnp.array([[1.0, -1.0], [-1.0, 0.0]]))
        Array(1.5, dtype=float32)

    Reference:
        Yang, Deng, Liu, Liu, Tao, "Semantic Structure-based Unsupervised Deep Hashing" (SSDH),
        IJCAI 2018; from memory of the paper, the text was not at hand. Departure: a mean over the
        pairs that are decided, where public codes divide by the number of all pairs, so that the
        loss does not fade with the share of them.
    """
    codes, others, similarity, valid = _pairs(codes, others, similarity, where)
    products = inner_products(codes, others) / codes.shape[1]
    return mean_over_pairs((products - similarity) ** 2, valid & (similarity != 0), axis_name)


@on_any_mesh
def nt_xent(
    codes: Float[Array, "n bits"],
    others: Float[Array, "n bits"],
    *,
    temperature: float = 0.3,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Contrastive loss of two views: each is to find the other among all views of the batch.

    With the 2N codes :math:`z` of both views and :math:`p(i)` the other view of i's image,

    .. math:: L = \frac1{2N} \sum_{i=1}^{2N}
              \Big[\log \sum_{k \ne i} e^{\cos(z_i, z_k) / \tau} - \cos(z_i, z_{p(i)}) / \tau\Big].

    Args:
        codes: codes of this device's rows in the first view.
        others: codes of the same rows in the second view.
        temperature: :math:`\tau`; CIBHash's by default.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`. Each view is
            told from those of all devices.

    Returns:
        The loss, a float32 scalar; 0 for a single image, which has none to be told from.

    Raises:
        TypeError: if codes or others are not floating.
        ValueError: if shapes do not fit, or ``temperature`` is not above 0.

    Example:
        >>> z = jnp.array([[1.0, 1.0], [1.0, -1.0]])
        >>> nt_xent(z, z, temperature=1.0).round(4)  # log(e^1 + 2 e^0) - 1
        Array(0.5514, dtype=float32)

    Reference:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations"
        (SimCLR), ICML 2020; on binary codes Qiu et al., "Unsupervised Hashing with Contrastive
        Information Bottleneck" (CIBHash), IJCAI 2021.
    """
    codes, others, where = _views(codes, others, where)
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    views = [normalize_rows(codes), normalize_rows(others)]
    image = row_indices(codes.shape[0], axis_name)
    everyone, valid = views, where
    if axis_name is not None:
        everyone, valid = lax.all_gather((views, where), axis_name, tiled=True)
    rows, columns = jnp.concatenate(views), jnp.concatenate(everyone)
    scores = inner_products(rows, columns) / temperature

    total = everyone[0].shape[0]
    itself = jnp.concatenate([image, image + total])
    partner = jnp.concatenate([image + total, image])
    column = jnp.arange(2 * total)
    candidate = jnp.tile(valid, 2)[None, :] & (column[None, :] != itself[:, None])
    # A masked row has a candidate all the same, its partner: no logarithm of 0.
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
    r"""Kullback-Leibler divergence between the Bernoulli laws of the bits in two views, both ways.

    With :math:`p = \sigma(u)` and :math:`q = \sigma(v)`, the probabilities of a bit to be +1,

    .. math:: L = \frac1N \sum_i \sum_j \tfrac12 \big[
              \mathrm{KL}(p_{ij} \,\|\, \bar q_{ij}) + \mathrm{KL}(q_{ij} \,\|\, \bar p_{ij}) \big],

    where no gradient flows through the laws with a bar. It is a *sum* over bits.

    Args:
        codes: raw outputs of the network for this device's rows in the first view: log-odds.
        others: the same for the second view.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar.

    Raises:
        TypeError: if codes or others are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> u, v = jnp.array([[0.0, 1.0]]), jnp.array([[jnp.log(3.0), 1.0]])  # 1/2 against 3/4
        >>> view_divergence(u, v).round(4)  # log(3) / 8: (p - q) (logit p - logit q) / 2
        Array(0.1373, dtype=float32)

    Reference:
        Qiu, Su, Ou, Yu, Chen, "Unsupervised Hashing with Contrastive Information Bottleneck"
        (CIBHash), IJCAI 2021; in the form of its released code. There logarithms are guarded by
        1e-8, which bends the divergence of bits that are nearly decided; from log-odds none is
        needed.
    """
    u, v, where = _views(codes, others, where)
    both = _bernoulli_kl(u, lax.stop_gradient(v)) + _bernoulli_kl(v, lax.stop_gradient(u))
    count = row_count(codes, where, axis_name)
    return psum_local_grad(0.5 * jnp.sum(both) / jnp.maximum(count, 1), axis_name)


def _bernoulli_kl(u: Float[Array, "n bits"], v: Float[Array, "n bits"]) -> Float[Array, "n bits"]:
    """KL(sigmoid(u) || sigmoid(v)) of each entry."""
    of_one = jax.nn.sigmoid(u) * (jax.nn.log_sigmoid(u) - jax.nn.log_sigmoid(v))
    of_zero = jax.nn.sigmoid(-u) * (jax.nn.log_sigmoid(-u) - jax.nn.log_sigmoid(-v))
    return of_one + of_zero


def _views(
    codes: Float[Array, "n bits"],
    others: Float[Array, "n bits"],
    where: Shaped[ArrayLike, " n"] | None,
) -> tuple[Float[Array, "n bits"], Float[Array, "n bits"], Bool[Array, " n"]]:
    """Checked codes of two views in the accumulation dtype, 0 where masked, and the valid rows."""
    codes, where = check_codes(codes, where)
    others = at_least_float32(as_floating("others", others, ndim=2))
    check_shape("others", others, codes.shape)
    where = jnp.ones(len(codes), bool) if where is None else where
    return codes, jnp.where(where[:, None], others, 0.0), where


def _pairs(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similarity: Shaped[ArrayLike, "n m"],
    where: Shaped[ArrayLike, "n m"] | None,
) -> tuple[Float[Array, "n bits"], Float[Array, "m bits"], Float[Array, "n m"], Bool[Array, "n m"]]:
    """The arguments of a loss of pairs in the accumulation dtype, 0 where in no valid pair."""
    codes, others, _, where = check_pairs(codes, others, None, where)
    pairs = len(codes), len(others)
    similarity = at_least_float32(
        as_real("similarity", similarity, pairs, minimum=-1.01, maximum=1.01)
    )
    where = jnp.ones(similarity.shape, bool) if where is None else where
    return codes, others, jnp.where(where, similarity, 0.0), where
