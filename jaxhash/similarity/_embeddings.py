"""Semantic distance by the angle between embeddings."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxhash.ops.arguments import as_floating
from jaxhash.ops.meshes import on_any_mesh, sharded_like_first
from jaxhash.ops.numerics import at_least_float32, normalize_rows


@on_any_mesh(out_specs=sharded_like_first)
def embedding_distance(
    embeddings: Float[Array, "n dims"] | Float[np.ndarray, "n dims"],
    others: Float[Array, "m dims"] | Float[np.ndarray, "m dims"] | None = None,
) -> Float[Array, "n m"]:
    r"""Computes the semantic distance of pairs by the angle between their embeddings, in [0, 1].

    .. math:: d_{ij} = (1 - \cos(e_i, f_j)) / 2

    The distance is 0 for the same direction, 1/2 for a right angle and 1 for the opposite direction.
    A row of zeros has no direction; its distance to every row, itself included, is 1/2, and it has
    no gradient.

    Args:
        embeddings: embeddings of sentences, labels or images by any encoder; accumulated in float32.
        others: embeddings of the columns by the same encoder; ``embeddings`` by default.

    Raises:
        TypeError: if either is not floating.
        ValueError: if they are not matrices with the same number of columns.

    Example:
        >>> embedding_distance(jnp.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        Array([[0. , 0.5, 1. ],
               [0.5, 0. , 0.5],
               [1. , 0.5, 0. ]], dtype=float32)

    Reference:
        Arponen, Bishop, "Learning to hash with semantic similarity metrics and empirical KL
        divergence", 2020 (arXiv 2005.04917), takes the semantic distance of captions from sentence
        embeddings, according to its public text. The encoder and the distance are not published;
        the cosine, mapped to [0, 1], is a choice of this library.
    """
    rows = normalize_rows(at_least_float32(as_floating("embeddings", embeddings, ndim=2)))
    columns = rows
    if others is not None:
        columns = normalize_rows(at_least_float32(as_floating("others", others, ndim=2)))
    if rows.shape[1] != columns.shape[1]:
        raise ValueError(
            f"embeddings and others must have rows of one length, got shapes {rows.shape} and "
            f"{columns.shape}"
        )
    cosine = jnp.matmul(rows, columns.T, precision=lax.Precision.HIGHEST)
    return (1.0 - jnp.clip(cosine, -1.0, 1.0)) / 2.0  # the cosine of a row with itself may round up
