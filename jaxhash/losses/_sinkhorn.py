"""Entropic transport from a batch of codes to a batch of random signs."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Key, Shaped

from jaxhash.losses._common import gather_batch
from jaxhash.losses._transport import uniform_signs
from jaxhash.ops.arguments import as_floating, as_int, as_mask
from jaxhash.ops.collectives import split_grad
from jaxhash.ops.meshes import on_any_mesh

#: Log of zero mass; finite, so that differences are not NaN.
LOG_ZERO = -1e30


@on_any_mesh
def sinkhorn(
    codes: Float[Array, "n bits"],
    *,
    key: Key[Array, ""] | Shaped[Array, "2"],
    epsilon: float = 0.05,
    iterations: int = 100,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Entropy-regularized optimal transport from the batch of codes to a batch of uniform signs.

    With N random rows of signs :math:`t_i`, drawn anew from ``key``,

    .. math:: L = \min_P \sum_{ik} P_{ik} C_{ik}
                  + \epsilon \sum_{ik} P_{ik} \log (N^2 P_{ik}),
              \qquad C_{ik} = \frac{1}{\mathrm{bits}} \lVert t_i - u_k \rVert^2,

    over the plans P whose rows and columns sum to 1/N. It exceeds `optimal_transport` by at most
    :math:`\epsilon \log N`, and tends to it as :math:`\epsilon` tends to 0. It runs on the device,
    in :math:`O(N^2)` per iteration. Like exact transport it is biased to short codes, and more so:
    a large epsilon draws each code to the mean of all signs.

    The plan is computed by Sinkhorn iterations on logarithms, and is a constant for the gradient.
    For the optimal plan this is exact (envelope theorem): the gradient is
    :math:`2 (u_k - \bar t_k) / (N\,\mathrm{bits})`, where :math:`\bar t_k` is the mean of the signs
    under the plan of :math:`u_k`. The sums of the plan over signs are exact; those over codes
    converge with the iterations.

    Args:
        codes: raw outputs of the network.
        key: random key, the same on every device.
        epsilon: weight of the entropy, in units of the cost.
        iterations: fixed number of iterations; a smaller epsilon needs more.
        axis_name: see `jaxhash.losses`. Every device computes the whole plan.

    Raises:
        ValueError: if epsilon is not above 0, or iterations are fewer than 1.

    Example:
        >>> sinkhorn(jnp.zeros((8, 4)), key=jax.random.key(0)).round(3)  # for any plan
        Array(1., dtype=float32)

    Reference:
        Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", NIPS 2013. Not
        from a hashing paper: the HSWD paper compares with exact transport (`optimal_transport`).
    """
    codes = as_floating("codes", codes, ndim=2)
    where = as_mask("where", where, codes.shape[:1])
    if epsilon <= 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}")
    as_int("iterations", iterations, minimum=1)

    codes, where = gather_batch(codes, where, axis_name)
    rows, bits = codes.shape
    codes = jnp.where(where[:, None], codes, 0.0)
    count = jnp.sum(where, dtype=jnp.int32)
    signs = uniform_signs(key, rows, bits)
    log_share = _log_plan(
        lax.stop_gradient(codes),
        signs,
        jnp.arange(rows) < count,
        where,
        epsilon=epsilon,
        iterations=iterations,
    )
    share = jnp.exp(log_share)  # of each sign in each code
    mean = jnp.matmul(share.T, signs, precision=lax.Precision.HIGHEST)
    distance = jnp.mean((codes - mean) ** 2 + (1.0 - mean**2), axis=1)
    uniform = -jnp.log(jnp.maximum(count, 1).astype(codes.dtype))
    entropy = jnp.sum(jnp.where(share > 0, share * (log_share - uniform), 0.0), axis=0)
    costs = jnp.where(where, distance + epsilon * entropy, 0.0)
    return split_grad(jnp.sum(costs) / jnp.maximum(count, 1), axis_name)


def _log_plan(
    codes: Float[Array, "n bits"],
    signs: Float[Array, "m bits"],
    of_signs: Bool[Array, " m"],
    of_codes: Bool[Array, " n"],
    *,
    epsilon: float,
    iterations: int,
) -> Float[Array, "m n"]:
    """Computes the log of the share of each sign in each code; shares sum to 1 over signs.

    Squared lengths do not change the plan, so inner products replace distances; they are smaller,
    and lose fewer digits.
    """
    products = jnp.matmul(signs, codes.T, precision=lax.Precision.HIGHEST)
    gain = products * (2.0 / (codes.shape[1] * epsilon))
    masses = [
        jnp.where(valid, -jnp.log(jnp.maximum(jnp.sum(valid), 1).astype(codes.dtype)), LOG_ZERO)
        for valid in (of_signs, of_codes)
    ]
    log_sign, log_code = masses[0][:, None], masses[1][None, :]

    def iterate(_, potential):
        of_code = -jax.nn.logsumexp(log_sign + potential + gain, axis=0, keepdims=True)
        return -jax.nn.logsumexp(log_code + of_code + gain, axis=1, keepdims=True)

    start = jnp.full_like(codes, 0, shape=(signs.shape[0], 1))
    potential = lax.fori_loop(0, iterations, iterate, start)
    return jax.nn.log_softmax(log_sign + potential + gain, axis=0)
