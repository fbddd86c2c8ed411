"""Encode a set of items with a trained model."""

from collections.abc import Callable, Iterable

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, PyTree, Shaped

from jaxhash.objectives import Batch
from jaxhash.training.distributed import allgather
from jaxhash.training.stop import raise_if_stop_requested


def make_encoder(model: nn.Module) -> Callable[[PyTree, Iterable[Batch]], np.ndarray]:
    """A function from the model's variables and batches to real-valued codes.

    It is compiled once for batches of one shape, whatever the variables, and places the variables on
    the devices once a call. Rows that are padding are left out, so the codes are those of the items,
    in their order. The batches are spread over the local devices where their size is a multiple of
    the number. Each of several processes encodes its own rows of each batch, and has the codes of all.
    """
    apply = jax.jit(lambda variables, inputs: model.apply(variables, inputs, train=False))

    def encode(variables: PyTree, batches: Iterable[Batch]) -> Float[np.ndarray, "n bits"]:
        if jax.process_count() > 1:  # they may lie on the devices of all
            variables = jax.device_get(variables)
        codes, masks, placed = [], [], {}
        for batch in batches:
            raise_if_stop_requested()
            whole, rows = _shardings(len(batch.mask))
            if whole not in placed:
                placed[whole] = jax.device_put(variables, whole)
            batch_codes = apply(placed[whole], jax.device_put(batch.inputs, rows))
            codes.append(np.asarray(batch_codes))
            masks.append(batch.mask)
        codes, mask = (_in_order(allgather(np.stack(rows))) for rows in (codes, masks))
        return codes[mask]

    return encode


def _in_order(rows: Shaped[np.ndarray, "processes batches n ..."]) -> Shaped[np.ndarray, "m ..."]:
    """The rows of all batches, of which each process had a part in the order of the processes."""
    return np.moveaxis(rows, 0, 1).reshape(-1, *rows.shape[3:])


def _shardings(rows: int) -> tuple[jax.sharding.Sharding, jax.sharding.Sharding]:
    """Where variables and inputs go: over all local devices if they can share the rows, or one."""
    devices = jax.local_devices()
    mesh = jax.sharding.Mesh(devices if rows % len(devices) == 0 else devices[:1], ("devices",))
    return tuple(
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axis))
        for axis in ((), ("devices",))
    )
