"""Functions that give the same values and gradients on any mesh."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

import jax
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, auto_axes
from jaxtyping import PyTree

Function = TypeVar("Function", bound=Callable)

#: Maps the arguments of a function to the partition specs of its results, or of a prefix of their tree.
OutSpecs = Callable[..., PyTree[PartitionSpec]]


def replicated(*args: Any, **kwargs: Any) -> PartitionSpec:
    """Returns the spec of results that are replicated on every device."""
    return PartitionSpec()


def sharded_like_first(rows: Any, *args: Any, **kwargs: Any) -> PartitionSpec:
    """Returns the spec of results whose rows are sharded as those of the first argument."""
    return PartitionSpec(*_spec(rows)[:1])


def specs_of(tree: PyTree) -> PyTree[PartitionSpec]:
    """Returns the specs of the arrays of a tree, for results of the same structure."""
    return jax.tree.map(_spec, tree)


@overload
def on_any_mesh(function: Function, *, out_specs: OutSpecs = replicated) -> Function: ...
@overload
def on_any_mesh(*, out_specs: OutSpecs) -> Callable[[Function], Function]: ...
def on_any_mesh(function: Callable | None = None, *, out_specs: OutSpecs = replicated) -> Callable:
    """Wraps a function of arrays so that it also runs on a mesh with Explicit axes.

    `jax.make_mesh` makes such a mesh. On it JAX requires an output sharding of every product, sort,
    gather and reshape of sharded rows. If an argument is sharded so, the function runs under
    `jax.sharding.auto_axes`, where the compiler chooses, as on a mesh of Auto axes; else it runs
    unchanged.

    Arguments named ``axis_name`` or ``..._axis_name`` are checked by `check_axis_name`.

    Args:
        function: function of pytrees of arrays and anything else.
        out_specs: maps the arguments to the partition specs of the results; replicated by default.

    Example:
        >>> @on_any_mesh
        ... def median(x):
        ...     return jax.numpy.sort(x)[len(x) // 2]  # JAX alone refuses sharded rows
        >>> rows = NamedSharding(jax.make_mesh((1,), ("data",)), PartitionSpec("data"))
        >>> float(jax.jit(median)(jax.device_put(jax.numpy.array([5.0, 1.0, 3.0]), rows)))
        3.0
    """
    if function is None:
        return functools.partial(on_any_mesh, out_specs=out_specs)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        for name, value in kwargs.items():
            if name.endswith("axis_name"):
                check_axis_name(value)
        leaves, tree = jax.tree.flatten((args, kwargs))
        arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}
        mesh = _explicit_mesh(arrays.values())
        if mesh is None:
            return function(*args, **kwargs)

        def compute(arrays):
            args, kwargs = tree.unflatten([arrays.get(i, leaf) for i, leaf in enumerate(leaves)])
            return function(*args, **kwargs)

        bound = inspect.signature(function).bind(*args, **kwargs)
        specs = out_specs(*bound.args, **bound.kwargs)
        shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
        return auto_axes(compute, axes=mesh.explicit_axes, out_sharding=shardings)(arrays)

    return wrapper


def row_groups(rows: int) -> int:
    """Returns into how many groups, each on a device, the ambient mesh spreads the rows of a batch.

    Groups are successive rows, of equal number. There is one group without an ambient mesh, inside a
    mapped function, and where the devices do not divide the rows. What is computed group by group has
    the same values for any number of groups, but no row leaves its device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    is_spread = set(mesh.axis_types) == {AxisType.Auto} and rows % mesh.size == 0
    return mesh.size if is_spread else 1


def replicate(tree: PyTree) -> PyTree:
    """Returns the arrays whole on each device of the ambient mesh, if there is one of Auto axes.

    Without it the compiler may spread an array otherwise, and move larger ones instead of it.
    """
    if set(jax.sharding.get_abstract_mesh().axis_types) != {AxisType.Auto}:
        return tree
    return lax.with_sharding_constraint(tree, PartitionSpec())


def check_axis_name(axis_name: str | None) -> None:
    """Raises if JAX would already sum the gradient over the axis.

    Under ``check_vma=True``, the default of ``jax.shard_map``, JAX sums the gradient of replicated
    values over devices. Summing it again, as `jaxhash.losses` requires, would silently make it too
    large by the number of devices.

    Raises:
        ValueError: if the axis is not mapped, or is one of ``jax.shard_map`` with ``check_vma=True``.
    """
    if axis_name is None:
        return
    try:
        index = lax.axis_index(axis_name)
    except NameError:
        raise ValueError(f"axis_name {axis_name!r} is not a mapped axis here") from None
    if jax.typeof(index).manual_axis_type.varying:
        raise ValueError(
            f"axis_name {axis_name!r} is mapped by jax.shard_map with check_vma=True, where JAX "
            "sums the gradients itself: pass check_vma=False to jax.shard_map, then sum them"
        )


def _spec(array: Any) -> PartitionSpec:
    return jax.typeof(array).sharding.spec if isinstance(array, jax.Array) else PartitionSpec()


def _explicit_mesh(arrays: Any) -> AbstractMesh | None:
    """Returns the mesh with Explicit axes of the first array that is on one, or None."""
    for array in arrays:
        mesh = jax.typeof(array).sharding.mesh
        if mesh.explicit_axes:
            return mesh
    return None
