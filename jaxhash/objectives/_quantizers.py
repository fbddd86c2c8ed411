"""Quantization losses as objectives: stateless, and blind to labels."""

from jaxhash import losses
from jaxhash.losses import Method, Target
from jaxhash.objectives._base import Loss, Objective, Variables


def hswd(*, target: Target = "sampled", method: Method | None = None) -> Objective:
    """`jaxhash.losses.hswd` on the raw codes, as in the paper's released code.

    Args:
        target: law that the batch is compared with.
        method: how the codes are ranked; None is the fastest that the target allows.

    Example:
        >>> quantizer = hswd(target="balanced")
    """

    def init(key, setup):
        return Variables()

    def loss(variables, codes, batch, context):
        value = losses.hswd(
            codes,
            key=context.key,
            target=target,
            method=method,
            where=batch.mask,
            axis_name=context.axis_name,
        )
        return Loss(value, variables.state, {"hswd": value})

    return Objective(init, loss)
