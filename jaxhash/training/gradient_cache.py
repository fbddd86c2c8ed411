"""A large batch through the network in chunks, with the loss and the gradient of the whole."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, PyTree, Shaped


def gradient_cache(
    encode: Callable[[Int[Array, ""], PyTree], PyTree],
    rows: PyTree[Shaped[Array, "n ..."]],
    micro_batch_size: int,
) -> PyTree[Shaped[Array, "n ..."]]:
    """Encode rows a chunk at a time; no more than a chunk's activations are ever held.

    The loss is that of all codes together, and so is their gradient. In the backward pass each chunk
    is encoded once more and hands its part of that gradient on to the parameters, whose gradients
    add up: this is GradCache, and not the mean of the losses of small batches. It costs one more
    forward pass. (On a CPU, XLA's convolutions are many times slower in a loop, and this is one.)

    Args:
        encode: from the number of a chunk, from 0, and its rows to its codes.
        rows: what is encoded. The last chunk is filled up with zeros.
        micro_batch_size: rows of a chunk.

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
    chunks = -(-n // micro_batch_size)

    def cut(array):
        array = jnp.asarray(array)
        missing = jnp.zeros((chunks * micro_batch_size - n, *array.shape[1:]), array.dtype)
        return jnp.concatenate([array, missing]).reshape(chunks, micro_batch_size, *array.shape[1:])

    of_chunk = jax.checkpoint(encode)
    codes = lax.map(lambda chunk: of_chunk(*chunk), (jnp.arange(chunks), jax.tree.map(cut, rows)))
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:n], codes)
