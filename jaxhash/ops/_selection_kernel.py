"""The search of `jaxhash.ops.selection` as one Pallas kernel (Triton), for NVIDIA GPUs.

XLA runs a search of seven rounds as about thirty small kernels, and reads the condition of the loop
on the host in each round. Here one program searches a column from the first round to the last: its
keys, 256 KiB at 65,536 rows, are read from the L2 cache in tiles, once per round. A round divides
the bracket into four equal ranges of integers, so 16 rounds settle every column for any values. The
caller orders rows whose key equals the threshold.

The tests compare it with the plain form in Pallas's interpreter, which also runs it where there is
no GPU, and lower it to Triton. It has not run on a GPU yet, so it is not the default and no speed is
claimed.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Int

from jaxhash.ops._bracket import Bracket, is_settled, narrow

#: Keys per load.
TILE = 2048


def search_in_kernel(keys: Int[Array, "n columns"], m: Int[Array, "1 columns"]) -> Bracket:
    """Returns the settled bracket of each column; masked keys are the least integer of their type."""
    least = jnp.iinfo(keys.dtype).min
    rows, columns = keys.shape
    tile = min(TILE, pl.next_power_of_2(rows))
    padded = jnp.pad(keys.astype(jnp.int32).T, ((0, 0), (0, -rows % tile)), constant_values=least)
    ends = (least, jnp.iinfo(keys.dtype).max)

    def kernel(keys_ref, m_ref, *bracket_refs):
        m = m_ref[0]

        def count_above(thresholds):
            def add_tile(index, counts):
                block = keys_ref[0, pl.ds(index * tile, tile)]
                return tuple(
                    count + jnp.sum((block > threshold).astype(jnp.int32))
                    for count, threshold in zip(counts, thresholds, strict=True)
                )

            zeros = (jnp.int32(0),) * len(thresholds)
            return lax.fori_loop(0, padded.shape[1] // tile, add_tile, zeros)

        def next_round(bracket):
            middle = _midpoint(bracket.low, bracket.high)
            thresholds = (
                _midpoint(bracket.low, middle),
                middle,
                _midpoint(middle, bracket.high),
            )
            counts = count_above(thresholds)
            return narrow(bracket, m, zip(thresholds, counts, strict=True))

        start = Bracket(*(jnp.int32(value) for value in (*ends, padded.shape[1], 0)))
        bracket = lax.while_loop(lambda bracket: ~is_settled(bracket, m), next_round, start)
        for ref, value in zip(bracket_refs, bracket, strict=True):
            ref[0] = value

    column = pl.BlockSpec((1,), lambda index: (index,))
    call = pl.pallas_call(
        kernel,
        grid=(columns,),
        in_specs=[pl.BlockSpec((1, padded.shape[1]), lambda index: (index, 0)), column],
        out_specs=[column] * 4,
        out_shape=[jax.ShapeDtypeStruct((columns,), jnp.int32)] * 4,
        compiler_params=triton.CompilerParams(num_warps=8),
        interpret=jax.default_backend() != "gpu",
    )
    return Bracket(*(row[None] for row in call(padded, m[0])))


def _midpoint(low: Int[Array, ""], high: Int[Array, ""]) -> Int[Array, ""]:
    """Returns the mean of two integers, rounded down, without overflow of their sum."""
    return (low & high) + ((low ^ high) >> 1)
