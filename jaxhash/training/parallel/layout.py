"""Where the leaves of a state and the rows of a batch lie on a mesh of devices."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxhash.objectives import TableSharding, sharded_leaves
from jaxhash.training.state import TrainState
from jaxhash.utils.errors import UserError

#: Name of the axis over which pmap and shard_map map the step.
AXIS = "devices"

#: Parameters of fewer entries are whole on each device: a message for each would cost more than they.
MIN_SHARDED_SIZE = 2**14

#: Names of the axes of the mesh of a step under ``jax.jit``; rows are spread over both.
DATA_AXIS, MODEL_AXIS = "data", "model"


def mapped_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Returns the mesh of a step that pmap or shard_map maps."""
    return Mesh(np.array(devices), (AXIS,))


def global_mesh(devices: Sequence[jax.Device], model_parallel: int = 1) -> Mesh:
    """Returns the mesh of a step under ``jax.jit``, where the compiler shards what is computed.

    Args:
        devices: the devices.
        model_parallel: how many consecutive ones share the classes.

    Raises:
        UserError: if ``model_parallel`` does not divide the number of devices.
    """
    check_model_parallel(model_parallel, len(devices))
    return Mesh(np.array(devices).reshape(-1, model_parallel), (DATA_AXIS, MODEL_AXIS))


def check_model_parallel(model_parallel: int, devices: int) -> None:
    """Raises a `UserError` if so many devices cannot be grouped into those that share the classes."""
    if devices % model_parallel:
        raise UserError(
            f"`model_parallel={model_parallel}` must divide the number of devices, {devices}"
        )


@dataclasses.dataclass(frozen=True)
class Layout:
    """The shardings of a state and of a batch.

    Attributes:
        mesh: the devices.
        table_sharding: tables of the objective's state whose rows are sharded over the devices.
        shard_params: whether parameters and optimizer state are sharded over the devices, each array
            along its largest axis that they divide. Small arrays, and those of which they divide no
            axis, are whole on each device.
        class_axes: per leaf of a state, the axis that is spread over the devices that share the
            classes, -1 for none; see `class_tables`. None if no devices share them.
    """

    mesh: Mesh
    table_sharding: TableSharding = TableSharding()
    shard_params: bool = False
    class_axes: TrainState | None = None

    @property
    def rows(self) -> PartitionSpec:
        """The spec of arrays whose rows are sharded over all devices, in order."""
        names = self.mesh.axis_names
        return PartitionSpec(names if len(names) > 1 else names[0])

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        """Returns a sharding over the devices."""
        return NamedSharding(self.mesh, spec)

    def sharded_tables(self, state: TrainState) -> TrainState:
        """Returns, per leaf, whether it is a table of the objective with sharded rows."""
        whole = jax.tree.map(lambda _: False, state)
        return whole.replace(
            objective_state=sharded_leaves(state.objective_state, self.table_sharding)
        )

    def specs(self, state: TrainState) -> TrainState:
        """Returns the spec of each leaf of a state in the global form."""
        specs = jax.tree.map(
            lambda is_table: self.rows if is_table else PartitionSpec(), self.sharded_tables(state)
        )
        specs = specs.replace(
            params=self.param_specs(state.params), opt_state=self.param_specs(state.opt_state)
        )
        if self.class_axes is None:
            return specs
        return jax.tree.map(
            lambda spec, axis: spec if axis < 0 else PartitionSpec(*(None,) * axis, MODEL_AXIS),
            specs,
            self.class_axes,
        )

    def param_specs(self, params: PyTree) -> PyTree[PartitionSpec]:
        """Returns the spec of each parameter, or of each leaf of a state of the optimizer."""
        return jax.tree.map(lambda leaf: self._param_spec(leaf.shape), params)

    def _param_spec(self, shape: tuple[int, ...]) -> PartitionSpec:
        divisible = [axis for axis, size in enumerate(shape) if size % self.mesh.size == 0]
        if not self.shard_params or math.prod(shape) < MIN_SHARDED_SIZE or not divisible:
            return PartitionSpec()
        axis = max(divisible, key=lambda axis: shape[axis])
        return PartitionSpec(*(None,) * axis, *self.rows)

    def shardings(self, state: TrainState) -> TrainState:
        """Returns the sharding of each leaf of a state in the global form."""
        return jax.tree.map(self.sharding, self.specs(state))


def describe(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """Returns the shape of an array with its sharding."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """Makes a global array of one that each process holds whole, unless it is that already."""
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if jax.process_count() == 1:
        return jax.device_put(leaf, sharding)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
