"""How far a distance of features can be trusted to tell a similar pair from a dissimilar one."""

import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, ArrayLike, Float

from jaxhash.ops.arguments import as_floating
from jaxhash.ops.meshes import on_any_mesh, sharded_like_first
from jaxhash.ops.numerics import at_least_float32


@on_any_mesh(out_specs=sharded_like_first)
def semantic_confidence(
    distances: Float[Array, "n m"],
    mode: float | Float[ArrayLike, ""],
    left: float | Float[ArrayLike, ""],
    right: float | Float[ArrayLike, ""],
    *,
    threshold: float | Float[ArrayLike, ""] = 0.1,
) -> Float[Array, "n m"]:
    r"""Computes the confidence in [0, 1] that a pair is on the right side of a distance (CIMON).

    Distances are taken for half a Gaussian on either side of their mode, with the laws
    :math:`\Phi_l` and :math:`\Phi_r` of the two whole Gaussians. A pair up to the threshold t is
    similar, any other dissimilar, and its confidence grows from 0 at the threshold to 1 far from it:

    .. math:: w = \frac{\Phi_l(t) - \Phi_l(d)}{\Phi_l(t)} \;\text{if}\; d \le t, \qquad
              w = \frac{\Phi_r(d) - \Phi_r(t)}{1 - \Phi_r(t)} \;\text{if}\; d > t.

    Args:
        distances: distances of the pairs.
        mode: the most frequent distance, the mean of both Gaussians.
        left: deviation of the distances below the mode, above 0.
        right: deviation of the distances above it, above 0.
        threshold: greatest distance t of a similar pair.

    Raises:
        TypeError: if distances are not floating.

    Example:
        >>> d = jnp.array([[0.02, 0.1, 0.3, 0.6, 0.9]])
        >>> [round(float(w), 4) for w in semantic_confidence(d, 0.6, 0.15, 0.12)[0]]
        [0.8714, 0.0, 0.0062, 0.5, 0.9938]

    Reference:
        Luo et al., "CIMON: Towards High-quality Hash Codes", IJCAI 2021; read in the authors' code,
        whose factor of clusters is not part of it. Computed by the logarithms of the laws, so that
        a threshold many deviations below the mode divides no zeros.
    """
    distances = at_least_float32(as_floating("distances", distances, ndim=2))

    def tail(sign, deviation):
        at_distance, at_threshold = (
            log_ndtr(sign * (value - mode) / deviation) for value in (distances, threshold)
        )
        return jnp.minimum(at_distance - at_threshold, 0.0)

    similar = distances <= threshold
    return jnp.abs(jnp.expm1(jnp.where(similar, tail(1.0, left), tail(-1.0, right))))
