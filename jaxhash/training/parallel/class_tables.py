"""Tables of very many classes spread over the model axis: classifiers, proxies and centers.

A step under ``jax.jit`` has a mesh of two axes. The model runs with the rows of the batch over both.
The objective runs with rows over ``data`` and classes over ``model``: a device has some of the rows
and some of the classes, so the scores [rows, classes] are whole nowhere. Sums and maxima over
classes are those of all devices, so a softmax over them is exact.
"""

from collections.abc import Callable

import jax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxhash.objectives import Batch
from jaxhash.training.parallel.layout import DATA_AXIS, MODEL_AXIS, Layout
from jaxhash.utils.errors import UserError


def find_class_axes(
    shapes_of: Callable[[int], PyTree], classes: int, model_parallel: int
) -> PyTree[int]:
    """Returns, per leaf of a state, the first axis that has one entry per class; -1 without one.

    It is the axis whose size changes with the number of classes, so a kernel [bits, classes] is
    found where both numbers are the same too, and in an objective of the user's own.

    Args:
        shapes_of: function from a number of classes to the shapes of a state.
        classes: number of classes.
        model_parallel: number of devices that share the classes, above 1.

    Raises:
        UserError: if the classes cannot be spread evenly, or no parameter or state has any.

    Example:
        >>> def shapes_of(classes):
        ...     return {"kernel": jax.ShapeDtypeStruct((4, classes), float), "step": jax.typeof(1)}
        >>> find_class_axes(shapes_of, 4, model_parallel=2)
        {'kernel': 1, 'step': -1}
    """
    if classes % model_parallel:
        raise UserError(
            f"`model_parallel={model_parallel}` must divide the number of classes, {classes:,}"
        )

    def find(leaf, of_fewer):
        sizes = zip(leaf.shape, of_fewer.shape, strict=True)
        return next((axis for axis, (size, fewer) in enumerate(sizes) if size != fewer), -1)

    axes = jax.tree.map(find, shapes_of(classes), shapes_of(classes - 1))
    if all(axis < 0 for axis in jax.tree.leaves(axes)):
        raise UserError(
            f"`model_parallel={model_parallel}`: the objective has no classifier, proxies or centers "
            "whose classes could be spread"
        )
    return axes


def place_for_classes(codes: PyTree, batch: Batch, *, layout: Layout) -> tuple[PyTree, Batch]:
    """Moves the rows of the batch to all devices that share the classes; inputs stay where they are.

    Args:
        codes: codes of the rows, of one view or several.
        batch: the batch; multi-hot labels are spread over the classes as well.
        layout: the mesh of the step.
    """

    def move(tree, *axes):
        sharding = NamedSharding(layout.mesh, PartitionSpec(*axes))
        return jax.tree.map(lambda rows: lax.with_sharding_constraint(rows, sharding), tree)

    is_multi_hot = batch.labels.ndim == 2
    return move(codes, DATA_AXIS), batch._replace(
        labels=move(batch.labels, DATA_AXIS, *[MODEL_AXIS] * is_multi_hot),
        index=move(batch.index, DATA_AXIS),
        mask=move(batch.mask, DATA_AXIS),
    )
