"""The fixed center of each class: a table, or the formula of very many."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8

from jaxhash.objectives._base import Batch, Context, Setup
from jaxhash.objectives._tables import ClassTable, look_up, pad_rows
from jaxhash.ops.class_blocks import are_many
from jaxhash.ops.codebooks import LinearCodebook, codebook, linear_codebook


def random_signs(seed: int, *shape: int) -> Int8[np.ndarray, "..."]:
    """Draws fair signs, the same on all devices and in all runs with a seed."""
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), shape)


def class_codebook(setup: Setup, seed: int) -> ClassTable | LinearCodebook:
    """Returns the codewords of the classes; the formula of very many, where a row has one label."""
    if are_many(setup.classes) and not setup.multi_label:
        return linear_codebook(setup.classes, setup.bits, seed=seed)
    return class_table(codebook(setup.classes, setup.bits, seed=seed).codes, setup)


def class_table(codes: Int8[np.ndarray, "classes bits"], setup: Setup) -> ClassTable:
    """Returns the codes as a table, padded where tables of classes are sharded."""
    return ClassTable(pad_rows(jnp.asarray(codes), setup.table_sharding.classes))


def sum_of_centers(
    centers: ClassTable | LinearCodebook, batch: Batch, context: Context
) -> Float[Array, "n bits"]:
    """Returns, per row, the sum of the centers of its classes."""
    if isinstance(centers, LinearCodebook):
        return centers.codes_of(jnp.asarray(batch.labels))
    return look_up(centers, batch.labels, context)
