"""Codes whose distances are to each other as the semantic distances of their images."""

from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Shaped

from jaxhash.losses._common import check_codes, gather_batch, pair_count
from jaxhash.losses._nearest_neighbors import ADD_GAP, over_bits, rows_at_once
from jaxhash.ops.arguments import UNLABELLED, as_floating, as_index, check_shape
from jaxhash.ops.collectives import psum_local_grad, row_count, row_indices
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32

Normalizer = Literal["pairs", "weights"]


@on_any_mesh
def semantic_similarity(
    codes: Float[Array, "n bits"],
    distances: Float[Array, "rows columns"],
    labels: Int[ArrayLike, " n"] | None = None,
    *,
    gamma: float = 0.1,
    rho: float = 2.0,
    normalizer: Normalizer = "pairs",
    scale_gradient: bool = True,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Distances of codes in the ratios of given semantic distances, near pairs above all (SHREWD).

    .. math:: L = \frac1{N^2} \sum_{i \ne j} w_{ij}
              \Big|\frac{\lVert z_i - z_j \rVert_1}{\tau_z} - \frac{d_{ij}}{\tau_d}\Big|,
              \qquad w_{ij} = \Big(\frac{\gamma}{\gamma + d_{ij}}\Big)^\rho,

    where :math:`\tau_z` and :math:`\tau_d` are the means of the two kinds of distances over the
    pairs :math:`i \ne j` of the batch. So neither scale matters: codes that are all twice as far
    apart cost the same. Of distances that are all 0 the ratio is taken as 0.

    The distances of codes are added up bit by bit: a few matrices of the size of the pairs are
    held, as ``distances`` is one, and none that is longer by the bits.

    Args:
        codes: codes of this device's rows, on any scale. Rows are the batch.
        distances: semantic distances, 0 or more: of each of this device's rows (n) to each row of
            the batch of all devices, or, with ``labels``, of each class to each class. What stands
            for a pair of a row with itself is not read.
        labels: class ids of this device's rows, which index ``distances``. A row with -1 has no
            label and is left out; one that the table does not hold is refused, or makes the loss
            NaN where labels are traced.
        gamma: semantic distance at which a pair weighs :math:`2^{-\rho}`.
        rho: how fast the weight falls with the distance; 0 for equal weights.
        normalizer: what the sum is divided by, the squared number of rows (``"pairs"``) or the sum
            of the weights (``"weights"``), which makes it a mean. The first makes a small loss:
            weights have a mean of about 0.03 with the class hierarchy of CIFAR-100.
        scale_gradient: whether the gradient flows through :math:`\tau_z` as well. Then no step
            changes the scale of the codes alone; otherwise :math:`\tau_z` is a constant.
        where: True for the valid rows; all of them by default. N and the means count these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar; 0 without a pair.

    Raises:
        TypeError: if codes or distances are not floating, or labels no integers.
        ValueError: if shapes do not fit, gamma is not above 0, rho is below 0, or normalizer is
            unknown.

    Example:
        >>> z = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # 1, 1 and 2 apart
        >>> table = jnp.array([[0.0, 0.5, 1.0], [0.5, 0.0, 1.0], [1.0, 1.0, 0.0]])
        >>> semantic_similarity(z, table, jnp.arange(3)).round(6)
        Array(0.002303, dtype=float32)

    Reference:
        Known from public text: SHREWD (arXiv 1908.05602) and its successor (arXiv 2005.04917) make
        relative distances of codes match those of a class hierarchy or of sentence embeddings.
        Recollection, not confirmed: this formula, the L1 norm, gamma, rho, the divisor, and that
        the scales are estimated from the batch. A choice of this library: scales that are means
        over pairs of different rows and let the gradient through, and the other divisor.
    """
    if gamma <= 0:
        raise ValueError(f"gamma must be above 0, got {gamma}")
    if rho < 0:
        raise ValueError(f"rho must be 0 or more, got {rho}")
    if normalizer not in get_args(Normalizer):
        raise ValueError(f"normalizer must be one of {get_args(Normalizer)}, got {normalizer!r}")

    distances = at_least_float32(as_floating("distances", distances, ndim=2))
    codes, where = check_codes(codes, where)
    if labels is not None:
        labels = _as_ids(codes, distances, labels)
        labelled = labels != UNLABELLED
        where = labelled if where is None else where & labelled
        codes = jnp.where(where[:, None], codes, 0.0)
        distances = _of_labels(distances, labels, axis_name)
    others, columns = gather_batch(codes, where, axis_name)
    check_shape("distances", distances, (len(codes), len(others)))

    itself = row_indices(len(codes), axis_name)[:, None] == jnp.arange(len(others))[None, :]
    pairs = columns[None, :] & ~itself
    pairs = pairs if where is None else pairs & where[:, None]
    semantic = jnp.where(pairs, distances, 0.0)
    # No scale matters: the largest entry, a constant, is divided out so that no sum overflows.
    largest = _or_one(lax.stop_gradient(jnp.max(jnp.abs(others), initial=0.0)))
    codes, others = codes / largest, others / largest
    apart = lax.map(
        lambda code: over_bits(ADD_GAP[1], code, others.T), codes, batch_size=rows_at_once(others)
    )
    apart = jnp.where(pairs, apart, 0.0)

    number = jnp.maximum(pair_count(pairs, axis_name), 1)
    of_codes, of_semantic = (_total(each, axis_name) / number for each in (apart, semantic))
    constant = _or_one(lax.stop_gradient(of_codes))
    of_codes = jnp.where(of_codes == 0, 1.0, of_codes / constant) if scale_gradient else 1.0
    # Divided by the constant first: the slope of a quotient has the square of what is divided by.
    excess = jnp.abs(apart / constant / of_codes - semantic / _or_one(of_semantic))
    weight = jnp.where(pairs, (gamma / (gamma + semantic)) ** rho, 0.0)

    if normalizer == "pairs":
        divisor = jnp.maximum(row_count(codes, where, axis_name), 1).astype(excess.dtype) ** 2
    else:
        weights = _total(weight, axis_name)
        divisor = jnp.where(weights == 0, 1.0, weights)
    return psum_local_grad(jnp.sum(weight * excess) / divisor, axis_name)


def _as_ids(
    codes: Float[Array, "n bits"],
    table: Float[Array, "classes classes"],
    labels: Int[ArrayLike, " n"],
) -> Int[Array, " n"]:
    if table.shape[0] != table.shape[1]:
        raise ValueError(f"distances of classes must be square, got shape {table.shape}")
    check_shape("labels", labels, codes.shape[:1])
    return jnp.asarray(as_index("labels", labels, len(table), minimum=UNLABELLED))


def _of_labels(
    table: Float[Array, "classes classes"], labels: Int[Array, " n"], axis_name: str | None
) -> Float[Array, "n m"]:
    """The semantic distance of each row to each row of the whole batch."""
    everyone = labels if axis_name is None else lax.all_gather(labels, axis_name, tiled=True)
    at = table.at[labels[:, None], everyone[None, :]]
    return at.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def _total(matrix: Float[Array, "n m"], axis_name: str | None) -> Float[Array, ""]:
    """The sum over all devices.

    Not `psum_local_grad`: each device scales its own pairs by what all contributed to, so what every
    device asks of the sum must come back to each of them, as it does through ``psum``.
    """
    total = jnp.sum(matrix)
    return total if axis_name is None else lax.psum(total, axis_name)


def _or_one(scale: Float[Array, ""]) -> Float[Array, ""]:
    """The scale; 1 where it is 0, as that of zeros is, which then stay zeros."""
    return jnp.where(scale == 0, 1.0, scale)
