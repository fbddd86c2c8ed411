"""Losses of graded similarity: triplets with a margin that grows, and means of levels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import check_pairs
from jaxhash.ops.arguments import IntLike, as_floating, as_int, as_real, check_shape
from jaxhash.ops.collectives import psum_local_grad, psum_no_grad
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import inner_products


@on_any_mesh
def multilevel_triplet(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similarity: Float[ArrayLike, "n m"],
    *,
    radius: float | Float[ArrayLike, ""],
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Triplet hinge whose margin grows with the difference of the two similarities.

    .. math:: L = \operatorname{mean}_{(i,j,k):\, s_{ij} > s_{ik}}
              \max\big(0,\ D_{ij} - D_{ik} + \delta\,(s_{ij} - s_{ik})\big), \qquad
              D_{ij} = \tfrac12 (K - h_i \cdot v_j),

    with K the number of bits. Columns of similarity 0 are thus kept delta farther than those of
    similarity 1. The computation loops over j, and compares each with all k at once; its memory is
    linear in the pairs.

    Args:
        codes: relaxed codes in [-1, 1].
        others: relaxed codes of the columns; on one axis those of all devices.
        similarity: s, in [0, 1], such as `jaxhash.similarity.label_iou`.
        radius: delta, a distance in bits; see `jaxhash.ops.code_bounds` for what codes can reach.

    Returns:
        The loss; 0 without a triplet.

    Raises:
        ValueError: if ``radius`` is below 0.

    Example:
        >>> h = jnp.array([[1.0, 1.0, 1.0, 1.0]])
        >>> v = jnp.array([[1.0, 1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]])
        >>> multilevel_triplet(h, v, jnp.array([[1.0, 0.5]]), radius=3.0)  # 1 - 2 + 3 / 2
        Array(0.5, dtype=float32)

    Reference:
        Song, Zhao, Tan, "Deep robust multilevel semantic hashing for multi-label cross-modal
        retrieval", arXiv 2002.02698, whose abstract names a margin-adaptive triplet loss and a bound
        of coding theory. This formula is a reading of ours: neither the paper's text nor code could
        be had.
    """
    distances, similarity, valid = _check(codes, others, similarity, radius, where)

    @jax.checkpoint
    def add_column(carry, j):
        total, count = carry
        distance, level = (
            lax.dynamic_slice_in_dim(each, j, 1, axis=1) for each in (distances, similarity)
        )
        triplets = valid & lax.dynamic_slice_in_dim(valid, j, 1, axis=1) & (level > similarity)
        hinge = jnp.maximum(distance - distances + radius * (level - similarity), 0.0)
        total = total + jnp.sum(jnp.where(triplets, hinge, 0.0))
        return (total, count + jnp.sum(triplets, dtype=total.dtype)), None

    zero = jnp.zeros((), distances.dtype)
    (total, count), _ = lax.scan(add_column, (zero, zero), jnp.arange(distances.shape[1]))
    count = psum_no_grad(lax.stop_gradient(count), axis_name)
    return psum_local_grad(total / jnp.maximum(count, 1.0), axis_name)


@on_any_mesh
def multilevel_means(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similarity: Float[ArrayLike, "n m"],
    *,
    radius: float | Float[ArrayLike, ""],
    levels: IntLike = 5,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""`multilevel_triplet` of the mean distances of levels of similarity, for large batches.

    .. math:: L = \operatorname{mean}_{i,\ v > w}
              \max\big(0,\ \bar D_i(v) - \bar D_i(w) + \delta\,(\bar s_i(v) - \bar s_i(w))\big),

    where the columns of row i are divided into levels by the nearest of as many similarities, evenly
    spaced from 0 to 1; :math:`\bar D_i(v)` and :math:`\bar s_i(v)` are the means of level v, and
    only levels that have columns count. It costs O(nm + n levels^2) in place of O(nm^2), and is at
    most the triplet loss of means: columns of one level pull together.

    Args:
        codes: relaxed codes in [-1, 1].
        others: relaxed codes of the columns; on one axis those of all devices.
        similarity: s, in [0, 1].
        radius: delta, a distance in bits.
        levels: number of levels, at least 2.

    Returns:
        The loss; 0 without a row of two levels.

    Raises:
        ValueError: if ``radius`` is below 0, or ``levels`` below 2.

    Example:
        >>> h = jnp.array([[1.0, 1.0, 1.0, 1.0]])
        >>> v = jnp.array([[1.0, 1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0], [1.0, 1.0, 1.0, 1.0]])
        >>> multilevel_means(h, v, jnp.array([[1.0, 0.5, 0.5]]), radius=3.0)  # 1 - (2 + 0) / 2 + 3 / 2
        Array(1.5, dtype=float32)

    Reference:
        As `multilevel_triplet`; the form by means of levels is derived here.
    """
    levels = as_int("levels", levels, minimum=2)
    distances, similarity, valid = _check(codes, others, similarity, radius, where)
    level = jnp.round(jnp.clip(similarity, 0.0, 1.0) * (levels - 1))
    (distance, mean), present = _level_means((distances, similarity), level, valid, levels)
    means = distance + radius * mean
    hinge = jnp.maximum(means[:, None, :] - means[None, :, :], 0.0)
    above = jnp.arange(levels)[:, None, None] > jnp.arange(levels)[None, :, None]
    compared = present[:, None, :] & present[None, :, :] & above
    count = psum_no_grad(jnp.sum(compared, dtype=distances.dtype), axis_name)
    total = jnp.sum(jnp.where(compared, hinge, 0.0))
    return psum_local_grad(total / jnp.maximum(count, 1.0), axis_name)


@on_any_mesh
def rank_consistency(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    levels: int = 2,
    margin: float = 0.0,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Hinge on the mean distances of the levels of similarity, where their order is wrong (RCDH).

    With :math:`D_{ij} = (1 - h_i \cdot h_j / \mathrm{bits}) / 2` and :math:`\bar D_i(v)` its mean
    over the columns j with :math:`s_{ij} = v`,

    .. math:: L = \operatorname{mean}_{i,\, v > v'} (v - v')
              \max\big(0, \bar D_i(v) - \bar D_i(v') + \rho\big)

    over the levels :math:`v, v'` that row i has a column at. For V levels it passes V times over the
    pairs, and compares :math:`V^2` means a row; no array holds triplets.

    Args:
        codes: relaxed codes in [-1, 1], h.
        others: relaxed codes of the columns.
        similar: the number of labels that a pair shares, s.
        levels: number of levels, from 0; pairs that share more labels are at the last.
        margin: rho, as a share of the bits; with 0 only a wrong order costs anything.

    Returns:
        The loss; 0 without a row that has columns at two levels.

    Raises:
        ValueError: if levels is below 2, or margin below 0.

    Example:
        >>> h, others = jnp.array([[1.0]]), jnp.array([[-1.0], [1.0], [0.0]])
        >>> rank_consistency(h, others, jnp.array([[2, 0, 1]]), levels=3)  # D = 1, 0, 1/2
        Array(1., dtype=float32)

        (2 (1 - 0) + 1 (1 - 1/2) + 1 (1/2 - 0)) / 3: all three pairs of levels are in wrong order.

    Reference:
        A reading of ours of Ma, Lu, Zhou, "Rank-consistency deep hashing for scalable multi-label
        image search" (RCDH), IEEE TMM 23 (2021). Evidence: its abstract, which has a rank list for
        each query, and penalties of mismatched samples alone; no formula was at hand. The form with
        triplets would be a mean of :math:`(s_{ij} - s_{ik}) \max(0, D_{ij} - D_{ik} + \rho)`.
    """
    levels = as_int("levels", levels, minimum=2)
    if not margin >= 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    codes, others, _, where = check_pairs(codes, others, None, where)
    similar = as_real("similar", similar, (len(codes), len(others)))
    distances = 0.5 * (1.0 - inner_products(codes, others) / codes.shape[1])
    valid = jnp.ones(distances.shape, bool) if where is None else where
    level = jnp.minimum(similar.astype(distances.dtype), levels - 1)

    ((means,), present) = _level_means((distances,), level, valid, levels)
    steps = jnp.arange(levels, dtype=distances.dtype)
    steps = (steps[:, None] - steps[None, :])[:, :, None]
    pairs = (steps > 0) & present[:, None, :] & present[None, :, :]
    hinge = steps * jnp.maximum(means[:, None, :] - means[None, :, :] + margin, 0.0)
    number = psum_no_grad(jnp.sum(pairs, dtype=jnp.int32), axis_name)
    share = jnp.sum(jnp.where(pairs, hinge, 0.0)) / jnp.maximum(number, 1)
    return psum_local_grad(share, axis_name)


def _level_means(
    values: Sequence[Float[Array, "n m"]],
    level: Float[Array, "n m"],
    valid: Bool[Array, "n m"],
    levels: int,
) -> tuple[tuple[Float[Array, "levels n"], ...], Bool[Array, "levels n"]]:
    """Returns the means of each level by row, of one array after the other, and which have a column.

    Each level is a pass over the pairs, one after the other: no array holds a level for each pair, and
    nothing is scattered, which a TPU does number by number.
    """

    def at(number):
        members = valid & (level == number)
        count = jnp.sum(members, axis=1, dtype=level.dtype)
        sums = (jnp.sum(jnp.where(members, each, 0.0), axis=1) for each in values)
        return tuple(each / jnp.maximum(count, 1.0) for each in sums), count > 0

    return lax.map(jax.checkpoint(at), jnp.arange(levels, dtype=level.dtype))


def _check(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similarity: Float[ArrayLike, "n m"],
    radius: float | Float[ArrayLike, ""],
    where: Shaped[ArrayLike, "n m"] | None,
) -> tuple[Float[Array, "n m"], Float[Array, "n m"], Bool[Array, "n m"]]:
    """Returns the distances of all pairs, their similarities, and which pairs are valid."""
    if isinstance(radius, int | float) and not radius >= 0:
        raise ValueError(f"radius must be at least 0, got {radius}")
    codes, others, _, where = check_pairs(codes, others, None, where)
    similarity = as_floating("similarity", similarity, ndim=2)
    check_shape("similarity", similarity, (len(codes), len(others)))
    valid = jnp.ones(similarity.shape, bool) if where is None else where
    similarity = jnp.where(valid, similarity, 0.0).astype(codes.dtype)
    return 0.5 * (codes.shape[1] - inner_products(codes, others)), similarity, valid
