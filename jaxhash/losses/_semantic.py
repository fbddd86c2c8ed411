"""Losses that match the distances of codes to the semantic distances of their images."""

from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Shaped

from jaxhash.losses._common import check_codes, gather_batch, pair_count
from jaxhash.losses._nearest_neighbors import ADD_GAP, accumulate_over_bits, block_rows
from jaxhash.ops.arguments import UNLABELLED, as_floating, as_index, check_shape
from jaxhash.ops.collectives import all_gather, psum, psum_local_grad, row_count, row_indices
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32

#: Divisor of the sum over pairs.
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
    r"""Absolute error between relative distances of codes and of semantics (SHREWD).

    .. math:: L = \frac1{N^2} \sum_{i \ne j} w_{ij}
              \Big|\frac{\lVert z_i - z_j \rVert_1}{\tau_z} - \frac{d_{ij}}{\tau_d}\Big|,
              \qquad w_{ij} = \Big(\frac{\gamma}{\gamma + d_{ij}}\Big)^\rho,

    where :math:`\tau_z` and :math:`\tau_d` are the means of the two kinds of distances over the
    pairs :math:`i \ne j` of the batch. So neither scale matters. If all distances are 0, their
    ratio is defined as 0.

    The distances of codes are accumulated bit by bit: memory is that of a few matrices of the size
    of ``distances``, without a factor of bits.

    Args:
        codes: codes of any scale.
        distances: semantic distances, 0 or more, from each row of this device [n] to each row of
            the batch of all devices, or, with ``labels``, from each class to each class. The entry
            of a row with itself is not read.
        labels: class ids of this device's rows, which index ``distances``. A row with -1 has no
            label and is left out. An id outside the table raises, or, in traced labels, makes the
            loss NaN.
        gamma: semantic distance at which the weight of a pair is :math:`2^{-\rho}`.
        rho: exponent of the decay of the weight with the distance; 0 for equal weights.
        normalizer: divisor of the sum: the squared number of rows (``"pairs"``), or the sum of the
            weights (``"weights"``), which gives a mean. The first gives a small loss: with the
            class hierarchy of CIFAR-100 the mean weight is about 0.03.
        scale_gradient: whether the gradient flows through :math:`\tau_z` too, so that it has no
            component along the scale of the codes; otherwise :math:`\tau_z` is a constant.

    Returns:
        The loss; 0 without a pair.

    Raises:
        TypeError: if distances are not floating, or labels are not integers.
        ValueError: if gamma is not above 0, rho is below 0, or normalizer is
            unknown.

    Example:
        >>> z = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # 1, 1 and 2 apart
        >>> table = jnp.array([[0.0, 0.5, 1.0], [0.5, 0.0, 1.0], [1.0, 1.0, 0.0]])
        >>> semantic_similarity(z, table, jnp.arange(3)).round(6)
        Array(0.002303, dtype=float32)

    Reference:
        Known from public text: SHREWD (arXiv 1908.05602) and its successor (arXiv 2005.04917) make
        relative distances of codes match those of a class hierarchy or of sentence embeddings.
        From memory, not confirmed: this formula, the L1 norm, gamma, rho, the divisor, and scales
        estimated from the batch. Choices of this library: scales that are means over pairs of
        different rows and are differentiated, and the other divisor.
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
        distances = _look_up(distances, labels, axis_name)
    candidates, valid_candidates = gather_batch(codes, where, axis_name)
    check_shape("distances", distances, (len(codes), len(candidates)))

    columns = jnp.arange(len(candidates))[None, :]
    self_mask = row_indices(len(codes), axis_name)[:, None] == columns
    pairs = valid_candidates[None, :] & ~self_mask
    pairs = pairs if where is None else pairs & where[:, None]
    semantic = jnp.where(pairs, distances, 0.0)
    # The scale does not matter: dividing by the largest entry, a constant, keeps sums finite.
    largest = _or_one(lax.stop_gradient(jnp.max(jnp.abs(candidates), initial=0.0)))
    codes, candidates = codes / largest, candidates / largest
    distance = lax.map(
        lambda code: accumulate_over_bits(ADD_GAP[1], code, candidates.T),
        codes,
        batch_size=block_rows(candidates),
    )
    distance = jnp.where(pairs, distance, 0.0)

    number = jnp.maximum(pair_count(pairs, axis_name), 1)
    scale, semantic_scale = (_total(each, axis_name) / number for each in (distance, semantic))
    constant = _or_one(lax.stop_gradient(scale))
    scale = jnp.where(scale == 0, 1.0, scale / constant) if scale_gradient else 1.0
    # Divided by the constant first: the derivative of a quotient has the square of the divisor.
    error = jnp.abs(distance / constant / scale - semantic / _or_one(semantic_scale))
    weight = jnp.where(pairs, (gamma / (gamma + semantic)) ** rho, 0.0)

    if normalizer == "pairs":
        divisor = jnp.maximum(row_count(codes, where, axis_name), 1).astype(error.dtype) ** 2
    else:
        weights = _total(weight, axis_name)
        divisor = jnp.where(weights == 0, 1.0, weights)
    return psum_local_grad(jnp.sum(weight * error) / divisor, axis_name)


def _as_ids(
    codes: Float[Array, "n bits"],
    table: Float[Array, "classes classes"],
    labels: Int[ArrayLike, " n"],
) -> Int[Array, " n"]:
    if table.shape[0] != table.shape[1]:
        raise ValueError(f"distances of classes must be square, got shape {table.shape}")
    check_shape("labels", labels, codes.shape[:1])
    return jnp.asarray(as_index("labels", labels, len(table), minimum=UNLABELLED))


def _look_up(
    table: Float[Array, "classes classes"], labels: Int[Array, " n"], axis_name: str | None
) -> Float[Array, "n m"]:
    """Returns the semantic distance of each row to each row of the whole batch."""
    all_labels = all_gather(labels, axis_name)
    at = table.at[labels[:, None], all_labels[None, :]]
    return at.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def _total(matrix: Float[Array, "n m"], axis_name: str | None) -> Float[Array, ""]:
    """Sums over all devices, with the gradient of ``psum``.

    Every device divides its own pairs by this sum, so each summand needs the gradients of all
    devices; `psum_local_grad` would return those of one.
    """
    return psum(jnp.sum(matrix), axis_name)


def _or_one(scale: Float[Array, ""]) -> Float[Array, ""]:
    """Returns the scale, or 1 where it is 0."""
    return jnp.where(scale == 0, 1.0, scale)
