"""Checks and conversions of arguments; each raises an error that names the argument.

An array is one of JAX or NumPy. Values are checked if they are concrete; those of a traced array, or
of one partly held by other processes, are not.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Shaped

#: The class id of a row without a label; such a row is similar to nothing, itself included.
UNLABELLED = -1

#: An integer of Python or NumPy.
IntLike = int | np.integer


def check_shape(
    name: str, array: Shaped[ArrayLike, "..."] | None, shape: tuple[int | None, ...]
) -> None:
    """Raises unless ``array`` is None or has the shape, where None stands for any length."""
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
    """Returns a JAX array, which must be floating with ``ndim`` dimensions and at least one column."""
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
    minimum: float = -math.inf,
    maximum: float = math.inf,
) -> Shaped[Array, "..."]:
    """Returns a JAX array, which must hold real numbers or bools and have the shape.

    No concrete value may be below ``minimum`` or above ``maximum``. NaN passes, since padding may
    hold it. With a finite ``minimum`` of -1 or below, bools and unsigned integers are refused.
    """
    dtype = dtype_of(name, array)
    if not (_is_signed if -math.inf < minimum <= -1 else _is_real)(dtype):
        raise TypeError(f"{name} must be real numbers, got {dtype}")
    check_shape(name, array, shape)
    bounded = (minimum, maximum) != (-math.inf, math.inf)
    values = concrete_values(array) if bounded else None
    if values is not None:
        wrong = (values < minimum) | (values > maximum)
        if wrong.any():
            raise ValueError(f"{name} must be in [{minimum}, {maximum}], got {values[wrong][0]}")
    return jnp.asarray(array)


def as_mask(
    name: str, array: Shaped[ArrayLike, "..."] | None, shape: tuple[int | None, ...]
) -> Bool[Array, "..."] | None:
    """Returns `as_bool` of the array as a JAX array of the shape, or None for None."""
    if array is None:
        return None
    mask = as_bool(name, array)
    check_shape(name, mask, shape)
    return jnp.asarray(mask)


def as_bool(
    name: str, array: Shaped[ArrayLike, "*shape"]
) -> Bool[Array, "*shape"] | Bool[np.ndarray, "*shape"]:
    """Converts bools, integers or floats that are 0 and 1 to bool, in the same kind of array.

    Traced values cannot be refused; they are True where above 0.
    """
    dtype = dtype_of(name, array)
    if jnp.issubdtype(dtype, jnp.bool_):
        return array
    if not _is_real(dtype):
        raise TypeError(f"{name} must be bool, or numbers 0 and 1, got {dtype}")
    values = concrete_values(array)
    if values is not None:
        wrong = (values != 0) & (values != 1)
        if wrong.any():
            raise ValueError(f"{name} must be 0 or 1, got {values[wrong][0]}")
    return array > 0


def as_labels(
    name: str, labels: Shaped[ArrayLike, " n *classes"], classes: int | None = None
) -> Shaped[Array, " n *classes"] | Shaped[np.ndarray, " n *classes"]:
    """Converts class ids [n] to signed integers, or 0/1 rows [n, classes] to bool.

    The result is of the same kind of array. Ids are converted by `as_index`; -1 means "no label".

    Args:
        name: name of the argument, for errors.
        labels: class ids, or multi-hot rows.
        classes: number of classes, if known.
    """
    shape = np.shape(labels)
    if len(shape) not in (1, 2):
        raise ValueError(
            f"{name} must be class ids [n] or multi-hot rows [n, classes], got shape {shape}"
        )
    if len(shape) == 2:
        if classes is not None and shape[1] != classes:
            raise ValueError(f"multi-hot {name} must have {classes} columns, got shape {shape}")
        return as_bool(f"multi-hot {name}", labels)
    return as_index(name, labels, classes, minimum=UNLABELLED)


def as_index(
    name: str, index: Shaped[ArrayLike, " n"], size: int | None = None, *, minimum: int = 0
) -> Int[Array, " n"] | Int[np.ndarray, " n"]:
    """Converts indices to signed integers, in the same kind of array.

    Floats are accepted from NumPy only, as files store ids, if all are integers and the dtype
    represents them exactly. A traced index out of range is left to the caller.

    Args:
        name: name of the argument, for errors.
        index: the indices.
        size: bound that indices must be below, if any.
        minimum: smallest valid index.
    """
    dtype, values = dtype_of(name, index), concrete_values(index)
    signed = jnp.issubdtype(dtype, jnp.signedinteger)
    target = dtype if signed else np.int64 if isinstance(index, np.ndarray) else jnp.int32
    if jnp.issubdtype(dtype, jnp.floating) and isinstance(index, np.ndarray):
        if not (values % 1 == 0).all():
            raise ValueError(f"{name} must be integers, got {dtype} with fractions")
        if values.size and np.abs(values).max() >= 2 ** (jnp.finfo(dtype).nmant + 1):
            raise ValueError(f"{name} must be integers that {dtype} represents exactly")
    elif not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got {dtype}")
    if values is not None and values.size:
        low, high = int(values.min()), int(values.max())
        if low < minimum:
            raise ValueError(f"{name} must be {minimum} or more, got {low}")
        size = jnp.iinfo(target).max + 1 if size is None else size
        if high >= size:
            raise ValueError(f"{name} must be below {size}, got {high}")
    return index if signed else index.astype(target)


def check_signs(
    name: str, codes: Shaped[ArrayLike, "n ..."], where: Bool[ArrayLike, " n"] | None = None
) -> None:
    """Raises unless codes are signed numbers and the concrete values of valid rows are -1 or +1."""
    dtype = dtype_of(name, codes)
    if not _is_signed(dtype):
        raise TypeError(f"{name} must be -1 and +1, got {dtype}")
    values, valid = concrete_values(codes), True if where is None else concrete_values(where)
    if values is not None and valid is not None:
        values = values[valid]
        wrong = (values != 1) & (values != -1)
        if wrong.any():
            raise ValueError(f"{name} must be -1 and +1, got {values[wrong][0]}")


def check_packed(name: str, codes: Shaped[ArrayLike, "..."]) -> None:
    """Raises unless codes are uint8, the dtype of packed codes."""
    dtype = dtype_of(name, codes)
    if dtype != np.uint8:
        raise TypeError(f"{name} must be packed codes, which are uint8, got {dtype}")


def as_int(name: str, value: IntLike, *, minimum: int | None = None) -> int:
    """Converts an integer of Python or NumPy to int; bools are refused."""
    if isinstance(value, bool | np.bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def concrete_values(array: Shaped[ArrayLike, "..."]) -> np.ndarray | None:
    """Returns the values, or None if they are traced or other processes hold some of them."""
    if isinstance(array, jax.core.Tracer):
        return None
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return None
    return np.asarray(array)


def dtype_of(name: str, array: Shaped[ArrayLike, "..."]) -> jnp.dtype:
    """Returns the dtype of an array of JAX or NumPy; raises for anything else, such as a list."""
    if not isinstance(array, jax.Array | np.ndarray):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}")
    return array.dtype


def _is_real(dtype: jnp.dtype) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))


def _is_signed(dtype: jnp.dtype) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.signedinteger, jnp.floating))
