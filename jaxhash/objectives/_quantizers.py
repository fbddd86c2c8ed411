"""Quantization losses as objectives without state, which ignore labels.

Each is one of `jaxhash.losses` on the raw codes of the model, and logs its value under its own
name. All are means over batch and bits: beside a loss of order 1, a weight near 0.1 is a sensible
start.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxhash import losses
from jaxhash.losses import Directions, Order, Target
from jaxhash.objectives._base import (
    Objective,
    check_weights,
    from_loss,
    on_probabilities,
    on_relaxed,
)

__all__ = [
    "balance",
    "bernoulli_kl",
    "cauchy",
    "cosine",
    "cubic",
    "decorrelated_hswd",
    "decorrelation",
    "empirical_kl",
    "gaussian_bce",
    "hswd",
    "koleo",
    "l1",
    "l2",
    "log_cosh",
    "ot",
    "parity_hswd",
    "sinkhorn",
    "swd",
]


def hswd(
    *,
    target: Target = "sampled",
    method: Literal["select", "sort"] | None = None,
    order: Order = 2,
    mass: float = 0.5,
    low: float = -1.0,
    high: float = 1.0,
) -> Objective:
    """`jaxhash.losses.hswd` on the raw codes, as in the paper's released code.

    Args:
        target: law that the batch is compared with.
        method: how the codes are ranked; None is the fastest that the target allows. (The kernel of
            `jaxhash.losses.hswd` is for codes on one device, which a training step cannot assume.)
        order: 2 for squared distances, 1 for distances.
        mass: probability of +1, for all bits.
        low: lower target, -1 in the paper. Codes are cut at 0 for all targets.
        high: upper target.

    Raises:
        ValueError: if an option is unknown, or options do not go together.

    Example:
        >>> quantizer = hswd(target="balanced")
    """
    options = {"target": target, "method": method, "order": order, "mass": mass}
    return _quantizer("hswd", partial(losses.hswd, levels=(low, high), **options), random=True)


def swd(
    *, projections: int = 10_000, block: int = 512, directions: Directions = "random"
) -> Objective:
    """`jaxhash.losses.sliced_wasserstein` on the raw codes.

    Args:
        projections: number of random directions.
        block: number of directions in memory at a time.
        directions: ``"random"``, or the coordinate ``"axes"``.

    Raises:
        ValueError: if projections or block are not positive, or directions are unknown.

    Example:
        >>> quantizer = swd(projections=1000)
    """
    options = {"projections": projections, "block": block, "directions": directions}
    return _quantizer("swd", partial(losses.sliced_wasserstein, **options), random=True)


def ot() -> Objective:
    """`jaxhash.losses.optimal_transport` on the raw codes, solved on the host.

    Example:
        >>> quantizer = ot()
    """
    return _quantizer("ot", losses.optimal_transport, random=True)


def sinkhorn(*, epsilon: float = 0.05, iterations: int = 100) -> Objective:
    """`jaxhash.losses.sinkhorn` on the raw codes: entropic transport, solved on the device.

    Args:
        epsilon: weight of the entropy.
        iterations: number of iterations, without an earlier stop.

    Raises:
        ValueError: if epsilon or iterations are not positive.

    Example:
        >>> quantizer = sinkhorn(epsilon=0.1)
    """
    loss = partial(losses.sinkhorn, epsilon=epsilon, iterations=iterations)
    return _quantizer("sinkhorn", loss, random=True)


def l1() -> Objective:
    """`jaxhash.losses.l1_quantization`: the distance of each bit to its sign.

    Example:
        >>> quantizer = l1()
    """
    return _quantizer("l1", losses.l1_quantization)


def l2() -> Objective:
    """`jaxhash.losses.l2_quantization`: the squared distance of each bit to its sign.

    Example:
        >>> quantizer = l2()
    """
    return _quantizer("l2", losses.l2_quantization)


def cubic() -> Objective:
    """`jaxhash.losses.cubic_quantization`: the cubed distance of each bit to its sign.

    Example:
        >>> quantizer = cubic()
    """
    return _quantizer("cubic", losses.cubic_quantization)


def log_cosh() -> Objective:
    """`jaxhash.losses.log_cosh_quantization`: a smooth distance of each bit to its sign.

    Example:
        >>> quantizer = log_cosh()
    """
    return _quantizer("log_cosh", losses.log_cosh_quantization)


def cosine() -> Objective:
    """`jaxhash.losses.cosine_quantization`: the angle between a code and its signs.

    Example:
        >>> quantizer = cosine()
    """
    return _quantizer("cosine", losses.cosine_quantization)


def cauchy(*, gamma: float = 20.0) -> Objective:
    """`jaxhash.losses.cauchy_quantization`: a Cauchy likelihood of the distance to the signs.

    Args:
        gamma: scale of the Cauchy law, in bits.

    Raises:
        ValueError: if gamma is not above 0.

    Example:
        >>> quantizer = cauchy(gamma=30.0)
    """
    return _quantizer("cauchy", partial(losses.cauchy_quantization, gamma=gamma))


def gaussian_bce(*, sigma: float = 0.5) -> Objective:
    """`jaxhash.losses.gaussian_bce_quantization`: cross-entropy under Gaussians about the signs.

    Args:
        sigma: deviation of the Gaussians.

    Raises:
        ValueError: if sigma is not above 0.

    Example:
        >>> quantizer = gaussian_bce(sigma=1.0)
    """
    return _quantizer("gaussian_bce", partial(losses.gaussian_bce_quantization, sigma=sigma))


def balance() -> Objective:
    """`jaxhash.losses.bit_balance_penalty` of tanh(u), so that no single code dominates.

    It also has its minimum at 0: combine it with a loss that makes codes binary.

    Example:
        >>> quantizer = balance()
    """
    return _quantizer("balance", on_relaxed(losses.bit_balance_penalty))


def decorrelation(*, centred: bool = False) -> Objective:
    """`jaxhash.losses.bit_decorrelation` of tanh(u), so that all bits have one scale.

    It also has its minimum at 0: combine it with a loss that makes codes binary.

    Args:
        centred: whether covariances are penalized, instead of second moments.

    Example:
        >>> quantizer = decorrelation(centred=True)
    """
    return _quantizer(
        "decorrelation", on_relaxed(partial(losses.bit_decorrelation, centered=centred))
    )


def bernoulli_kl(*, mass: float = 0.5) -> Objective:
    """`jaxhash.losses.bernoulli_kl` on the raw codes: the frequency of each bit against ``mass``.

    Args:
        mass: share of +1, for all bits.

    Raises:
        ValueError: if mass is not between 0 and 1.

    Example:
        >>> quantizer = bernoulli_kl()
    """
    return _quantizer("bernoulli_kl", partial(losses.bernoulli_kl, mass=mass))


def koleo(*, epsilon: float = 1e-2) -> Objective:
    """`jaxhash.losses.koleo` on the raw codes: each code is pushed away from its nearest neighbor.

    Args:
        epsilon: distance below which neighbors push each other less.

    Raises:
        ValueError: if epsilon is not above 0.

    Example:
        >>> quantizer = koleo()
    """
    return _quantizer("koleo", partial(losses.koleo, epsilon=epsilon))


def empirical_kl(*, target: float = 0.1, k: int = 1, norm: float = 1.0) -> Objective:
    """`jaxhash.losses.nearest_neighbor_kl` of (1 + tanh u) / 2 against nearly fair bits.

    Args:
        target: concentration a of the law Beta(a, a) of each bit.
        k: order of the nearest neighbor used.
        norm: norm of the distances, 1, 2 or infinity.

    Raises:
        ValueError: if an option is out of its range.

    Example:
        >>> quantizer = empirical_kl(k=3)
    """
    loss = partial(losses.nearest_neighbor_kl, target=target, k=k, norm=norm)
    return _quantizer("empirical_kl", on_probabilities(loss), random=True)


def parity_hswd(
    *,
    weight: float = 0.3,
    pairs: int | None = None,
    bound: float = 1.5,
    target: Target = "sampled",
) -> Objective:
    """`jaxhash.losses.parity_hswd` on the raw codes: HSWD of the bits and of parities of two.

    Args:
        weight: weight of the parities, relative to the bits.
        pairs: number of pairs drawn each step; the number of bits by default.
        bound: size that codes are clipped to in the products.
        target: law that the batch is compared with.

    Raises:
        ValueError: if weight is below 0, pairs or bound are not positive, or the target is unknown.

    Example:
        >>> quantizer = parity_hswd(weight=0.5)
    """
    check_weights(weight=weight)
    options = {"weight": weight, "pairs": pairs, "bound": bound, "target": target}
    return _quantizer("parity_hswd", partial(losses.parity_hswd, **options), random=True)


def decorrelated_hswd(*, weight: float = 1.0, target: Target = "sampled") -> Objective:
    """`jaxhash.losses.decorrelated_hswd` on the raw codes: HSWD and `decorrelation`.

    Args:
        weight: weight of the decorrelation, relative to HSWD.
        target: law that the batch is compared with.

    Raises:
        ValueError: if weight is below 0 or the target is unknown.

    Example:
        >>> quantizer = decorrelated_hswd(target="balanced")
    """
    check_weights(weight=weight)
    loss = partial(losses.decorrelated_hswd, weight=weight, target=target)
    return _quantizer("decorrelated_hswd", loss, random=True)


def _quantizer(
    name: str, loss: Callable[..., Float[Array, ""]], *, random: bool = False
) -> Objective:
    """Makes an objective of a loss, and checks its options."""
    if isinstance(loss, partial):
        _check(loss.func, tuple(loss.keywords.items()), random)
    else:
        _check(loss, (), random)
    return from_loss(name, loss, random=random)


@lru_cache  # a command makes the objective several times, and tracing HSWD takes a tenth of a second
def _check(
    loss: Callable[..., Float[Array, ""]], options: tuple[tuple[str, object], ...], random: bool
) -> None:
    """Calls a loss on a small batch of abstract arrays, which checks its options."""
    codes = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    key = {"key": jax.eval_shape(jax.random.key, 0)} if random else {}
    jax.eval_shape(partial(loss, **dict(options)), codes, **key)


#: Every quantizer, in the order of the tables.
QUANTIZERS = (
    hswd,
    swd,
    ot,
    sinkhorn,
    l1,
    l2,
    cubic,
    log_cosh,
    cosine,
    cauchy,
    gaussian_bce,
    balance,
    decorrelation,
    bernoulli_kl,
    koleo,
    empirical_kl,
    parity_hswd,
    decorrelated_hswd,
)
