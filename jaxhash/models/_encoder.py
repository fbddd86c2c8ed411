"""A backbone with a hash head."""

from collections.abc import Callable

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped


class Encoder(nn.Module):
    """Real-valued codes of a batch of inputs: a backbone, then one linear layer, the hash head.

    The parameters are those of ``backbone`` and ``head``, which an optimizer can tell apart by name.

    Attributes:
        backbone: makes the module from inputs to features, given ``axis_name`` and ``name``: a
            backbone class, or a ``functools.partial`` of one.
        bits: length of a code.
        axis_name: mapped axis that the batch is spread over; handed to the backbone.
    """

    backbone: Callable[..., nn.Module]
    bits: int
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        inputs: Shaped[Array | np.ndarray, "n ..."],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
    ) -> Float[Array, "n bits"]:
        """Codes before they are cut at zero; padding (mask False) has no say in the others."""
        backbone = self.backbone(axis_name=self.axis_name, name="backbone")
        features = backbone(inputs, train=train, mask=mask)
        return nn.Dense(self.bits, name="head")(features)
