"""The same values and gradients on whatever mesh the arrays lie on."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec, auto_axes
from jaxtyping import PyTree

#: Given the arguments of a function, how its results lie: specs for them, or for a prefix of the tree.
Returns = Callable[..., PyTree[PartitionSpec]]


def whole(*args: Any, **kwargs: Any) -> PartitionSpec:
    """Results that every device has whole."""
    return PartitionSpec()


def like_rows(rows: Any, *args: Any, **kwargs: Any) -> PartitionSpec:
    """Results with a row for each of the first argument's, spread as these are."""
    return PartitionSpec(*_spec(rows)[:1])


def like(tree: PyTree) -> PyTree[PartitionSpec]:
    """How the arrays of a tree lie, for results of the same structure."""
    return jax.tree.map(_spec, tree)


def on_any_mesh(function: Callable | None = None, *, returns: Returns = whole) -> Callable:
    """Let a function of arrays compute on a mesh with Explicit axes, which `jax.make_mesh` makes.

    There JAX asks of every product, sort, gather and reshape of spread rows how its result is to
    lie. Where an argument lies so, the function is run by `jax.sharding.auto_axes`, in which the
    compiler decides, as it does on a mesh of Auto axes; elsewhere it is run as it is.

    Whatever is called ``axis_name=`` or ``..._axis_name=`` is checked by `check_mapped`.

    Args:
        function: what is wrapped; its arguments are pytrees of arrays and of anything else.
        returns: from the arguments, how the results lie; whole on every device by default.

    Example:
        >>> @on_any_mesh
        ... def median(x):
        ...     return jax.numpy.sort(x)[len(x) // 2]  # of spread rows, JAX alone refuses
        >>> rows = NamedSharding(jax.make_mesh((1,), ("data",)), PartitionSpec("data"))
        >>> float(jax.jit(median)(jax.device_put(jax.numpy.array([5.0, 1.0, 3.0]), rows)))
        3.0
    """
    if function is None:
        return functools.partial(on_any_mesh, returns=returns)

    @functools.wraps(function)
    def anywhere(*args, **kwargs):
        for name, value in kwargs.items():
            if name.endswith("axis_name"):
                check_mapped(value)
        leaves, tree = jax.tree.flatten((args, kwargs))
        arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}
        mesh = _explicit_mesh(arrays.values())
        if mesh is None:
            return function(*args, **kwargs)

        def compute(arrays):
            args, kwargs = tree.unflatten([arrays.get(i, leaf) for i, leaf in enumerate(leaves)])
            return function(*args, **kwargs)

        given = inspect.signature(function).bind(*args, **kwargs)
        specs = returns(*given.args, **given.kwargs)
        shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
        return auto_axes(compute, axes=mesh.explicit_axes, out_sharding=shardings)(arrays)

    return anywhere


def check_mapped(axis_name: str | None) -> None:
    """Raise where devices' shares of a gradient, which are to be summed, would be summed already.

    Under ``check_vma=True``, the default of ``jax.shard_map``, JAX sums the gradient of whatever
    is the same on all devices. Summed once more, as `jaxhash.losses` asks for, it would be too
    large by the number of devices, and nobody would say so.

    Raises:
        ValueError: if the axis is one of ``jax.shard_map`` with ``check_vma=True``, or no mapped one.
    """
    if axis_name is None:
        return
    try:
        index = lax.axis_index(axis_name)
    except NameError:
        raise ValueError(f"axis_name {axis_name!r} is mapped by nothing around this call") from None
    if jax.typeof(index).manual_axis_type.varying:
        raise ValueError(
            f"axis_name {axis_name!r} is mapped by jax.shard_map with check_vma=True, where JAX "
            "sums the gradients itself: pass check_vma=False to jax.shard_map, then sum them"
        )


def _spec(array: Any) -> PartitionSpec:
    return jax.typeof(array).sharding.spec if isinstance(array, jax.Array) else PartitionSpec()


def _explicit_mesh(arrays: Any) -> AbstractMesh | None:
    """The mesh with Explicit axes on which one of the arrays lies."""
    for array in arrays:
        mesh = jax.typeof(array).sharding.mesh
        if mesh.explicit_axes:
            return mesh
    return None
