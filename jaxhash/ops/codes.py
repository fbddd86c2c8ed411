"""Operations on codes: relax, binarize, pack, compare.

A *code* is a row of ``bits`` real numbers during training, and a row of -1 and +1 once binarized by
its signs. Zero counts as +1 everywhere in jaxhash, so that every bit is one of exactly two values.
"""

from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int8, Shaped, UInt8

from jaxhash.ops.arguments import IntLike, as_int, check_packed, check_signs, dtype_of
from jaxhash.ops.meshes import on_any_mesh, sharded_like_first


def relax(
    codes: Float[Array, "*n bits"], beta: float | Float[Array, ""] = 1.0
) -> Float[Array, "*n bits"]:
    """Maps codes into (-1, 1) by ``tanh(beta * codes)``, which tends to the sign as beta grows.

    Args:
        codes: real-valued codes.
        beta: steepness; HashNet's continuation raises it during training.

    Returns:
        Codes of the same shape and dtype.

    Example:
        >>> relax(jnp.array([[0.0, 1.0]]), beta=50.0)
        Array([[0., 1.]], dtype=float32)
    """
    return jnp.tanh(beta * codes)


@overload
def binarize(codes: Float[Array, "*n bits"]) -> Int8[Array, "*n bits"]: ...
@overload
def binarize(codes: Float[np.ndarray, "*n bits"]) -> Int8[np.ndarray, "*n bits"]: ...
def binarize(
    codes: Float[Array, "*n bits"] | Float[np.ndarray, "*n bits"],
) -> Int8[Array, "*n bits"] | Int8[np.ndarray, "*n bits"]:
    """Returns the signs of codes, -1 or +1, with zero counted as +1.

    Args:
        codes: real-valued codes, an array of JAX or NumPy.

    Returns:
        int8 codes of the same shape and the same kind of array.

    Raises:
        TypeError: if codes are neither floating nor signed integers, so that zero is no threshold.
        ValueError: if concrete integers are not -1 and +1.

    Example:
        >>> binarize(jnp.array([[-0.3, 0.0, 2.0]]))
        Array([[-1,  1,  1]], dtype=int8)
    """
    _check_binarizable("codes", codes)
    return (codes >= 0).astype(np.int8) * np.int8(2) - np.int8(1)


def straight_through(codes: Float[Array, "*n bits"]) -> Float[Array, "*n bits"]:
    """Returns the signs of codes (zero counts as +1), with the gradient of the identity.

    Example:
        >>> value, slope = jax.value_and_grad(lambda u: straight_through(u).sum())(
        ...     jnp.array([[-0.3, 2.0, 0.5]]))
        >>> float(value), slope.tolist()
        (1.0, [[1.0, 1.0, 1.0]])
    """
    return with_gradient_of(codes, jnp.where(codes >= 0, 1.0, -1.0).astype(codes.dtype))


def with_gradient_of(
    codes: Float[Array, "*n bits"], values: Float[Array, "*n bits"]
) -> Float[Array, "*n bits"]:
    """Returns the values, unrounded, with the gradient of the codes.

    Example:
        >>> jax.grad(lambda u: with_gradient_of(3.0 * u, jnp.ones_like(u)).sum())(jnp.ones(2))
        Array([3., 3.], dtype=float32)
    """
    return values + (codes - jax.lax.stop_gradient(codes))  # an exact zero: nothing is rounded


def pack(codes: Shaped[Array, "*n bits"] | Shaped[np.ndarray, "*n bits"]) -> UInt8[Array, "*n _"]:
    """Packs the signs of codes into bytes, eight bits each, the first bit the most significant.

    Args:
        codes: codes of -1 and +1, or real-valued codes, which are binarized first. Bool and 0/1
            codes are refused, since their 0 would count as +1.

    Returns:
        ``ceil(bits / 8)`` bytes per row; unused bits of the last byte are 0.

    Raises:
        TypeError: if codes are neither floating nor signed integers.
        ValueError: if concrete integers are not -1 and +1.

    Example:
        >>> pack(jnp.array([[1, -1, -1, -1, -1, -1, -1, 1, 1]]))
        Array([[129, 128]], dtype=uint8)
    """
    _check_binarizable("codes", codes)
    return jnp.packbits(jnp.asarray(codes) >= 0, axis=-1)


def unpack(packed: UInt8[Array | np.ndarray, "*n bytes"], bits: IntLike) -> Int8[Array, "*n bits"]:
    """Unpacks bytes to int8 codes of -1 and +1; the inverse of `pack`.

    Raises:
        TypeError: if ``packed`` is not uint8 or ``bits`` is not an integer.
        ValueError: if ``bits`` does not fit the number of bytes.

    Example:
        >>> unpack(jnp.array([[129, 128]], jnp.uint8), bits=9)
        Array([[ 1, -1, -1, -1, -1, -1, -1,  1,  1]], dtype=int8)
    """
    check_packed("packed", packed)
    bits = as_int("bits", bits)
    if not 8 * (packed.shape[-1] - 1) < bits <= 8 * packed.shape[-1]:
        raise ValueError(f"bits={bits} do not fit {packed.shape[-1]} bytes per code")
    return jnp.unpackbits(packed, axis=-1, count=bits).astype(jnp.int8) * 2 - 1


@on_any_mesh(out_specs=sharded_like_first)
def hamming_distance(
    codes: UInt8[Array | np.ndarray, "n bytes"], others: UInt8[Array | np.ndarray, "m bytes"]
) -> Int[Array, "n m"]:
    """Counts the bits in which packed codes differ, for every pair.

    Raises:
        TypeError: if codes or others are not uint8.
        ValueError: if they are not matrices with the same number of columns.

    Example:
        >>> hamming_distance(jnp.array([[3]], jnp.uint8), jnp.array([[1], [255]], jnp.uint8))
        Array([[1, 6]], dtype=int32)
    """
    for name, side in (("codes", codes), ("others", others)):
        check_packed(name, side)
        if side.ndim != 2:
            raise ValueError(f"{name} must have shape [items, bytes], got {side.shape}")
    if codes.shape[1] != others.shape[1]:
        raise ValueError(f"codes have {codes.shape[1]} bytes, others {others.shape[1]}")
    differing = jax.lax.population_count(codes[:, None, :] ^ others[None, :, :])
    return differing.astype(jnp.int32).sum(axis=-1)


def _check_binarizable(name: str, codes: Shaped[Array, "..."] | Shaped[np.ndarray, "..."]) -> None:
    """Raises if zero is no threshold of codes, as for bools, counts and 0/1 codes."""
    if not jnp.issubdtype(dtype_of(name, codes), jnp.floating):
        check_signs(name, codes)
