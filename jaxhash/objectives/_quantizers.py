"""Quantization losses as objectives: stateless, and blind to labels."""

from functools import partial

from jaxhash import losses
from jaxhash.losses import Method, Target
from jaxhash.objectives._base import Objective, stateless


def hswd(*, target: Target = "sampled", method: Method | None = None) -> Objective:
    """`jaxhash.losses.hswd` on the raw codes, as in the paper's released code.

    Args:
        target: law that the batch is compared with.
        method: how the codes are ranked; None is the fastest that the target allows.

    Example:
        >>> quantizer = hswd(target="balanced")
    """
    return stateless("hswd", partial(losses.hswd, target=target, method=method), random=True)
