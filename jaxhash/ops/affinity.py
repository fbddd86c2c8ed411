"""Sparse affinity graphs of nearest neighbors, and labels that are propagated over them.

A graph of n rows holds k neighbors of each, so its memory is linear in n. The search compares blocks
of rows with all rows: its time is that of n^2 cosines, and no array of all pairs is made.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float, Int

from jaxhash.ops.numerics import inner_products, normalize_rows

#: Cosines in memory at a time (16 MiB).
_BLOCK_SIZE = 2**22


class Affinity(NamedTuple):
    r"""A symmetric graph :math:`W = A + A^\top`, whose A has an entry per row and neighbor."""

    neighbors: Int[Array, "n k"]
    """The columns of each row of A."""
    weights: Float[Array, "n k"]
    """Their weights, at least 0; 0 where a row has fewer neighbors."""


def nearest_rows(
    rows: Float[Array, "n columns"],
    others: Float[Array, "m columns"],
    own: Int[Array, " n"],
    where: Bool[Array, " m"],
    *,
    neighbors: int,
) -> tuple[Int[Array, "n k"], Float[Array, "n k"]]:
    """Finds the nearest rows by cosine, block by block.

    Args:
        rows: rows to find neighbors of.
        others: rows that are searched.
        own: number among the others of each row, which is no neighbor of itself.
        where: True for the others that may be neighbors.
        neighbors: number of neighbors; fewer where there are not as many others.

    Returns:
        Numbers and cosines of the neighbors, the nearest first; where there are too few the cosine is
        -inf. Of equally near ones the first is taken.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> found, _ = nearest_rows(x, x, jnp.arange(3), jnp.ones(3, bool), neighbors=1)
        >>> found[:, 0].tolist()
        [1, 0, 1]
    """
    count = min(neighbors, len(others))
    queries, candidates = normalize_rows(rows), normalize_rows(others)
    number = jnp.arange(len(others))

    def search(query):
        row, itself = query
        cosines = inner_products(row[None], candidates)[0]
        found = lax.top_k(jnp.where(where & (number != itself), cosines, -jnp.inf), count)
        return found[1], found[0]

    block = max(_BLOCK_SIZE // max(len(others), 1), 1)
    return lax.map(search, (queries, own), batch_size=min(block, max(len(rows), 1)))


def knn_affinity(
    neighbors: Int[Array, "n k"], cosines: Float[Array, "n k"], *, power: float = 3.0
) -> Affinity:
    r"""Makes the graph with weights :math:`\max(\cos, 0)^p` of `nearest_rows`.

    Example:
        >>> knn_affinity(jnp.array([[1], [0]]), jnp.array([[0.5], [-jnp.inf]])).weights.tolist()
        [[0.125], [0.0]]
    """
    return Affinity(neighbors, jnp.maximum(cosines, 0.0) ** power)


def affinity_product(graph: Affinity, values: Float[Array, " n"]) -> Float[Array, " n"]:
    """Multiplies the matrix of a graph by a vector.

    Example:
        >>> graph = Affinity(jnp.array([[1], [0]]), jnp.array([[0.5], [0.0]]))
        >>> affinity_product(graph, jnp.array([1.0, 2.0])).tolist()
        [1.0, 0.5]
    """
    forward = jnp.sum(graph.weights * values[graph.neighbors], axis=1)
    return forward.at[graph.neighbors].add(graph.weights * values[:, None])


def propagate_labels(
    graph: Affinity,
    seeds: Float[Array, "n classes"],
    *,
    alpha: float = 0.99,
    iterations: int = 20,
    tolerance: float = 1e-6,
) -> Float[Array, "n classes"]:
    r"""Spreads scores over a graph: solves :math:`(I - \alpha S) F = Y` by conjugate gradients.

    .. math:: S = D^{-1/2} W D^{-1/2}, \qquad D_{ii} = \textstyle\sum_j W_{ij}

    A row without neighbors keeps its seed.

    Args:
        graph: the graph W.
        seeds: Y, a score of each labeled row for its classes and 0 elsewhere.
        alpha: share of a score that comes from the neighbors, in [0, 1).
        iterations: largest number of iterations, for each class.
        tolerance: residual, relative to the seeds, at which they end earlier.

    Returns:
        F, clipped at 0.

    Example:
        >>> chain = Affinity(jnp.array([[1], [2], [3], [3]]), jnp.array([[1.0], [0.5], [1.0], [0.0]]))
        >>> ends = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
        >>> scores = propagate_labels(chain, ends, alpha=0.5)
        >>> (100 * scores / scores.sum(axis=1, keepdims=True))[:2].round()
        Array([[97.,  3.],
               [83., 17.]], dtype=float32)

    Reference:
        Zhou et al., "Learning with local and global consistency", NIPS 2003; on a graph of nearest
        neighbors and by conjugate gradients as in Iscen et al., "Label Propagation for Deep
        Semi-supervised Learning", CVPR 2019, whose released code (``ahmetius/LP-DeepSSL``) has the
        defaults, the third power of the cosine and 50 neighbors. Departure: negative cosines weigh 0.
    """
    degree = affinity_product(graph, jnp.ones(len(seeds), seeds.dtype))
    scale = jnp.where(degree > 0, lax.rsqrt(jnp.where(degree > 0, degree, 1.0)), 0.0)

    def operator(values):
        return values - alpha * scale * affinity_product(graph, scale * values)

    def solve(seed):
        return cg(operator, seed, tol=tolerance, maxiter=iterations)[0]

    return jnp.maximum(jax.vmap(solve, in_axes=1, out_axes=1)(seeds), 0.0)


def certainty(scores: Float[Array, "n classes"]) -> Float[Array, " n"]:
    r"""Returns :math:`1 - H / \log C` of each row of scores, in [0, 1]; 0 for a row of zeros.

    Args:
        scores: scores of at least 0; H is the entropy of a row divided by its sum.

    Example:
        >>> certainty(jnp.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])).tolist()
        [1.0, 0.0, 0.0]
    """
    total = jnp.sum(scores, axis=1, keepdims=True)
    share = jnp.where(total > 0, scores / jnp.where(total > 0, total, 1.0), 1 / scores.shape[1])
    entropy = -jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1.0)), axis=1)
    uncertain = entropy / jnp.log(jnp.maximum(scores.shape[1], 2))
    return jnp.where(total[:, 0] > 0, jnp.clip(1.0 - uncertain, 0.0, 1.0), 0.0)
