"""The step over devices: mapped by ``jax.pmap`` or ``jax.shard_map``, or as one global program.

A program takes and returns states in the local form and donates them. It has ``lower`` as functions
of ``jax.jit`` do.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

from jaxhash.objectives import Batch
from jaxhash.training.parallel.layout import AXIS, Layout
from jaxhash.training.state import TrainState


def jit_program(step: Callable, layout: Layout, state: TrainState) -> Callable:
    """Compiles the step on the whole batch; the compiler spreads it over the devices.

    Args:
        step: ``step(state, batch)``.
        layout: where state and batch lie.
        state: a state, or its shapes.
    """

    def step_on_mesh(state, batch):
        with jax.sharding.use_abstract_mesh(layout.mesh.abstract_mesh):  # see `jaxhash.ops.meshes`
            return step(state, batch)

    shardings = layout.shardings(state)
    return jax.jit(
        step_on_mesh,
        in_shardings=(shardings, layout.sharding(layout.rows)),
        out_shardings=(shardings, layout.sharding(PartitionSpec())),
        donate_argnums=(0,),
    )


def shard_map_program(step: Callable, layout: Layout, state: TrainState) -> Callable:
    """Maps the step of one device by ``jax.shard_map``; see `jit_program` for the arguments."""
    specs = layout.specs(state)
    mapped = jax.shard_map(
        step,
        mesh=layout.mesh,
        in_specs=(specs, layout.rows),
        out_specs=(specs, PartitionSpec()),
        check_vma=False,  # True would sum the gradients twice: see `train_step`
    )
    return jax.jit(mapped, donate_argnums=(0,))


class PmapProgram:
    """The step of one device, mapped by ``jax.pmap``; see `jit_program` for the arguments.

    It maps a step on tuples of leaves, since pmap requires hashable axes.
    """

    def __init__(self, step: Callable, layout: Layout, state: TrainState):
        self._tree = tree = jax.tree.structure(state)
        axes = tuple(
            0 if table else None for table in jax.tree.leaves(layout.sharded_tables(state))
        )

        def step_on_leaves(leaves, batch):
            state, metrics = step(tree.unflatten(leaves), batch)
            return tuple(jax.tree.leaves(state)), metrics

        self._mapped = jax.pmap(
            step_on_leaves,
            axis_name=AXIS,
            in_axes=(axes, 0),
            out_axes=(axes, None),
            donate_argnums=(0,),
            devices=list(layout.mesh.devices.flat),
        )

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """Takes a step from a state and a batch in the local form."""
        leaves, metrics = self._mapped(tuple(jax.tree.leaves(state)), batch)
        return self._tree.unflatten(leaves), metrics

    def lower(self, state: TrainState, batch: Batch) -> jax.stages.Lowered:
        """Lowers the step for shapes with a leading axis over the devices of all processes."""
        return self._mapped.lower(tuple(jax.tree.leaves(state)), batch)
