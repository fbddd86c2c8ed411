"""Encodes a set of items with a trained model."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import ArrayLike, Float, PyTree, Shaped

from jaxhash.objectives import Batch
from jaxhash.training.distributed import allgather, fetch
from jaxhash.training.stop import raise_if_stop_requested

#: Batches whose codes the processes exchange at a time.
_BATCHES = 32


def make_encoder(model: nn.Module) -> Callable[[PyTree, Iterable[Batch]], np.ndarray]:
    """Returns a function from the model's variables and batches to all codes, by `make_block_encoder`."""
    encode_blocks = make_block_encoder(model)

    def encode(variables: PyTree, batches: Iterable[Batch]) -> PyTree[Float[np.ndarray, "n bits"]]:
        blocks = list(encode_blocks(variables, batches))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)

    return encode


def make_block_encoder(
    model: nn.Module,
) -> Callable[[PyTree, Iterable[Batch]], Iterator[PyTree[np.ndarray]]]:
    """Returns a function from the model's variables and batches to real-valued codes, block by block.

    A model whose codes are a tuple, of several modalities, has a tuple of arrays.

    The function is compiled once for batches of one shape and any variables. It places the
    variables on the devices once a call and spreads a batch over the local devices where their
    number divides the batch size. Padded rows are left out, so the codes are those of the items, in
    order. In a job of several processes each process encodes its own rows of each batch, and every
    process yields the codes of all rows.
    """
    apply = jax.jit(lambda variables, inputs: model.apply(variables, inputs, train=False))

    def encode_blocks(
        variables: PyTree, batches: Iterable[Batch]
    ) -> Iterator[PyTree[Float[np.ndarray, "n bits"]]]:
        if jax.process_count() > 1:  # the variables may lie on the devices of all processes
            variables = fetch(variables)
        codes, placed = [], {}
        for batch in batches:
            raise_if_stop_requested()
            replicated, by_rows = local_shardings(len(batch.mask))
            if replicated not in placed:
                placed[replicated] = jax.tree.map(partial(_place, replicated), variables)
            batch_codes = apply(placed[replicated], jax.device_put(batch.inputs, by_rows))
            codes.append((batch.mask, jax.tree.map(np.asarray, batch_codes)))
            if len(codes) == _BATCHES:
                yield _held_rows(codes)
                codes = []
        if codes:
            yield _held_rows(codes)

    return encode_blocks


def _held_rows(batches: list[tuple[np.ndarray, PyTree]]) -> PyTree[Float[np.ndarray, "m bits"]]:
    """Returns the codes of all processes, given masks and codes of some batches, without padding."""
    mask, codes = jax.tree.map(lambda *parts: _all_rows(*parts), *batches)
    return jax.tree.map(lambda rows: rows[mask], codes)


def _place(sharding: jax.sharding.Sharding, leaf: Shaped[ArrayLike, "..."]) -> jax.Array:
    """Replicates a variable, unless it is sharded over the same devices: it may be too large."""
    is_spread = isinstance(leaf, jax.Array) and not leaf.is_fully_replicated
    if is_spread and leaf.sharding.device_set == sharding.device_set:
        return leaf
    return jax.device_put(leaf, sharding)


def _all_rows(*batches: Shaped[np.ndarray, "rows ..."]) -> Shaped[np.ndarray, "m ..."]:
    """Returns the rows of all batches of all processes."""
    return _merge_processes(allgather(np.stack(batches)))


def _merge_processes(
    rows: Shaped[np.ndarray, "processes batches n ..."],
) -> Shaped[np.ndarray, "m ..."]:
    """Concatenates the rows of all batches; within a batch the processes follow one another."""
    return np.moveaxis(rows, 0, 1).reshape(-1, *rows.shape[3:])


def local_shardings(rows: int) -> tuple[jax.sharding.Sharding, jax.sharding.Sharding]:
    """Returns shardings of variables and of inputs: over all local devices if they divide the rows."""
    devices = jax.local_devices()
    mesh = jax.sharding.Mesh(devices if rows % len(devices) == 0 else devices[:1], ("devices",))
    return tuple(
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axis))
        for axis in ((), ("devices",))
    )
