"""Gradient caching (GradCache): micro-batches with the loss and the gradient of the whole batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, PyTree, Shaped

from jaxhash.ops.meshes import row_groups


def gradient_cache(
    encode: Callable[[Int[Array, ""], PyTree], PyTree],
    rows: PyTree[Shaped[Array, "n ..."]],
    micro_batch_size: int,
) -> PyTree[Shaped[Array, "n ..."]]:
    """Encodes rows one micro-batch at a time, and keeps the activations of at most one micro-batch.

    The loss is computed from all codes together, and the gradient is that of this loss; it is not a
    mean over losses of small batches. In the backward pass each micro-batch is encoded once more,
    and its part of the gradient is added to that of the parameters. The price is one more forward
    pass. (XLA's convolutions on a CPU are many times slower in a loop, and this is a loop.)

    Args:
        encode: function from the index of a micro-batch, from 0, and its rows to its codes.
        rows: arrays with a leading axis of n rows. The last micro-batch is padded with zeros.
        micro_batch_size: number of rows of a micro-batch; where an ambient mesh spreads the rows, those
            that each device adds to it.

    Returns:
        The codes of all n rows.

    Example:
        >>> rows = jnp.arange(5.0)
        >>> square = lambda number, chunk: chunk**2
        >>> gradient_cache(square, rows, 2).tolist()
        [0.0, 1.0, 4.0, 9.0, 16.0]
        >>> jax.grad(lambda x: gradient_cache(square, x, 2).sum() ** 2)(rows).tolist()  # 2 (sum) 2 x
        [0.0, 120.0, 240.0, 360.0, 480.0]

    Reference:
        Gao, Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
        Setup", RepL4NLP 2021.
    """
    n = len(jax.tree.leaves(rows)[0])
    groups = row_groups(n)
    n //= groups
    count = -(-n // micro_batch_size)

    def split(array):
        shape = array.shape[1:]
        array = jnp.asarray(array).reshape(groups, n, *shape)
        padding = ((0, 0), (0, count * micro_batch_size - n), *((0, 0),) * len(shape))
        array = jnp.pad(array, padding).reshape(groups, count, micro_batch_size, *shape)
        return jnp.moveaxis(array, 0, 1).reshape(count, groups * micro_batch_size, *shape)

    def merge(array):
        shape = array.shape[2:]
        array = jnp.moveaxis(array.reshape(count, groups, micro_batch_size, *shape), 0, 1)
        array = array.reshape(groups, count * micro_batch_size, *shape)[:, :n]
        return array.reshape(groups * n, *shape)

    checkpointed = jax.checkpoint(encode)
    micro_batches = (jnp.arange(count), jax.tree.map(split, rows))
    codes = lax.map(lambda numbered: checkpointed(*numbered), micro_batches)
    return jax.tree.map(merge, codes)
