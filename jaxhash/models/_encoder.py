"""A backbone with a hash head."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from jaxhash.models._base import rows_argument
from jaxhash.models._norm import BatchNorm
from jaxhash.ops.collectives import row_indices


class Encoder(nn.Module):
    """Real-valued codes of a batch of inputs: a backbone, then one linear layer, the hash head.

    The parameters are those of ``backbone`` and ``head``, which an optimizer can tell apart by name.

    Attributes:
        backbone: makes the module from inputs to features, given ``axis_name`` and ``name``: a
            backbone class, or a ``functools.partial`` of one.
        bits: length of a code.
        head_norm: whether the codes are batch-normalized, without scale and bias: each bit is then
            centred, as OrthoHash has it.
        axis_name: mapped axis that the batch is spread over; handed to the backbone.
    """

    backbone: Callable[..., nn.Module]
    bits: int
    head_norm: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        inputs: PyTree[Shaped[Array | np.ndarray, "n ..."]],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
        return_features: bool = False,
        rows: Int[Array | np.ndarray, " n"] | None = None,
    ) -> PyTree[Float[Array, "n _"]]:
        """Codes before they are cut at zero; padding (mask False) has no say in the others.

        Inputs of several views are one large batch to the network, and codes are a tuple like them.
        With ``return_features`` it is the features of the backbone that are returned. What the backbone
        draws for an input, such as dropout, depends on its number in ``rows``, which is its place in
        the global batch by default, and on the view.
        """
        views, tree = jax.tree.flatten(inputs)
        x = views[0] if len(views) == 1 else jnp.concatenate(views)
        if mask is not None:
            mask = jnp.tile(mask, len(views))
        if rows is None and train and not self.is_initializing():
            rows = row_indices(len(views[0]), self.axis_name)
        if rows is not None:
            rows = jnp.concatenate([len(views) * rows + view for view in range(len(views))])
        backbone = self.backbone(axis_name=self.axis_name, name="backbone")
        codes = backbone(x, train=train, mask=mask, **rows_argument(backbone, rows))
        if not return_features:
            codes = nn.Dense(self.bits, name="head")(codes)
            if self.head_norm:
                norm = BatchNorm(affine=False, axis_name=self.axis_name, name="head_norm")
                codes = norm(codes, train=train, mask=mask)
        return tree.unflatten(jnp.split(codes, len(views)))
