"""Sharded parameters that are whole only where a layer uses them (fully sharded data parallelism)."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxhash.training.parallel.layout import Layout

#: Operations that are repeated in the backward pass where they make a whole parameter of a sharded one.
#: `_gather_leaf` is a ``custom_vjp_call``.
_REPEATED = (
    "custom_vjp_call",
    "convert_element_type",
    "reshape",
    "transpose",
    "broadcast_in_dim",
)


def with_gathered_params(loss_fn: Callable, layout: Layout) -> Callable:
    """Returns a loss of sharded parameters, which gathers each where it is used.

    The backward pass gathers it once more instead of keeping it, and the gradient is summed into the
    shards, so neither parameters nor gradients are whole on a device.

    Args:
        loss_fn: ``loss_fn(params)`` of whole parameters, the dict of a state or parts of it; anything
            that `jax.grad` differentiates.
        layout: where the parameters lie.
    """

    def loss_of_shards(params):
        specs = layout.param_specs(params)
        if layout.class_axes is not None:  # tables of classes are spread while they are used
            axes = {part: layout.class_axes.params[part] for part in params}
            specs = jax.tree.map(
                lambda spec, axis: spec if axis < 0 else PartitionSpec(), specs, axes
            )
        is_sharded = jax.tree.map(lambda spec: spec != PartitionSpec(), specs)
        shapes = {
            leaf.shape
            for leaf, sharded in zip(
                jax.tree.leaves(params), jax.tree.leaves(is_sharded), strict=True
            )
            if sharded
        }

        def is_kept(primitive: Any, *inputs: Any, **options: Any) -> bool:
            return primitive.name not in _REPEATED or inputs[0].shape not in shapes

        def of_whole(params):
            return loss_fn(_gather(params, specs, layout))

        return jax.checkpoint(of_whole, policy=is_kept)(params)

    return loss_of_shards


def _gather(params: PyTree, specs: PyTree[PartitionSpec], layout: Layout) -> PyTree:
    """Returns the parameters whole on each device; their gradients are sharded again."""
    whole = layout.sharding(PartitionSpec())

    def gather(leaf, spec):
        return leaf if spec == PartitionSpec() else _gather_leaf(leaf, layout.sharding(spec), whole)

    return jax.tree.map(gather, params, specs)


def _gather_leaf(leaf: jax.Array, sharded: NamedSharding, whole: NamedSharding) -> jax.Array:
    @jax.custom_vjp
    def gather(leaf):
        return lax.with_sharding_constraint(leaf, whole)

    def backward(_, gradient):
        return (lax.with_sharding_constraint(gradient, sharded),)

    gather.defvjp(lambda leaf: (gather(leaf), None), backward)
    return gather(leaf)
