"""Losses of graded similarity with a margin that grows with the difference of two similarities."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import check_pairs
from jaxhash.ops.arguments import IntLike, as_floating, as_int, check_shape
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
    distance, mean, present = jax.vmap(
        partial(_level_means, distances, similarity, valid, level), out_axes=1
    )(jnp.arange(levels, dtype=level.dtype))
    above = jnp.arange(levels)[:, None] > jnp.arange(levels)[None, :]
    compared = present[:, :, None] & present[:, None, :] & above[None]
    hinge = jnp.maximum(
        distance[:, :, None]
        - distance[:, None, :]
        + radius * (mean[:, :, None] - mean[:, None, :]),
        0.0,
    )
    count = psum_no_grad(jnp.sum(compared, dtype=distances.dtype), axis_name)
    total = jnp.sum(jnp.where(compared, hinge, 0.0))
    return psum_local_grad(total / jnp.maximum(count, 1.0), axis_name)


def _level_means(
    distances: Float[Array, "n m"],
    similarity: Float[Array, "n m"],
    valid: Bool[Array, "n m"],
    level: Float[Array, "n m"],
    number: Float[Array, ""],
) -> tuple[Float[Array, " n"], Float[Array, " n"], Bool[Array, " n"]]:
    """Returns mean distance and mean similarity of a level by row, and whether it has a column."""
    chosen = valid & (level == number)
    count = jnp.sum(chosen, axis=1, dtype=distances.dtype)
    means = (
        jnp.sum(jnp.where(chosen, each, 0.0), axis=1) / jnp.maximum(count, 1.0)
        for each in (distances, similarity)
    )
    return (*means, count > 0)


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
