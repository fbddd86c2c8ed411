"""The fixed center of each class: a table, or the formula of very many."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int8, UInt32

from jaxhash.objectives._base import Batch, Context, Setup
from jaxhash.objectives._tables import ClassTable, look_up, pad_rows
from jaxhash.ops.class_blocks import are_many
from jaxhash.ops.codebooks import LinearCodebook, codebook, linear_codebook
from jaxhash.similarity import UNLABELLED


class RandomCodebook(NamedTuple):
    """A fair sign of each class and bit, by formula: nothing is held of a class."""

    keys: UInt32[Array, "bits 2"]
    """A key of Threefry for each bit, which the class id is folded into."""
    classes: Int[Array, ""]
    """Number of the classes."""

    def codes_of(self, labels: Int[Array, " n"]) -> Float[Array, "n bits"]:
        """Computes the codes of class ids, as `LinearCodebook.codes_of` does."""

        def is_negative(key, label):
            key = jax.random.fold_in(jax.random.wrap_key_data(key, impl="threefry2x32"), label)
            return jax.random.key_data(key)[0] >> 31

        of_bits = jax.vmap(is_negative, (0, None))
        codes = 1.0 - 2.0 * jax.vmap(of_bits, (None, 0))(self.keys, labels).astype(jnp.float32)
        missing = jnp.where(labels == UNLABELLED, 0.0, jnp.nan)
        known = (labels >= 0) & (labels < self.classes)
        return jnp.where(known[:, None], codes, missing[:, None])


def random_signs(seed: int, *shape: int) -> Int8[np.ndarray, "..."]:
    """Draws fair signs, the same on all devices and in all runs with a seed."""
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), shape)


def random_codebook(setup: Setup, seed: int) -> RandomCodebook:
    """Returns the formula of fair signs of very many classes."""
    keys = np.random.default_rng(seed).integers(2**32, size=(setup.bits, 2), dtype=np.uint32)
    return RandomCodebook(jnp.asarray(keys), jnp.int32(setup.classes))


def class_codebook(setup: Setup, seed: int) -> ClassTable | LinearCodebook:
    """Returns the codewords of the classes; the formula of very many, where a row has one label."""
    if are_many(setup.classes) and not setup.multi_label:
        return linear_codebook(setup.classes, setup.bits, seed=seed)
    return class_table(codebook(setup.classes, setup.bits, seed=seed).codes, setup)


def class_table(codes: Int8[np.ndarray, "classes bits"], setup: Setup) -> ClassTable:
    """Returns the codes as a table, padded where tables of classes are sharded."""
    return ClassTable(pad_rows(jnp.asarray(codes), setup.table_sharding.classes))


def sum_of_centers(
    centers: ClassTable | LinearCodebook | RandomCodebook, batch: Batch, context: Context
) -> Float[Array, "n bits"]:
    """Returns, per row, the sum of the centers of its classes."""
    if isinstance(centers, LinearCodebook | RandomCodebook):
        return centers.codes_of(jnp.asarray(batch.labels))
    return look_up(centers, batch.labels, context)
