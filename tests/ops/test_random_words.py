"""`random_words` draws the words of `jax.random.bits`, for any key, under any transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.ops.random_words import random_words


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 4), (0, 4), (257, 64)])
@pytest.mark.parametrize("generator", ["threefry2x32", "rbg"])
def test_words_are_those_of_jax(shape, generator):
    key = jax.random.fold_in(jax.random.key(2**40 + 3, impl=generator), 7)
    expected = jax.random.bits(key, shape, jnp.uint32)
    for draw in (random_words, jax.jit(random_words, static_argnums=1)):
        words = draw(key, shape)
        assert words.dtype == jnp.uint32
        np.testing.assert_array_equal(words, expected)


def test_old_style_keys_and_the_older_order_of_words():
    key = jax.random.PRNGKey(5)
    np.testing.assert_array_equal(
        random_words(key, (7, 3)), jax.random.bits(key, (7, 3), jnp.uint32)
    )
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(
            random_words(key, (7, 3)), jax.random.bits(key, (7, 3), jnp.uint32)
        )


def test_mapped_over_keys():
    keys = jax.random.split(jax.random.key(1), 3)
    words = jax.vmap(lambda key: random_words(key, (4, 2)))(keys)
    expected = jnp.stack([jax.random.bits(key, (4, 2), jnp.uint32) for key in keys])
    np.testing.assert_array_equal(words, expected)


def test_known_answer_of_threefry():
    # The published vectors of Random123 for the counters (0, 0), as one word of both outputs.
    key = jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32), impl="threefry2x32")
    assert int(random_words(key, (1,))[0]) == 0x6B200159 ^ 0x99BA4EFE
