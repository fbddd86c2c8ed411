"""Search a database of codes."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxhash.codes import hamming_distance, pack


def nearest(
    query: Float[np.ndarray, "queries bits"], database: Float[np.ndarray, "items bits"], k: int
) -> Int[np.ndarray, "queries k"]:
    """Indices of the k items nearest in Hamming distance, equal distances in database order.

    Args:
        query: real-valued codes, cut at zero.
        database: the same.
        k: neighbours a query; at most the size of the database.

    Example:
        >>> nearest(np.array([[1.0, 1.0]]), np.array([[-1.0, -1], [1, -1], [1, 1]]), k=2)
        array([[2, 1]], dtype=int32)
    """
    distance = hamming_distance(pack(query), pack(database))
    _, index = jax.lax.top_k(-distance, min(k, len(database)))
    return np.asarray(index.astype(jnp.int32))
