"""Random words of 32 bits: those of `jax.random.bits`, by a program that a CPU runs in one piece."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, Shaped, UInt32

#: Rotations of the rounds of Threefry-2x32; groups of four rounds take the two rows in turn.
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
#: The parity constant of Threefish, from which the third word of the key is made.
_PARITY = np.uint32(0x1BD11BDA)


def random_words(
    key: Key[Array, ""] | Shaped[Array, "2"], shape: Sequence[int]
) -> UInt32[Array, "..."]:
    """Draws words of 32 random bits; each equals that of ``jax.random.bits(key, shape, jnp.uint32)``.

    On a CPU JAX runs Threefry's rounds in a loop of small kernels, and starting them takes longer than
    the arithmetic. Here the 20 rounds are written out, and XLA fuses them with what reads the words.
    Keys of other generators, or the order of words before ``jax_threefry_partitionable``, are left to JAX.

    Args:
        key: random key.
        shape: shape of the result.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((random_words(key, (3, 2)) == jax.random.bits(key, (3, 2), jnp.uint32)).all())
        True

    Reference:
        Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Word i is
        the sum modulo 2 of the two outputs for the counter (0, i).
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    generator = str(jax.random.key_impl(key)) if typed else jax.config.jax_default_prng_impl
    if (
        generator != "threefry2x32"
        or not jax.config.jax_threefry_partitionable
        or math.prod(shape) >= 2**32
    ):
        return jax.random.bits(key, shape, jnp.uint32)
    first, second = jax.random.key_data(key) if typed else key
    keys = first, second, first ^ second ^ _PARITY
    counter = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    x, y = keys[0], counter + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ (y << rotation | y >> 32 - rotation)
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x ^ y
