"""The lift of the step over the devices of all processes. No other file knows pmap and shard_map.

A state is known in two forms. In the *global* form, that of checkpoints, each leaf is one array over
the devices of all processes: whole on each of them, or, of a spread table, its rows in order. The
*mapped* form is what a lift's step takes and leaves. Under ``shard_map`` it is the global one. Under
``pmap`` it is this process's part alone: whole leaves as they are, and of a table the rows of each
local device along a leading axis.
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

#: How the step is mapped over devices.
Mapping = Literal["pmap", "shard_map"]


class DataParallel:
    """The step over all devices, each with its share of the batch, and states brought there.

    The state is donated. No leaf has a device axis in the global form, so a checkpoint can be
    restored onto any number of devices.

    Args:
        step: ``step(state, batch, axis_name=...)``, such as a partial of `train_step`; where tables
            are spread, it takes ``spread`` too.
        devices: devices that share the batch, of all processes; all there are if not given.
        mapping: ``"pmap"`` or ``"shard_map"``.
        spread: which tables of the objective's state have their rows spread over the devices.
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
        # The axis of the mesh has pmap's name: under another, the second step would compile again.
        self._mesh = jax.sharding.Mesh(np.array(self.devices), (AXIS,))
        self._local_mesh = jax.sharding.Mesh(np.array(self._local), (AXIS,))
        self._table_sharding = table_sharding
        self._step = partial(step, axis_name=AXIS)
        if table_sharding != TableSharding():
            self._step = partial(self._step, table_sharding=table_sharding)
        self._mapping = mapping
        self._mapped = None

    def replicate(self, state: TrainState) -> TrainState:
        """A state that each process holds whole, in the global form.

        Raises:
            UserError: if the rows of a table cannot be spread over so many devices.
        """

        def put(leaf, spread):
            if spread and len(leaf) % len(self.devices):
                raise UserError(
                    f"a memory bank or codebook of {len(leaf):,} rows cannot be spread evenly over "
                    f"{len(self.devices)} devices; --spread-banks never leaves it whole on each"
                )
            sharding = _sharding(self._mesh, spread)
            if jax.process_count() == 1:
                return jax.device_put(leaf, sharding)
            return _from_each_process(leaf, sharding)

        return jax.tree.map(put, state, self._sharded_leaves(state))

    def abstract(self, shapes: TrainState) -> TrainState:
        """The shapes of a state, with the shardings that `replicate` gives it."""

        def describe(leaf, spread):
            sharding = _sharding(self._mesh, spread)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(describe, shapes, self._sharded_leaves(shapes))

    def to_local(self, state: TrainState) -> TrainState:
        """From the global to the mapped form; no data are copied."""
        if self._mapping == "shard_map":
            return state

        def to_local(leaf, spread):
            parts = [shard.data[None] if spread else shard.data for shard in self._shards(leaf)]
            shape = (len(parts), *parts[0].shape[1:]) if spread else leaf.shape
            sharding = _sharding(self._local_mesh, spread)
            return jax.make_array_from_single_device_arrays(shape, sharding, parts)

        return jax.tree.map(to_local, state, self._sharded_leaves(state))

    def to_global(self, state: TrainState) -> TrainState:
        """From the mapped to the global form."""
        if self._mapping == "shard_map":
            return state

        def to_global(leaf, spread):
            parts = [shard.data[0] if spread else shard.data for shard in self._shards(leaf)]
            shape = parts[0].shape
            if spread:
                shape = (len(self.devices) * shape[0], *shape[1:])
            sharding = _sharding(self._mesh, spread)
            return jax.make_array_from_single_device_arrays(shape, sharding, parts)

        return jax.tree.map(to_global, state, self._sharded_leaves(state))

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """One step from a state in the mapped form and a batch that `shard_batch` put onto the devices.

        The metrics are those of the whole batch, and each process has them.
        """
        if self._mapped is None:
            self._mapped = self._map(state)
        return self._mapped(state, batch)

    def shard_batch(self, batch: Batch) -> Batch:
        """This process's rows of a batch, from the host onto its devices."""
        rows = split(batch, len(self._local))
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
        """The step, mapped for states like this one."""
        if self._mapping == "pmap":
            return self._by_pmap(state)
        specs = jax.tree.map(_spec, self._sharded_leaves(state))
        mapped = jax.shard_map(
            self._step,
            mesh=self._mesh,
            in_specs=(specs, _spec(True)),
            out_specs=(specs, _spec(False)),
            check_vma=False,  # else the gradients would be summed twice: see `train_step`
        )
        return jax.jit(mapped, donate_argnums=(0,))

    def _by_pmap(self, state: TrainState) -> Callable:
        """The leaves go in and out as a tuple: pmap wants axes that can be hashed."""
        tree = jax.tree.structure(state)
        spread = jax.tree.leaves(self._sharded_leaves(state))
        axes = tuple(0 if is_spread else None for is_spread in spread)

        def of_leaves(leaves, batch):
            state, metrics = self._step(tree.unflatten(leaves), batch)
            return tuple(jax.tree.leaves(state)), metrics

        mapped = jax.pmap(
            of_leaves,
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
        """Of each leaf whether its rows are spread."""
        none = jax.tree.map(lambda _: False, state)
        return none.replace(
            objective_state=sharded_leaves(state.objective_state, self._table_sharding)
        )

    def _shards(self, leaf: jax.Array) -> list[Any]:
        """The parts of an array on this process's devices, in the order of the devices."""
        on = {shard.device: shard for shard in leaf.addressable_shards}
        return [on[device] for device in self._local]


def _spec(spread: bool) -> jax.sharding.PartitionSpec:
    """Rows on all devices, or the whole on each."""
    return jax.sharding.PartitionSpec(AXIS) if spread else jax.sharding.PartitionSpec()


def _sharding(mesh: jax.sharding.Mesh, spread: bool) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(mesh, _spec(spread))


def _from_each_process(leaf: jax.Array | np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """An array over the devices of all processes, of which each holds the whole."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _from_each_process(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def split(batch: Batch, parts: int) -> Batch:
    """The batch with a leading device axis, padded with masked rows up to a multiple of ``parts``.

    Raises:
        ValueError: if there are fewer rows than parts.
    """
    rows = len(batch.mask)
    if rows < parts:
        raise ValueError(f"a batch of {rows} cannot be spread over {parts} devices")
    missing = -rows % parts

    def spread(array):
        if missing:
            array = np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
        return array.reshape(parts, -1, *array.shape[1:])

    return jax.tree.map(spread, batch)
