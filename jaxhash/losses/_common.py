"""Argument checks, masks and means over pairs that several losses share."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.ops.arguments import as_floating, as_mask, check_shape
from jaxhash.ops.collectives import all_gather, axis_size, psum_local_grad, psum_no_grad
from jaxhash.ops.numerics import at_least_float32

#: A reduction such as ``jnp.mean``; None leaves the loss unreduced.
Reduce = Callable[[Array], Array]

#: A number of pairs.
Count = Shaped[Array, ""]


class PairCounts(NamedTuple):
    """Numbers of valid pairs of the whole batch, by kind."""

    similar: Count
    dissimilar: Count


def check_codes(
    codes: Float[Array, "n bits"], where: Shaped[ArrayLike, " n"] | None, *, masked: float = 0.0
) -> tuple[Float[Array, "n bits"], Bool[Array, " n"] | None]:
    """Returns the checked codes in the accumulation dtype, and the checked mask.

    Masked rows are set to ``masked``: NaN would make the gradient NaN even where the value is
    unused.
    """
    codes = at_least_float32(as_floating("codes", codes, ndim=2))
    where = as_mask("where", where, codes.shape[:1])
    return codes if where is None else jnp.where(where[:, None], codes, masked), where


def pad_empty_batch(
    codes: Float[Array, "n bits"], where: Bool[Array, " n"] | None
) -> tuple[Float[Array, "rows bits"], Bool[Array, " rows"] | None]:
    """Returns the batch, or one masked row if it is empty, since nothing has no minimum."""
    if len(codes):
        return codes, where
    return jnp.zeros_like(codes, shape=(1, codes.shape[1])), jnp.zeros(1, bool)


def pair_count(where: Bool[Array, "n m"], axis_name: str | None) -> Count:
    """Counts the marked pairs of all devices, as integers if int32 holds the number of all pairs."""
    columns = jnp.sum(where, axis=0, dtype=jnp.int32)
    if where.size * axis_size(axis_name) > jnp.iinfo(jnp.int32).max:
        columns = columns.astype(jnp.float32)
    count = jnp.sum(
        lax.optimization_barrier(columns)
    )  # one sum would make XLA store the pairs as int32
    return psum_no_grad(count, axis_name)


def count_pairs(
    similar: Bool[Array, "n m"], where: Bool[Array, "n m"] | None, axis_name: str | None
) -> PairCounts:
    """Counts the valid pairs of each kind on all devices."""
    valid = jnp.ones_like(similar) if where is None else where
    positive = pair_count(valid & similar, axis_name)
    return PairCounts(positive, pair_count(valid, axis_name) - positive)


def inverse_pair_count(where: Bool[Array, "n m"], axis_name: str | None) -> Float[Array, ""]:
    """Returns 1 over the number of marked pairs of all devices, or 1 if there is none."""
    return _inverse(pair_count(where, axis_name))


def _inverse(count: Count) -> Float[Array, ""]:
    return 1.0 / jnp.maximum(count, 1)


def gather_batch(
    codes: Float[Array, "n bits"], where: Bool[Array, " n"] | None, axis_name: str | None
) -> tuple[Float[Array, "rows bits"], Bool[Array, " rows"]]:
    """Returns the codes of all devices in the accumulation dtype, and their mask."""
    codes = at_least_float32(codes)
    if where is None:
        where = jnp.ones(codes.shape[0], bool)
    return all_gather((codes, where), axis_name)


def check_pairs(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"] | None,
    where: Shaped[ArrayLike, "n m"] | None,
) -> tuple[
    Float[Array, "n bits"],
    Float[Array, "m bits"],
    Bool[Array, "n m"] | None,
    Bool[Array, "n m"] | None,
]:
    """Returns the checked codes in the accumulation dtype, and masks of similar and valid pairs.

    Rows and columns without a valid pair are set to 0, so that NaN in padding enters no product.
    """
    codes, others = (
        at_least_float32(as_floating(name, array, ndim=2))
        for name, array in (("codes", codes), ("others", others))
    )
    check_shape("others", others, (others.shape[0], codes.shape[1]))
    pairs = codes.shape[0], others.shape[0]
    similar, where = as_mask("similar", similar, pairs), as_mask("where", where, pairs)
    if where is not None:
        codes = jnp.where(where.any(axis=1)[:, None], codes, 0.0)
        others = jnp.where(where.any(axis=0)[:, None], others, 0.0)
    return codes, others, similar, where


def mean_over_pairs(
    loss: Float[Array, "n m"],
    where: Bool[Array, "n m"] | None,
    axis_name: str | None,
    counts: PairCounts | None = None,
) -> Float[Array, ""]:
    """Averages the loss over the valid pairs of all devices; 0 without one.

    With counts the pairs are a part of those that are averaged, and this is their share of the mean.
    """
    valid = jnp.ones(loss.shape, bool) if where is None else where
    number = pair_count(valid, axis_name) if counts is None else sum(counts)
    share = jnp.sum(jnp.where(valid, _inverse(number) * loss, 0.0))
    return psum_local_grad(share, axis_name)


def balanced_mean_over_pairs(
    loss: Float[Array, "n m"],
    similar: Bool[Array, "n m"],
    where: Bool[Array, "n m"] | None,
    axis_name: str | None,
    counts: PairCounts | None = None,
) -> Float[Array, ""]:
    """Adds the mean over similar and the mean over dissimilar pairs; a missing kind adds 0.

    Counts are those of `mean_over_pairs`.
    """
    valid = jnp.ones_like(similar) if where is None else where
    counts = count_pairs(similar, where, axis_name) if counts is None else counts
    positive, negative = map(_inverse, counts)
    share = jnp.where(valid, jnp.where(similar, positive, negative) * loss, 0.0)
    return psum_local_grad(jnp.sum(share), axis_name)
