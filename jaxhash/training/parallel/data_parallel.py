"""`DataParallel`: a step over devices, and the placement of states and batches for it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import PartitionSpec

from jaxhash.objectives import Batch, TableSharding
from jaxhash.training.parallel.class_tables import place_for_classes
from jaxhash.training.parallel.gathered import with_gathered_params
from jaxhash.training.parallel.layout import (
    AXIS,
    Layout,
    describe,
    global_mesh,
    mapped_mesh,
    put,
)
from jaxhash.training.parallel.programs import PmapProgram, jit_program, shard_map_program
from jaxhash.training.state import TrainState
from jaxhash.utils.errors import UserError

#: What spreads the step over devices.
Mapping = Literal["pmap", "shard_map", "jit"]


class DataParallel:
    """A data-parallel training step, and the placement of states and batches for it.

    The state is donated. No leaf has a device axis in the global form, so a checkpoint can be
    restored onto any number of devices.

    Args:
        step: ``step(state, batch, axis_name=...)``, such as a partial of `train_step`; with sharded
            tables it also takes ``table_sharding``.
        devices: devices of all processes that share the batch; all devices by default.
        mapping: ``"pmap"`` or ``"shard_map"``, which map the step of one device; or ``"jit"``,
            where the step sees the whole batch and the compiler spreads it.
        table_sharding: tables of the objective's state whose rows are sharded over the devices.
        shard_params: whether parameters and optimizer state are sharded over the devices, see
            `Layout`; for ``"jit"`` only. The step then also takes ``gathered``, as `train_step` does.
        remat: whether the model computes its blocks again in the backward pass, which sharded
            parameters must know: see `with_gathered_params`.
        model_parallel: number of devices over which tables of classes are spread; for ``"jit"`` only.
            With more than 1 the step also takes ``place_rows``, as `train_step` does.
        class_axes: the axis of the classes in each leaf of a state, from `find_class_axes`.

    Raises:
        UserError: if ``model_parallel`` does not divide the number of devices.
    """

    def __init__(
        self,
        step: Callable,
        devices: Sequence[jax.Device] | None = None,
        *,
        mapping: Mapping = "pmap",
        table_sharding: TableSharding = TableSharding(),  # noqa: B008
        shard_params: bool = False,
        remat: bool = False,
        model_parallel: int = 1,
        class_axes: TrainState | None = None,
    ):
        self.devices = jax.devices() if devices is None else list(devices)
        own = jax.local_devices()[0].process_index  # not jax's: see `as_single_process`
        self._local = [d for d in self.devices if d.process_index == own]
        self._mapping = mapping
        if mapping == "jit":
            mesh = global_mesh(self.devices, model_parallel)
        else:
            # With another axis name than pmap's, the second step would compile again.
            mesh = mapped_mesh(self.devices)
            step = partial(step, axis_name=AXIS)
        self._layout = Layout(mesh, table_sharding, shard_params, class_axes)
        if table_sharding != TableSharding():
            step = partial(step, table_sharding=table_sharding)
        if shard_params:
            gathered = partial(with_gathered_params, layout=self._layout, remat=remat)
            step = partial(step, gathered=gathered)
        if model_parallel > 1:
            step = partial(step, place_rows=partial(place_for_classes, layout=self._layout))
        self._step = step
        self._program = None

    def replicate(self, state: TrainState) -> TrainState:
        """Brings a state that each process holds whole into the global form.

        Raises:
            UserError: if the rows of a sharded table are no multiple of the number of devices.
        """
        self._check_tables(state)
        return jax.tree.map(put, state, self._layout.shardings(state))

    def abstract(self, shapes: TrainState) -> TrainState:
        """The shapes of a state, with the shardings that `replicate` gives it."""
        return jax.tree.map(describe, shapes, self._layout.shardings(shapes))

    def shardings(self, shapes: TrainState) -> TrainState:
        """The shardings that `replicate` gives the leaves of a state of these shapes."""
        return self._layout.shardings(shapes)

    def to_local(self, state: TrainState) -> TrainState:
        """Converts the global to the local form, without copying data."""
        if self._mapping != "pmap":
            return state
        layout = Layout(mapped_mesh(self._local))

        def to_local(leaf, is_table):
            parts = [shard.data[None] if is_table else shard.data for shard in self._shards(leaf)]
            shape = (len(parts), *parts[0].shape[1:]) if is_table else leaf.shape
            sharding = layout.sharding(layout.rows if is_table else PartitionSpec())
            return jax.make_array_from_single_device_arrays(shape, sharding, parts)

        return jax.tree.map(to_local, state, self._layout.sharded_tables(state))

    def to_global(self, state: TrainState) -> TrainState:
        """Converts the local to the global form, without copying data."""
        if self._mapping != "pmap":
            return state

        def to_global(leaf, is_table):
            parts = [shard.data[0] if is_table else shard.data for shard in self._shards(leaf)]
            shape = parts[0].shape
            if is_table:
                shape = (len(self.devices) * shape[0], *shape[1:])
            sharding = self._layout.sharding(self._layout.rows if is_table else PartitionSpec())
            return jax.make_array_from_single_device_arrays(shape, sharding, parts)

        return jax.tree.map(to_global, state, self._layout.sharded_tables(state))

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """Takes a step.

        Args:
            state: state in the local form; it is donated.
            batch: batch from `shard_batch`.

        Returns:
            The next state in the local form, and the metrics of the whole batch, in each process.
        """
        if self._program is None:
            self._program = self._make_program(state)
        return self._program(state, batch)

    def shard_batch(self, batch: Batch) -> Batch:
        """Moves this process's rows of a batch from the host to its devices."""
        rows = split_batch(batch, len(self._local))
        if self._mapping == "pmap":
            layout = Layout(mapped_mesh(self._local))
            return jax.device_put(rows, layout.sharding(layout.rows))
        sharding = self._layout.sharding(self._layout.rows)
        return jax.tree.map(
            lambda array: jax.make_array_from_process_local_data(
                sharding, array.reshape(-1, *array.shape[2:])
            ),
            rows,
        )

    def abstract_batch(self, shapes: Batch) -> Batch:
        """The shapes of a batch as `shard_batch` makes them in a job of one process.

        Args:
            shapes: shapes [n, ...] of the batch of all processes.

        Raises:
            UserError: if there are fewer rows than devices, or the rows of hosts differ in number.
        """
        rows, devices = shapes.mask.shape[0], len(self.devices)
        hosts = len({device.process_index for device in self.devices})
        if rows < devices or rows % hosts:
            raise UserError(
                f"`batch_size={rows}` cannot be spread over {devices} devices of {hosts} hosts: it must "
                f"be divisible by {devices}, or above that by {hosts} and is padded"
            )
        per_device = -(-rows // devices)
        leading = (devices, per_device) if self._mapping == "pmap" else (devices * per_device,)
        sharding = self._layout.sharding(self._layout.rows)
        return jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(
                (*leading, *array.shape[1:]), array.dtype, sharding=sharding
            ),
            shapes,
        )

    def lower(self, state: TrainState, batch: Batch) -> jax.stages.Lowered:
        """Lowers the very step that a call takes; nothing is computed or moved.

        The devices may be descriptions from `jax.experimental.topologies`, those of all hosts, if
        their compiler is on this machine. The job has one process.

        Args:
            state: shapes of a state in the global form.
            batch: shapes [n, ...] of the batch of all processes.

        Raises:
            UserError: if the batch, or the rows of a sharded table, cannot be spread evenly.
        """
        self._check_tables(state)
        batch, program = self.abstract_batch(batch), self._make_program(state)
        if self._mapping != "pmap":
            return program.lower(self.abstract(state), batch)

        def to_local(leaf, is_table):
            if is_table:
                shape = (len(self.devices), len(leaf) // len(self.devices), *leaf.shape[1:])
                return jax.ShapeDtypeStruct(shape, leaf.dtype)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

        return program.lower(
            jax.tree.map(to_local, state, self._layout.sharded_tables(state)), batch
        )

    def _make_program(self, state: TrainState) -> Callable:
        """Maps the step over devices, for states with the structure of this one."""
        programs = {"pmap": PmapProgram, "shard_map": shard_map_program, "jit": jit_program}
        return programs[self._mapping](self._step, self._layout, state)

    def _check_tables(self, state: TrainState) -> None:
        """Raises a `UserError` if a sharded table cannot be spread evenly."""

        def check(leaf, is_table):
            if is_table and len(leaf) % len(self.devices):
                raise UserError(
                    f"a memory bank or codebook of {len(leaf):,} rows cannot be spread evenly over "
                    f"{len(self.devices)} devices; `spread_banks=never` leaves it whole on each"
                )

        jax.tree.map(check, state, self._layout.sharded_tables(state))

    def _shards(self, leaf: jax.Array) -> list[Any]:
        """Returns the shards of an array on this process's devices, in the order of the devices."""
        shards = {shard.device: shard for shard in leaf.addressable_shards}
        return [shards[device] for device in self._local]


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
