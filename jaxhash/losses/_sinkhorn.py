"""Entropic transport from a batch of codes to a batch of random signs."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Key, Shaped

from jaxhash.losses._common import gather_batch
from jaxhash.losses._transport import _uniform_signs
from jaxhash.ops.arguments import as_floating, as_int, as_mask
from jaxhash.ops.collectives import split_grad
from jaxhash.ops.meshes import on_any_mesh

#: The logarithm of no mass at all, finite so that no two of them differ by NaN.
NOTHING = -1e30


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
    r"""Optimal transport from the batch of codes to a batch of uniform signs, with an entropy.

    With N random rows of signs :math:`t_i`, drawn afresh from ``key``,

    .. math:: L = \min_P \sum_{ik} P_{ik} C_{ik}
                  + \epsilon \sum_{ik} P_{ik} \log (N^2 P_{ik}),
              \qquad C_{ik} = \frac{1}{\mathrm{bits}} \lVert t_i - u_k \rVert^2,

    over the plans P whose rows and columns sum to 1/N. It is above `optimal_transport` by at most
    :math:`\epsilon \log N`, and tends to it as :math:`\epsilon` tends to 0. It runs on the device, in
    :math:`O(N^2)` an iteration, and shares the bias to codes that are too short, which it makes
    stronger: a large epsilon sends each code to the mean of all signs.

    The plan is found by Sinkhorn's iterations on logarithms and is a constant for the gradient.
    With the plan that is best that is exact (the envelope theorem), and the gradient is
    :math:`2 (u_k - \bar t_k) / (N\,\mathrm{bits})`, where :math:`\bar t_k` is the mean of the signs
    that :math:`u_k` is sent to. The codes' sums of the plan are exact; those of the signs are as
    near as the iterations brought them.

    Args:
        codes: raw outputs of the network, unbounded. Rows are the batch.
        key: random key, the same on every device.
        epsilon: weight of the entropy, in units of the cost.
        iterations: how many; the smaller epsilon, the more it takes. Their number is fixed.
        where: True for the valid rows; all of them by default. N counts these.
        axis_name: mapped axis over which the rows are spread; see `jaxhash.losses`. Every device
            computes the whole plan.

    Returns:
        The loss, a float32 scalar.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit, epsilon is not above 0, or iterations are fewer than 1.

    Example:
        >>> sinkhorn(jnp.zeros((8, 4)), key=jax.random.key(0)).round(3)  # whatever the plan
        Array(1., dtype=float32)

    Reference:
        Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", NIPS 2013. No
        hashing paper's: the paper of HSWD compares with exact transport (`optimal_transport`).
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
    signs = _uniform_signs(key, rows, bits)
    shares = _log_plan(
        lax.stop_gradient(codes),
        signs,
        jnp.arange(rows) < count,
        where,
        epsilon=epsilon,
        iterations=iterations,
    )
    share = jnp.exp(shares)  # of each sign in each code
    mean = jnp.matmul(share.T, signs, precision=lax.Precision.HIGHEST)
    distance = jnp.mean((codes - mean) ** 2 + (1.0 - mean**2), axis=1)
    uniform = -jnp.log(jnp.maximum(count, 1).astype(codes.dtype))
    entropy = jnp.sum(jnp.where(share > 0, share * (shares - uniform), 0.0), axis=0)
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
    """The logarithm of the share of each sign in each code, which sums to 1 over the signs.

    The squared lengths change no plan, so inner products stand for distances; they are smaller, and
    lose fewer digits.
    """
    products = jnp.matmul(signs, codes.T, precision=lax.Precision.HIGHEST)
    gain = products * (2.0 / (codes.shape[1] * epsilon))
    masses = [
        jnp.where(valid, -jnp.log(jnp.maximum(jnp.sum(valid), 1).astype(codes.dtype)), NOTHING)
        for valid in (of_signs, of_codes)
    ]
    log_sign, log_code = masses[0][:, None], masses[1][None, :]

    def iterate(_, potential):
        of_code = -jax.nn.logsumexp(log_sign + potential + gain, axis=0, keepdims=True)
        return -jax.nn.logsumexp(log_code + of_code + gain, axis=1, keepdims=True)

    start = jnp.full_like(codes, 0, shape=(signs.shape[0], 1))
    potential = lax.fori_loop(0, iterations, iterate, start)
    return jax.nn.log_softmax(log_sign + potential + gain, axis=0)
