"""The lift of the step over devices. No other file knows `jax.pmap`."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import PyTree

from jaxhash.objectives import Batch

#: Name of the mapped axis.
AXIS = "devices"


def data_parallel(step: Callable, devices: Sequence[jax.Device]) -> Callable:
    """The step over all devices: each holds the whole state and its share of the batch.

    The state is donated. It has no device axis, before or after, so checkpoints need no unpacking.

    Args:
        step: ``step(state, batch, axis_name=...)``, such as a partial of `train_step`.
        devices: devices that share the batch.

    Returns:
        ``lifted(state, batch)`` for a state from `replicate` and a whole batch on the host.
    """
    mapped = jax.pmap(
        partial(step, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=(0,),
        devices=devices,
    )
    return lambda state, batch: mapped(state, split(batch, len(devices)))


def replicate(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """The tree whole on each device, placed as the lifted step leaves it.

    The axis of the mesh has pmap's name: under another, the second step would compile again.
    """
    mesh = jax.sharding.Mesh(np.array(devices), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


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
