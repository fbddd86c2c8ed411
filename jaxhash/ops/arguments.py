"""Checks of arguments: what is meant, in the form that the formulas take it, or refused by name.

An array may be of JAX or of NumPy. Its values are looked at where they are at hand: those of a
traced array are not, nor those that other processes hold.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Shaped

#: The class id of a row that has no label; it is similar to nothing, itself included.
UNLABELLED = -1

#: A number of things; NumPy's are what its functions return.
Whole = int | np.integer


def check_shape(
    name: str, array: Shaped[ArrayLike, "..."] | None, shape: tuple[int | None, ...]
) -> None:
    """Raise unless ``array`` is None or has the shape, of which None is any length."""
    if array is None:
        return
    dtype_of(name, array)
    fits = len(shape) == array.ndim and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = str(shape).replace("None", "any")
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")


def as_floating(name: str, array: Float[ArrayLike, "..."], *, ndim: int) -> Float[Array, "..."]:
    """The array as one of JAX; it must be floating, with ``ndim`` dimensions and some columns."""
    dtype = dtype_of(name, array)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got {dtype}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {array.shape}")
    if array.shape[0] and not array.shape[-1]:
        raise ValueError(f"{name} must have at least one column, got shape {array.shape}")
    return jnp.asarray(array)


def as_real(
    name: str,
    array: Shaped[ArrayLike, "..."],
    shape: tuple[int | None, ...],
    *,
    least: float = -math.inf,
    most: float = math.inf,
) -> Shaped[Array, "..."]:
    """The array as one of JAX; it must hold real numbers or bools, and have the shape.

    No value at hand may be below ``least`` or above ``most``. NaN passes: padding may hold it.
    Where they go from -1 on, bools are not meant, nor unsigned integers, which have no -1.
    """
    dtype = dtype_of(name, array)
    if not (_is_signed if -math.inf < least <= -1 else _is_real)(dtype):
        raise TypeError(f"{name} must be real numbers, got {dtype}")
    check_shape(name, array, shape)
    values = values_at_hand(array) if (least, most) != (-math.inf, math.inf) else None
    if values is not None:
        wrong = (values < least) | (values > most)
        if wrong.any():
            raise ValueError(f"{name} must be in [{least}, {most}], got {values[wrong][0]}")
    return jnp.asarray(array)


def as_mask(
    name: str, array: Shaped[ArrayLike, "..."] | None, shape: tuple[int | None, ...]
) -> Bool[Array, "..."] | None:
    """`zeros_and_ones` as an array of JAX that has the shape; None stays None."""
    if array is None:
        return None
    mask = zeros_and_ones(name, array)
    check_shape(name, mask, shape)
    return jnp.asarray(mask)


def zeros_and_ones(
    name: str, array: Shaped[ArrayLike, "*shape"]
) -> Bool[Array, "*shape"] | Bool[np.ndarray, "*shape"]:
    """True for 1 and False for 0, of bools, integers or floats; of the same kind of array.

    Values that are not at hand cannot be refused: of these, all that is above 0 is taken for 1.
    """
    dtype = dtype_of(name, array)
    if jnp.issubdtype(dtype, jnp.bool_):
        return array
    if not _is_real(dtype):
        raise TypeError(f"{name} must be bool, or numbers 0 and 1, got {dtype}")
    values = values_at_hand(array)
    if values is not None:
        wrong = (values != 0) & (values != 1)
        if wrong.any():
            raise ValueError(f"{name} must be 0 or 1, got {values[wrong][0]}")
    return array > 0


def as_labels(
    name: str, labels: Shaped[ArrayLike, " n *classes"], classes: int | None = None
) -> Shaped[Array, " n *classes"] | Shaped[np.ndarray, " n *classes"]:
    """Class ids [n] as signed integers, or 0/1 rows [n, classes] as bools; of the same kind of array.

    Ids are `as_index` has them, and -1 means "no label". With ``classes`` there are as many.
    """
    shape = np.shape(labels)
    if len(shape) not in (1, 2):
        raise ValueError(
            f"{name} must be class ids [n] or multi-hot rows [n, classes], got shape {shape}"
        )
    if len(shape) == 2:
        if classes is not None and shape[1] != classes:
            raise ValueError(f"multi-hot {name} must have {classes} columns, got shape {shape}")
        return zeros_and_ones(f"multi-hot {name}", labels)
    return as_index(name, labels, classes, least=UNLABELLED)


def as_index(
    name: str, index: Shaped[ArrayLike, " n"], number: int | None = None, *, least: int = 0
) -> Int[Array, " n"] | Int[np.ndarray, " n"]:
    """Signed integers from ``least`` on, below ``number`` if given; of the same kind of array.

    Floats are taken of NumPy alone, as files keep ids, where all are whole and the dtype tells them
    apart: of JAX they are mostly traced, and refused in any case.
    One that is not at hand and out of range is left to the caller.
    """
    dtype, values = dtype_of(name, index), values_at_hand(index)
    signed = jnp.issubdtype(dtype, jnp.signedinteger)
    form = dtype if signed else np.int64 if isinstance(index, np.ndarray) else jnp.int32
    if jnp.issubdtype(dtype, jnp.floating) and isinstance(index, np.ndarray):
        if not (values % 1 == 0).all():
            raise ValueError(f"{name} must be integers, got other {dtype}")
        if values.size and np.abs(values).max() >= 2 ** (jnp.finfo(dtype).nmant + 1):
            raise ValueError(f"{name} must be integers: {dtype} cannot tell such large ones apart")
    elif not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got {dtype}")
    if values is not None and values.size:
        low, high = int(values.min()), int(values.max())
        if low < least:
            raise ValueError(f"{name} must be {least} or more, got {low}")
        number = jnp.iinfo(form).max + 1 if number is None else number
        if high >= number:
            raise ValueError(f"{name} must be below {number}, got {high}")
    return index if signed else index.astype(form)


def check_signs(
    name: str, codes: Shaped[ArrayLike, "n ..."], where: Bool[ArrayLike, " n"] | None = None
) -> None:
    """Raise unless codes are real numbers, and all that are at hand, of valid rows, -1 or +1."""
    dtype = dtype_of(name, codes)
    if not _is_signed(dtype):
        raise TypeError(f"{name} must be -1 and +1, got {dtype}")
    values, valid = values_at_hand(codes), True if where is None else values_at_hand(where)
    if values is not None and valid is not None:
        values = values[valid]
        wrong = (values != 1) & (values != -1)
        if wrong.any():
            raise ValueError(f"{name} must be -1 and +1, got {values[wrong][0]}")


def check_packed(name: str, codes: Shaped[ArrayLike, "..."]) -> None:
    """Raise unless codes are bytes, as packed ones are."""
    dtype = dtype_of(name, codes)
    if dtype != np.uint8:
        raise TypeError(f"{name} must be packed codes, which are uint8, got {dtype}")


def whole_number(name: str, value: Whole, *, least: int | None = None) -> int:
    """The value as an int; only integers, of NumPy too, are ones, and True is none."""
    if isinstance(value, bool | np.bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def values_at_hand(array: Shaped[ArrayLike, "..."]) -> np.ndarray | None:
    """The values, or None where they are traced or other processes hold some of them."""
    if isinstance(array, jax.core.Tracer):
        return None
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return None
    return np.asarray(array)


def dtype_of(name: str, array: Shaped[ArrayLike, "..."]) -> jnp.dtype:
    """The dtype of an array of JAX or NumPy; nothing else has one, a list neither."""
    if not isinstance(array, jax.Array | np.ndarray):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}")
    return array.dtype


def _is_real(dtype: jnp.dtype) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))


def _is_signed(dtype: jnp.dtype) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.signedinteger, jnp.floating))
