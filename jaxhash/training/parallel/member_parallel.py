"""`MemberParallel`: the members of a sweep, each on one device."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from jaxhash.objectives import Batch
from jaxhash.training.parallel.data_parallel import DataParallel
from jaxhash.training.parallel.layout import put
from jaxhash.training.state import TrainState


class MemberParallel:
    """The steps of the members of a sweep, of which each device takes some, on whole batches.

    Each device has a program of its own, that of a sweep of its members on one device: a member has
    the same bits there, and devices exchange nothing. (One program over all devices rounds in other
    ways, since XLA divides its work otherwise.) Where the devices do not divide the number of
    members, copies of the last member fill up the local form, and the global form, which checkpoints
    have, is whole on each device.

    Args:
        make_step: makes the step of the members of these numbers on these devices.
        members: number of members, with the seeds of a setting side by side.
        seeds: number of seeds.
        devices: the devices; all of this process by default.
    """

    def __init__(
        self,
        make_step: Callable[[Int[np.ndarray, " some"], Sequence[jax.Device]], DataParallel],
        members: int,
        seeds: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        devices = jax.devices() if devices is None else list(devices)
        per_device = -(-members // len(devices))
        held = np.arange(per_device * len(devices)).reshape(len(devices), per_device)
        mesh = Mesh(np.array(devices), ("members",))
        self._members, self._held, self._is_compiled = members, held.size, False
        self._split = NamedSharding(mesh, PartitionSpec("members"))
        self._whole = NamedSharding(mesh, PartitionSpec())
        filled = np.minimum(held, members - 1)
        self._steps = [
            make_step(numbers, [device]) for numbers, device in zip(filled, devices, strict=True)
        ]
        self._seeds = held[:, :seeds] % seeds  # of consecutive members
        self._fill = jax.jit(
            lambda tree: jax.tree.map(lambda leaf: leaf[jnp.asarray(filled.ravel())], tree),
            out_shardings=self._split,
        )
        self._cut = jax.jit(
            lambda tree: jax.tree.map(lambda leaf: leaf[:members], tree), out_shardings=self._whole
        )

    def replicate(self, state: TrainState) -> TrainState:
        """Brings a state of all members into the global form, [members, ...]."""
        sharding = self._split if self._held == self._members else self._whole
        return jax.tree.map(lambda leaf: put(leaf, sharding), state)

    def to_local(self, state: TrainState) -> list[TrainState]:
        """Converts the global to the local form: the state of the members of each device."""
        filled = state if self._held == self._members else self._fill(state)
        shards = jax.tree.map(
            lambda leaf: {s.device: s.data for s in leaf.addressable_shards}, filled
        )
        local = []
        for step in self._steps:
            [device] = step.devices
            own = jax.tree.map(lambda _, parts, device=device: parts[device], filled, shards)
            local.append(step.to_local(step.replicate(own)))
        return local

    def to_global(self, states: list[TrainState]) -> TrainState:
        """Converts the local to the global form."""
        pairs = zip(self._steps, states, strict=True)
        return self._joined([step.to_global(state) for step, state in pairs])

    def __call__(
        self, states: list[TrainState], batches: list[Batch]
    ) -> tuple[list[TrainState], dict[str, Any]]:
        """Takes a step.

        Args:
            states: states in the local form; they are donated.
            batches: batches from `shard_batch`.

        Returns:
            The next states in the local form, and each metric of all members.
        """
        if self._is_compiled:
            taken = list(map(DataParallel.__call__, self._steps, states, batches))
        else:  # each device compiles its program, all at once
            with ThreadPoolExecutor(len(self._steps)) as threads:
                taken = list(threads.map(DataParallel.__call__, self._steps, states, batches))
            self._is_compiled = True
        return [state for state, _ in taken], self._joined([metrics for _, metrics in taken])

    def shard_batch(self, batch: Batch) -> list[Batch]:
        """Moves the batches of all seeds, [rows, seeds, ...], to the devices whose members use them."""
        return [
            step.shard_batch(jax.tree.map(lambda array, seeds=seeds: array[:, seeds], batch))
            for step, seeds in zip(self._steps, self._seeds, strict=True)
        ]

    def _joined(self, parts: Sequence[PyTree]) -> PyTree:
        """Joins arrays of the members of each device to arrays of all members, without a copy if it can."""

        def join(*arrays):
            shape = (self._held, *arrays[0].shape[1:])
            data = [array.addressable_data(0) for array in arrays]
            return jax.make_array_from_single_device_arrays(shape, self._split, data)

        joined = jax.tree.map(join, *parts)
        return joined if self._held == self._members else self._cut(joined)
