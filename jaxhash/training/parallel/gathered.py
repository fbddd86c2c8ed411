"""Sharded parameters that are whole only where a layer uses them (fully sharded data parallelism)."""

from collections.abc import Callable
from typing import Any

import jax
from flax import struct
from flax.core.meta import AxisMetadata
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxhash.training.parallel.layout import Layout

#: Operations that are repeated in the backward pass where they make a whole parameter of a sharded one.
#: `_gather` is a ``custom_vjp_call``.
_REPEATED = (
    "custom_vjp_call",
    "convert_element_type",
    "reshape",
    "transpose",
    "broadcast_in_dim",
)


def with_gathered_params(loss_fn: Callable, layout: Layout, *, remat: bool = False) -> Callable:
    """Returns a loss of sharded parameters, which gathers each where it is used.

    The backward pass gathers it once more instead of keeping it, and the gradient is summed into the
    shards, so neither parameters nor gradients are whole on a device. Those of the objective are
    gathered together, since they are used where the forward pass ends. Layers of `flax.linen.scan` are
    whole one at a time if the scanned block is a `flax.linen.remat`, and else all together.

    Args:
        loss_fn: ``loss_fn(params)`` of whole parameters, the dict of a state or parts of it; anything
            that `jax.grad` differentiates.
        layout: where the parameters lie.
        remat: whether the model computes its blocks again in the backward pass, and with them what
            they gather. JAX would keep their activations if they were part of another
            `jax.checkpoint` with a policy.
    """

    def loss_of_shards(params):
        specs = layout.param_specs(params)
        if layout.class_axes is not None:  # tables of classes are spread while they are used
            axes = {part: layout.class_axes.params[part] for part in params}
            specs = jax.tree.map(
                lambda spec, axis: spec if axis < 0 else PartitionSpec(), specs, axes
            )
        whole = layout.sharding(PartitionSpec())

        def in_box(leaf, spec):
            is_whole = spec == PartitionSpec()
            return leaf if is_whole else _ShardedParam(leaf, layout.sharding(spec), whole)

        def of_shards(params):
            boxes = jax.tree.map(in_box, params, specs)
            objective = jax.tree.map(_unbox, boxes["objective"], is_leaf=_is_box)
            return loss_fn(boxes | {"objective": objective})

        if remat:
            return of_shards(params)
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(specs), strict=True)
        shapes = {leaf.shape for leaf, spec in pairs if spec != PartitionSpec()}

        def is_kept(primitive: Any, *inputs: Any, **options: Any) -> bool:
            of_param = any(array.shape in shapes for array in inputs[:1])
            return not (of_param and primitive.name in _REPEATED)

        return jax.checkpoint(of_shards, policy=is_kept)(params)

    return loss_of_shards


class _ShardedParam(struct.PyTreeNode, AxisMetadata):
    """A parameter that a Flax module gathers each time it reads it."""

    shard: jax.Array
    sharded: NamedSharding = struct.field(pytree_node=False)
    whole: NamedSharding = struct.field(pytree_node=False)

    def unbox(self) -> jax.Array:
        """Returns the parameter whole on each device; its gradient is sharded again."""
        return _gather(self.shard, self.sharded, self.whole)

    def replace_boxed(self, value: jax.Array) -> "_ShardedParam":
        """Returns a box of another value."""
        return self.replace(shard=value)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "_ShardedParam":
        """Returns the box of stacked values."""
        spec = self._padded_spec(index)
        return self._with_spec((*spec[:index], None, *spec[index:]))

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "_ShardedParam":
        """Returns the box of a value of the stack."""
        spec = self._padded_spec(index + 1)
        return self._with_spec((*spec[:index], *spec[index + 1 :]))

    def _padded_spec(self, length: int) -> tuple[Any, ...]:
        spec = tuple(self.sharded.spec)
        return spec + (None,) * (length - len(spec))

    def _with_spec(self, spec: tuple[Any, ...]) -> "_ShardedParam":
        return self.replace(sharded=NamedSharding(self.sharded.mesh, PartitionSpec(*spec)))


def _is_box(node: Any) -> bool:
    return isinstance(node, _ShardedParam)


def _unbox(node: Any) -> Any:
    return node.unbox() if _is_box(node) else node


def _gather(leaf: jax.Array, sharded: NamedSharding, whole: NamedSharding) -> jax.Array:
    @jax.custom_vjp
    def gather(leaf):
        return lax.with_sharding_constraint(leaf, whole)

    def backward(_, gradient):
        return (lax.with_sharding_constraint(gradient, sharded),)

    gather.defvjp(lambda leaf: (gather(leaf), None), backward)
    return gather(leaf)
