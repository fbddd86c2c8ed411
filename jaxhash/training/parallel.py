"""The data-parallel step over the devices of all processes; the only user of pmap and shard_map.

A state has two forms. In the *global* form, which checkpoints have, each leaf is one array over the
devices of all processes: replicated, or, for a sharded table, with its rows sharded in order. The
*local* form is what the mapped step takes and returns. Under ``shard_map`` it equals the global
form. Under ``pmap`` it is the part of this process only: replicated leaves unchanged, and sharded
tables [local devices, rows per device, ...].
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import numpy as np

from jaxhash.objectives import Batch, TableSharding, sharded_leaves
from jaxhash.training.state import TrainState
from jaxhash.utils.errors import UserError

#: Name of the mapped axis.
AXIS = "devices"

#: Transformation that maps the step over devices.
Mapping = Literal["pmap", "shard_map"]


class DataParallel:
    """A data-parallel training step, and the placement of states and batches for it.

    The state is donated. No leaf has a device axis in the global form, so a checkpoint can be
    restored onto any number of devices.

    Args:
        step: ``step(state, batch, axis_name=...)``, such as a partial of `train_step`; with sharded
            tables it also takes ``table_sharding``.
        devices: devices of all processes that share the batch; all devices by default.
        mapping: ``"pmap"`` or ``"shard_map"``.
        table_sharding: tables of the objective's state whose rows are sharded over the devices.
    """

    def __init__(
        self,
        step: Callable,
        devices: Sequence[jax.Device] | None = None,
        *,
        mapping: Mapping = "pmap",
        table_sharding: TableSharding = TableSharding(),  # noqa: B008
    ):
        self.devices = jax.devices() if devices is None else list(devices)
        self._local = [d for d in self.devices if d.process_index == jax.process_index()]
        # With another axis name than pmap's, the second step would compile again.
        self._mesh = jax.sharding.Mesh(np.array(self.devices), (AXIS,))
        self._local_mesh = jax.sharding.Mesh(np.array(self._local), (AXIS,))
        self._table_sharding = table_sharding
        self._step = partial(step, axis_name=AXIS)
        if table_sharding != TableSharding():
            self._step = partial(self._step, table_sharding=table_sharding)
        self._mapping = mapping
        self._mapped = None

    def replicate(self, state: TrainState) -> TrainState:
        """Brings a state that each process holds whole into the global form.

        Raises:
            UserError: if the rows of a sharded table are no multiple of the number of devices.
        """

        def put(leaf, sharded):
            if sharded and len(leaf) % len(self.devices):
                raise UserError(
                    f"a memory bank or codebook of {len(leaf):,} rows cannot be spread evenly over "
                    f"{len(self.devices)} devices; `spread_banks=never` leaves it whole on each"
                )
            sharding = _sharding(self._mesh, sharded)
            if jax.process_count() == 1:
                return jax.device_put(leaf, sharding)
            return _replicated_to_global(leaf, sharding)

        return jax.tree.map(put, state, self._sharded_leaves(state))

    def abstract(self, shapes: TrainState) -> TrainState:
        """The shapes of a state, with the shardings that `replicate` gives it."""

        def describe(leaf, spread):
            sharding = _sharding(self._mesh, spread)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(describe, shapes, self._sharded_leaves(shapes))

    def to_local(self, state: TrainState) -> TrainState:
        """Converts the global to the local form, without copying data."""
        if self._mapping == "shard_map":
            return state

        def to_local(leaf, sharded):
            parts = [shard.data[None] if sharded else shard.data for shard in self._shards(leaf)]
            shape = (len(parts), *parts[0].shape[1:]) if sharded else leaf.shape
            sharding = _sharding(self._local_mesh, sharded)
            return jax.make_array_from_single_device_arrays(shape, sharding, parts)

        return jax.tree.map(to_local, state, self._sharded_leaves(state))

    def to_global(self, state: TrainState) -> TrainState:
        """Converts the local to the global form, without copying data."""
        if self._mapping == "shard_map":
            return state

        def to_global(leaf, sharded):
            parts = [shard.data[0] if sharded else shard.data for shard in self._shards(leaf)]
            shape = parts[0].shape
            if sharded:
                shape = (len(self.devices) * shape[0], *shape[1:])
            sharding = _sharding(self._mesh, sharded)
            return jax.make_array_from_single_device_arrays(shape, sharding, parts)

        return jax.tree.map(to_global, state, self._sharded_leaves(state))

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """Takes a step.

        Args:
            state: state in the local form; it is donated.
            batch: batch from `shard_batch`.

        Returns:
            The next state in the local form, and the metrics of the whole batch, in each process.
        """
        if self._mapped is None:
            self._mapped = self._map(state)
        return self._mapped(state, batch)

    def shard_batch(self, batch: Batch) -> Batch:
        """Moves this process's rows of a batch from the host to its devices."""
        rows = split_batch(batch, len(self._local))
        if self._mapping == "pmap":
            return jax.device_put(rows, _sharding(self._local_mesh, True))
        sharding = _sharding(self._mesh, True)
        return jax.tree.map(
            lambda array: jax.make_array_from_process_local_data(
                sharding, array.reshape(-1, *array.shape[2:])
            ),
            rows,
        )

    def _map(self, state: TrainState) -> Callable:
        """Maps the step over devices, for states with the structure of this one."""
        if self._mapping == "pmap":
            return self._map_with_pmap(state)
        specs = jax.tree.map(_spec, self._sharded_leaves(state))
        mapped = jax.shard_map(
            self._step,
            mesh=self._mesh,
            in_specs=(specs, _spec(True)),
            out_specs=(specs, _spec(False)),
            check_vma=False,  # True would sum the gradients twice: see `train_step`
        )
        return jax.jit(mapped, donate_argnums=(0,))

    def _map_with_pmap(self, state: TrainState) -> Callable:
        """Maps a step on tuples of leaves, since pmap requires hashable axes."""
        tree = jax.tree.structure(state)
        sharded = jax.tree.leaves(self._sharded_leaves(state))
        axes = tuple(0 if is_sharded else None for is_sharded in sharded)

        def step_on_leaves(leaves, batch):
            state, metrics = self._step(tree.unflatten(leaves), batch)
            return tuple(jax.tree.leaves(state)), metrics

        mapped = jax.pmap(
            step_on_leaves,
            axis_name=AXIS,
            in_axes=(axes, 0),
            out_axes=(axes, None),
            donate_argnums=(0,),
            devices=self.devices,
        )

        def step(state, batch):
            leaves, metrics = mapped(tuple(jax.tree.leaves(state)), batch)
            return tree.unflatten(leaves), metrics

        return step

    def _sharded_leaves(self, state: TrainState) -> TrainState:
        """Returns, per leaf, whether its rows are sharded."""
        replicated = jax.tree.map(lambda _: False, state)
        return replicated.replace(
            objective_state=sharded_leaves(state.objective_state, self._table_sharding)
        )

    def _shards(self, leaf: jax.Array) -> list[Any]:
        """Returns the shards of an array on this process's devices, in the order of the devices."""
        shards = {shard.device: shard for shard in leaf.addressable_shards}
        return [shards[device] for device in self._local]


def _spec(sharded: bool) -> jax.sharding.PartitionSpec:
    """Returns the spec of an array with sharded rows, or of a replicated array."""
    return jax.sharding.PartitionSpec(AXIS) if sharded else jax.sharding.PartitionSpec()


def _sharding(mesh: jax.sharding.Mesh, sharded: bool) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(mesh, _spec(sharded))


def _replicated_to_global(
    leaf: jax.Array | np.ndarray, sharding: jax.sharding.Sharding
) -> jax.Array:
    """Makes a global array from a leaf that each process holds whole."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _replicated_to_global(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def split_batch(batch: Batch, devices: int) -> Batch:
    """Adds a leading device axis to a batch, after padding it with masked rows to a multiple.

    Args:
        batch: arrays [n, ...].
        devices: number of devices.

    Returns:
        Arrays [devices, rows per device, ...].

    Raises:
        ValueError: if there are fewer rows than devices.
    """
    rows = len(batch.mask)
    if rows < devices:
        raise ValueError(f"a batch of {rows} rows cannot be sharded over {devices} devices")
    padding = -rows % devices

    def pad_and_split(array):
        if padding:
            array = np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
        return array.reshape(devices, -1, *array.shape[1:])

    return jax.tree.map(pad_and_split, batch)
