"""The neighborhood score of SuSana: which classes the nearest codes of a code have, and how near."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Shaped

from jaxhash.losses._common import check_pairs
from jaxhash.ops.arguments import as_int
from jaxhash.ops.collectives import pmax, psum_local_grad, psum_no_grad
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import inner_products

#: Added to squared distances before the root, as in the authors' code.
_SOFTENING = 1e-6


@on_any_mesh
def icnn(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    neighbors: int = 4,
    candidates: int | None = None,
    drop_nearest: bool = False,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Negative logarithm of the inter- and intra-class nearest-neighbor score (ICNN).

    The columns of row i in order of :math:`\delta = \sqrt{\lVert u - v \rVert^2 + 10^{-6}}` are
    :math:`\delta_{i1} \le \delta_{i2} \le \dots`, with s = 1 where similar and o = 1 - s. The first
    k are its neighbors, the first r > k its candidates, and :math:`n_i = \sum_{j \le k} s_{ij}`:

    .. math:: L = -\log \tfrac12 \Big[\tfrac12 (\Lambda_s + \Lambda_d) + \Gamma\Big], \qquad
              \Gamma = \operatorname{mean}_i \frac{n_i}k
    .. math:: \Lambda_s = 1 - \operatorname{mean}_{i:\, n_i > 0} \frac1{n_i}
              \sum_{j \le k} s_{ij} \frac{\delta_{ij} / \nu_i}
              {\max(1, \max_{j' \le k} \delta_{ij'} / \nu_i)}, \qquad
              \nu_i = \min_{j \le r,\, o_{ij} = 1} \delta_{ij}
    .. math:: \Lambda_d = \operatorname{mean}_{i:\, n_i < k} \frac1{k - n_i} \sum_{j \le k}
              \frac{o_{ij} \delta_{ij}}{\max_{i', j' \le k} o_{i'j'} \delta_{i'j'}}

    :math:`\nu_i` is infinite without a dissimilar candidate; each mean is 1, or 0 inside
    :math:`\Lambda_s`, where no row counts. A row with no more than k + 1 columns has one neighbor
    fewer than columns, and counts as 1 in :math:`\Gamma`; one with a single column is left out.

    :math:`\Gamma` has no gradient. :math:`\Lambda_d` raises the distances of dissimilar neighbors to
    the largest of them, and is 1 where all are equal.

    Args:
        codes: embeddings.
        others: the columns: the whole batch, or prototypes of the classes.
        neighbors: k.
        candidates: r, among which the nearest dissimilar column is looked for; k + 1 by default.
            The authors have the number of rows of a class in the batch.
        drop_nearest: whether the nearest valid column of each row is left out. Columns that are
            the rows themselves are excluded by ``where`` instead.

    Raises:
        ValueError: if neighbors is below 1, or candidates is not above it.

    Example:
        >>> u, v = jnp.array([[0.0]]), jnp.array([[1.0], [2.0], [4.0]])
        >>> loss = icnn(u, v, jnp.array([[True, False, False]]), neighbors=2, candidates=3)
        >>> round(float(loss), 4)  # -log(((1 - 1/2) + 1) / 4 + 1/2), as 3 columns are k + 1
        0.1335

    Reference:
        Mendez-Ruiz et al., "SuSana Distancia is all you need", 2023. Evidence: the authors' code
        (maumruiz/FSL-Loss), its modified score. Departure: that code always drops the nearest
        column, meant to be the row itself; where the columns are prototypes, this drops the
        prototype of the own class of each row that is in its place, so that nothing attracts it:
        ``drop_nearest`` reproduces that.
    """
    k = as_int("neighbors", neighbors, minimum=1)
    reach = k + 1 if candidates is None else as_int("candidates", candidates)
    if reach <= k:
        raise ValueError(f"candidates must be above neighbors={k}, got {candidates}")
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    valid = jnp.ones(similar.shape, bool) if where is None else where
    skipped = int(drop_nearest)
    columns = jnp.sum(valid, axis=1, dtype=jnp.int32) - skipped
    order = _nearest_columns(codes, others, valid, min(reach + skipped, len(others)))[:, skipped:]
    delta = jnp.sqrt(jnp.sum((codes[:, None, :] - others[order]) ** 2, axis=2) + _SOFTENING)
    same = jnp.take_along_axis(similar, order, axis=1)
    rank = jnp.arange(order.shape[1], dtype=jnp.int32)[None, :]
    candidate = rank < columns[:, None]
    neighbor = candidate & (rank < jnp.minimum(k, columns - 1)[:, None])
    return -jnp.log(_score(delta, same, candidate, neighbor, columns <= k + 1, axis_name))


def _score(
    delta: Float[Array, "n r"],
    same: Bool[Array, "n r"],
    candidate: Bool[Array, "n r"],
    neighbor: Bool[Array, "n r"],
    is_short: Bool[Array, " n"],
    axis_name: str | None,
) -> Float[Array, ""]:
    """Returns the score of the whole batch, which is 1 without a row; its gradient is a share."""
    near_same, near_other = neighbor & same, neighbor & ~same
    total, alike = (jnp.sum(each, axis=1).astype(delta.dtype) for each in (neighbor, near_same))
    unlike = total - alike
    counts = total > 0

    # The ratio is delta / max(nu, largest delta) without the infinity of nu, where it is 0.
    has_other = (candidate & ~same).any(axis=1)
    nu = jnp.min(jnp.where(candidate & ~same, delta, jnp.inf), axis=1, initial=jnp.inf)
    scale = jnp.max(jnp.where(neighbor, delta, 0.0), axis=1, initial=0.0)
    scale = jnp.maximum(scale, jnp.where(has_other, nu, 1.0))
    ratio = jnp.sum(jnp.where(near_same, delta / scale[:, None], 0.0), axis=1)
    compact = 1.0 - _mean(jnp.where(has_other, ratio, 0.0), alike, axis_name)

    spread = jnp.sum(jnp.where(near_other, delta, 0.0), axis=1)
    has_far = psum_no_grad(jnp.sum(near_other, dtype=jnp.int32), axis_name) > 0
    largest = _largest(delta, near_other, axis_name)
    separate = jnp.where(
        has_far, _mean(spread, unlike, axis_name) / jnp.where(has_far, largest, 1.0), 1.0
    )

    share = jnp.where(is_short, 1.0, alike / jnp.maximum(total, 1.0))
    rows = psum_no_grad(jnp.sum(counts, dtype=jnp.int32), axis_name)
    pure = psum_no_grad(jnp.sum(jnp.where(counts, share, 0.0)), axis_name) / jnp.maximum(rows, 1)
    return jnp.where(rows > 0, 0.5 * (0.5 * (compact + separate) + pure), 1.0)


def _mean(
    sums: Float[Array, " n"], number: Float[Array, " n"], axis_name: str | None
) -> Float[Array, ""]:
    """Averages sums over their numbers, and that over the rows of all devices with a number."""
    counts = number > 0
    means = jnp.where(counts, sums / jnp.maximum(number, 1.0), 0.0)
    rows = psum_no_grad(jnp.sum(counts, dtype=jnp.int32), axis_name)
    return psum_local_grad(jnp.sum(means) / jnp.maximum(rows, 1), axis_name)


def _largest(
    delta: Float[Array, "n r"], marked: Bool[Array, "n r"], axis_name: str | None
) -> Float[Array, ""]:
    """Returns the largest marked distance of all devices; those that attain it share the gradient."""
    local = jnp.max(jnp.where(marked, lax.stop_gradient(delta), 0.0), initial=0.0)
    largest = pmax(local, axis_name)
    attains = marked & (lax.stop_gradient(delta) == largest)
    number = psum_no_grad(jnp.sum(attains, dtype=jnp.int32), axis_name)
    share = jnp.sum(jnp.where(attains, delta, 0.0)) / jnp.maximum(number, 1)
    return largest + (share - lax.stop_gradient(share))


def _nearest_columns(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    valid: Bool[Array, "n m"],
    number: int,
) -> Int[Array, "n number"]:
    """Returns the nearest valid columns of each row in order; any columns where there are fewer.

    They are found one after another, since compilers make a sort of ``lax.top_k``, and each by two
    minima, which take less than half the time of an ``argmin`` on CPUs. As there, NaN is least.
    """
    codes, others = lax.stop_gradient((codes, others))
    # The size of the row itself changes no order.
    distances = jnp.sum(others**2, axis=1)[None, :] - 2.0 * inner_products(codes, others)
    columns = jnp.arange(len(others), dtype=jnp.int32)[None, :]

    def step(left, _):
        least = jnp.min(left, axis=1, keepdims=True)
        attained = (left == least) | jnp.isnan(left)
        found = jnp.min(jnp.where(attained, columns, len(others) - 1), axis=1)
        return jnp.where(columns == found[:, None], jnp.inf, left), found

    return lax.scan(step, jnp.where(valid, distances, jnp.inf), length=number)[1].T
