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
from jaxhash.ops.meshes import row_groups


class Encoder(nn.Module):
    """A backbone and a linear layer, the hash head, from inputs to real-valued codes.

    The parameters have the names ``backbone`` and ``head``, so an optimizer can treat them apart.

    Attributes:
        backbone: factory of the module from inputs to features, called with ``axis_name`` and
            ``name``: a backbone class, or a ``functools.partial`` of one.
        bits: length of a code.
        head_norm: whether the codes are batch-normalized without scale and bias, which centers each
            bit, as in OrthoHash.
        axis_name: mapped axis over which the batch is sharded; passed to the backbone.
        unit_norm: whether features are scaled to unit length before the head.
    """

    backbone: Callable[..., nn.Module]
    bits: int
    head_norm: bool = False
    axis_name: str | None = None
    unit_norm: bool = False

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
        """Computes codes before binarization.

        Several views pass through the network as one large batch. Random draws of the backbone,
        such as dropout, depend on the number of the row and on the view.

        Args:
            inputs: a batch [n, ...], or a tuple of such batches, one per view.
            train: whether batch normalization and dropout run in training mode.
            mask: [n], False for rows of padding, which do not affect the other rows.
            return_features: whether to return the features of the backbone in place of codes.
            rows: [n], number of each row; the position in the global batch by default.

        Returns:
            Codes [n, bits] or features [n, features], before ``unit_norm``, with the structure of
            ``inputs``.
        """
        views, tree = jax.tree.flatten(inputs)
        x = merge_views(views)
        if mask is not None:
            mask = merge_views([mask] * len(views))
        if rows is None and train and not self.is_initializing():
            rows = row_indices(len(views[0]), self.axis_name)
        if rows is not None:
            rows = merge_views([len(views) * rows + view for view in range(len(views))])
        backbone = self.backbone(axis_name=self.axis_name, name="backbone")
        codes = backbone(x, train=train, mask=mask, **rows_argument(backbone, rows))
        if not return_features:
            if self.unit_norm:
                codes = unit_rows(codes)
            codes = nn.Dense(self.bits, name="head")(codes)
            if self.head_norm:
                norm = BatchNorm(affine=False, axis_name=self.axis_name, name="head_norm")
                codes = norm(codes, train=train, mask=mask)
        return tree.unflatten(split_views(codes, len(views)))


def merge_views(
    views: list[Shaped[Array | np.ndarray, "n ..."]],
) -> Shaped[Array | np.ndarray, "m ..."]:
    """Concatenates views; where a mesh spreads their rows, on each device those that it has."""
    if len(views) == 1:
        return views[0]
    groups = row_groups(len(views[0]))
    parts = [jnp.asarray(view).reshape(groups, -1, *view.shape[1:]) for view in views]
    return jnp.concatenate(parts, axis=1).reshape(-1, *views[0].shape[1:])


def split_views(merged: Float[Array, "m d"], views: int) -> list[Float[Array, "n d"]]:
    """Undoes `merge_views`."""
    if views == 1:
        return [merged]
    rows, columns = len(merged) // views, merged.shape[1]
    parts = merged.reshape(row_groups(rows), views, -1, columns)
    return [parts[:, view].reshape(rows, columns) for view in range(views)]


def unit_rows(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Scales each row to length 1; a row of zeros is not changed.

    Example:
        >>> unit_rows(jnp.array([[3e30, 4e30], [0.0, 0.0]]))
        Array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """
    # Divides by the largest entry first, so that no square under- or overflows.
    largest = jnp.abs(x).max(axis=1, keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1)
