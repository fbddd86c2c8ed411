"""Unbiased estimates of the gradient of an expectation over random bits, by two correlated draws."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: Estimators of the gradient; see `bernoulli_gradient`.
Estimator = Literal["arm", "masked-arm", "disarm"]


def antithetic_bits(
    logits: Float[Array, "n bits"], uniform: Float[Array, "n bits"]
) -> tuple[Float[Array, "n bits"], Float[Array, "n bits"]]:
    r"""Draws two antithetic samples of random bits, each of which is 1 with probability sigmoid(logits).

    .. math:: z = \mathbf 1[u < \sigma(\psi)], \qquad \tilde z = \mathbf 1[u > \sigma(-\psi)]

    Args:
        logits: :math:`\psi`.
        uniform: u, uniform in [0, 1), of the same shape.

    Returns:
        Bits of 0 and 1.

    Example:
        >>> first, second = antithetic_bits(jnp.zeros((1, 2)), jnp.array([[0.2, 0.7]]))
        >>> first, second
        (Array([[1., 0.]], dtype=float32), Array([[0., 1.]], dtype=float32))
    """
    probability = jax.nn.sigmoid(logits)
    first = uniform < probability
    second = uniform > jax.nn.sigmoid(-logits)
    return first.astype(probability.dtype), second.astype(probability.dtype)


def bernoulli_gradient(
    logits: Float[Array, "n bits"],
    uniform: Float[Array, "n bits"],
    cost: Float[Array, " n"],
    other_cost: Float[Array, " n"],
    *,
    estimator: Estimator = "arm",
) -> Float[Array, "n bits"]:
    r"""Estimates the gradient of :math:`E_z f(z)` in the logits of the bits z, without one of f.

    With the draws :math:`z, \tilde z` of `antithetic_bits`,

    .. math:: g_{\mathrm{arm}} &= \big(f(\tilde z) - f(z)\big)\big(u - \tfrac12\big), \\
              g_{\mathrm{masked}} &= g_{\mathrm{arm}}\, \mathbf 1[z \ne \tilde z], \\
              g_{\mathrm{disarm}} &= \tfrac12 \big(f(z) - f(\tilde z)\big)\,
              (-1)^{\tilde z}\, \mathbf 1[z \ne \tilde z]\, \sigma(|\psi|).

    All three are unbiased. A bit that both draws share tells nothing of its own gradient, so
    leaving it out (masked) lowers the variance; "disarm" moreover averages over u, given the draws.

    Args:
        logits: :math:`\psi`.
        uniform: u.
        cost: f(z) of each row.
        other_cost: :math:`f(\tilde z)` of each row.
        estimator: which of the three.

    Raises:
        ValueError: if the estimator is unknown.

    Example:
        >>> logits, uniform = jnp.array([[0.0, 4.0]]), jnp.array([[0.2, 0.5]])
        >>> draws = antithetic_bits(logits, uniform)  # (1, 1) and (0, 1)
        >>> cost, other = (jnp.sum(draw, axis=1) for draw in draws)
        >>> bernoulli_gradient(logits, uniform, cost, other, estimator="disarm")  # exact: 1/4
        Array([[0.25, 0.  ]], dtype=float32)

    Reference:
        "arm": Yin, Zhou, "ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks", ICLR
        2019, as Dadaneh et al., UAI 2020, have it (read in the latter). "masked-arm" is in the latter's
        released code (read there), and unbiased (derived). "disarm": Dong, Mnih, Tucker, "DisARM: An
        Antithetic Gradient Estimator for Binary Latent Variables", NeurIPS 2020, from memory, checked
        against exact enumeration.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"estimator must be one of {get_args(Estimator)}, got {estimator!r}")
    difference = (other_cost - cost)[:, None]
    if estimator == "arm":
        return difference * (uniform - 0.5)
    first, second = antithetic_bits(logits, uniform)
    differs = first != second
    if estimator == "masked-arm":
        return jnp.where(differs, difference * (uniform - 0.5), 0.0)
    sign = 2.0 * second - 1.0
    return jnp.where(differs, 0.5 * difference * sign * jax.nn.sigmoid(jnp.abs(logits)), 0.0)
