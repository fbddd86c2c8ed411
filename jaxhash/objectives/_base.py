"""The interface between the training step and what it minimizes: `Objective` and its arguments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree, Shaped

from jaxhash.ops.arguments import (
    as_bool,
    as_index,
    as_labels,
    check_shape,
    concrete_values,
)
from jaxhash.ops.codes import relax
from jaxhash.ops.meshes import check_axis_name, on_any_mesh, specs_of
from jaxhash.similarity import has_label

#: A weight in a sum of losses, which may be traced.
Weight = int | float | Float[ArrayLike, ""]


class Batch(NamedTuple):
    """One batch, or one device's rows of it."""

    inputs: PyTree[Shaped[Any, "n ..."]]
    """Inputs of the model: images, features, or a tree of them (two views, two modalities)."""
    labels: Shaped[Any, " n *classes"]
    """Class ids [n], of which -1 is none, or multi-hot rows [n, classes] of 0 and 1."""
    index: Int[Any, " n"]
    """Position of each row in the training set, from 0."""
    mask: Shaped[Any, " n"]
    """False, or 0, where the row is padding."""


class ClassSimilarity(NamedTuple):
    """Semantic similarity of classes or images beyond the labels; none by default."""

    distances: Float[Any, "classes classes"] | None = None
    """Semantic distance of each two classes, such as 1 - `jaxhash.similarity.tree_similarity`."""
    levels: Int[Any, "levels classes"] | None = None
    """Group of each class at each level of a hierarchy, above the classes themselves."""
    embeddings: Float[Any, "items dimensions"] | None = None
    """Embedding of each training image for semantic distances, such as that of its caption."""

    def of_first_classes(self, classes: int) -> "ClassSimilarity":
        """Returns the similarity of the classes below a number; embeddings are those of images."""
        distances, levels, embeddings = self
        return ClassSimilarity(
            None if distances is None else distances[:classes, :classes],
            None if levels is None else levels[:, :classes],
            embeddings,
        )


class TableSharding(NamedTuple):
    """Which tables have their rows sharded over the devices, in order and equally many on each.

    A table is a `jaxhash.objectives.Bank`, `ItemTable` or `ClassTable` in an objective's state.
    """

    items: int | None = None
    """Number of training images if tables of images are sharded; later rows are padding. None where
    each device has the whole table."""
    classes: int | None = None
    """Number of classes if tables of classes are sharded, else None."""


class Setup(NamedTuple):
    """Arguments of ``init`` of an objective: sizes, example inputs and the model's variables."""

    bits: int
    """Length of a code."""
    items: int
    """Size of the training set."""
    classes: int
    """Number of classes."""
    multi_label: bool
    """True if labels are multi-hot rows rather than ids."""
    inputs: PyTree[Shaped[Any, "n ..."]]
    """Inputs of the model, used for their shape by decoders and memories of features."""
    variables: PyTree
    """The model's initial variables, for objectives that keep a copy of the model."""
    class_similarity: ClassSimilarity = ClassSimilarity()
    """Semantic similarity beyond the labels."""
    table_sharding: TableSharding = TableSharding()
    """Which tables are padded so that their rows can be sharded over devices."""
    encode: Callable[..., PyTree] | None = None
    """As in `Context`, for objectives that keep something of the size of the model's features."""


class Variables(NamedTuple):
    """Parameters and state of an objective, both stored in the checkpoint."""

    params: PyTree = ()
    """Trained with the network by the optimizer: classifiers, anchors, decoders."""
    state: PyTree = ()
    """Returned by the loss for the next step: banks, codebooks, an averaged model."""


class Context(NamedTuple):
    """Arguments of the loss that vary from one call to the next."""

    key: Key[Array, ""]
    """A new key each step, the same on all devices."""
    progress: Float[Array, ""]
    """Fraction of the training that is done, in [0, 1)."""
    new_epoch: Bool[Array, ""]
    """True if an epoch has just ended, when alternating methods update their codes."""
    variables: PyTree
    """The model's current variables, with gradient."""
    encode: Callable[..., PyTree]
    """``encode(variables, inputs)`` returns codes of the model in evaluation mode, or with
    ``return_features=True`` the features that enter the hash layer."""
    axis_name: str | None
    """Mapped axis over which the batch is sharded, or None."""
    table_sharding: TableSharding = TableSharding()
    """Which tables are sharded over the mapped axis, so that a device has only its own rows."""


class Loss(NamedTuple):
    """Result of ``loss`` of an objective."""

    value: Float[Array, ""]
    """Value over the whole batch of all devices; its gradient is this device's share."""
    state: PyTree
    """State for the next step, equal on all devices except the rows of sharded tables."""
    terms: dict[str, Float[Array, ""]]
    """Named terms of the value, unweighted, for the log."""


class _Objective(NamedTuple):
    init: Callable[[Key[Array, ""], Setup], Variables]
    loss: Callable[[Variables, PyTree, Batch, Context], Loss]
    views: int = 1
    """Number of augmented views of each input; with several, inputs and codes are tuples."""
    any_views: bool = False
    """True if it accepts codes of any number of views. If not, and another objective needs more
    views, it is given the first view."""


class Objective(_Objective):
    """A method as a pair of pure functions.

    ``init(key, setup)`` returns the `Variables`; ``loss(variables, codes, batch, context)`` returns
    the `Loss`. Codes are the model's outputs for ``batch.inputs``: a tree of codes if the model has
    two views or two modalities. The loss computes every global quantity itself: it sums over
    ``context.axis_name`` as `jaxhash.losses` do. It runs on any mesh, see
    `jaxhash.ops.meshes.on_any_mesh`.

    The batch is checked first: labels are integer class ids, or rows of 0 and 1 in any dtype; index
    is integers; mask is 0 and 1. Anything else raises a ValueError or a TypeError that names it.
    The loss receives multi-hot labels and the mask as bools.
    """

    __slots__ = ()

    def __new__(
        cls, init: Callable, loss: Callable, views: int = 1, any_views: bool = False
    ) -> "Objective":
        """Wraps the loss so that it checks the batch and runs on any mesh."""
        return super().__new__(cls, init, _on_any_mesh(loss), views, any_views)


def _on_any_mesh(loss: Callable[..., Loss]) -> Callable[..., Loss]:
    """Returns the loss on any mesh with a checked batch; the state keeps its sharding."""

    def returns(variables, codes, batch, context):
        return Loss(PartitionSpec(), specs_of(variables.state), PartitionSpec())

    loss_on_any_mesh = on_any_mesh(loss, out_specs=returns)

    def checked_loss(variables, codes, batch, context):
        check_axis_name(context.axis_name)
        return loss_on_any_mesh(variables, codes, _check_batch(batch), context)

    return checked_loss


def _check_batch(batch: Batch) -> Batch:
    """Returns the batch with its arrays checked and cast; labels and index may be None."""
    rows = (len(batch.mask),)
    labels, index = batch.labels, batch.index
    if labels is not None:
        labels = as_labels("labels", labels)
        check_shape("labels", labels, (*rows, *labels.shape[1:]))
    if index is not None:
        check_shape("index", index, rows)
        index = as_index("index", index, minimum=-1)  # -1 marks padding
    check_shape("mask", batch.mask, rows)
    mask = as_bool("mask", batch.mask)
    if index is not None:
        valid, known = concrete_values(mask), concrete_values(index)
        if valid is not None and known is not None and (known[valid] < 0).any():
            raise ValueError("index must be 0 or more in rows that the mask keeps, got -1")
    return batch._replace(labels=labels, index=index, mask=mask)


def from_loss(
    name: str, loss: Callable[..., Float[Array, ""]], *, random: bool = False
) -> Objective:
    """Makes an objective of a loss of the codes alone; with several views, of its mean over them.

    Args:
        name: name of the term in the log.
        loss: ``loss(codes, where=, axis_name=)``, a scalar. Codes of padding are 0.
        random: whether the loss also takes a ``key``. Each view has its own key.
    """

    def mean_over_views(variables, codes, batch, context):
        values = []
        for number, view in enumerate(jax.tree.leaves(codes)):
            key = jax.random.fold_in(context.key, number) if number else context.key
            keyed = {"key": key} if random else {}
            view = zero_padding(view, batch)
            values.append(loss(view, where=batch.mask, axis_name=context.axis_name, **keyed))
        value = sum(values[1:], start=values[0]) / len(values)
        return Loss(value, variables.state, {name: value})

    return Objective(lambda key, setup: Variables(), mean_over_views, any_views=True)


def probabilities(codes: Float[Array, "n bits"]) -> Float[Array, "n bits"]:
    """Maps raw codes u to (1 + tanh(u)) / 2 in float32, in [0, 1]."""
    return 0.5 + 0.5 * relax(codes.astype(jnp.float32))


def on_probabilities(loss: Callable[..., Float[Array, ""]]) -> Callable[..., Float[Array, ""]]:
    """Returns the loss of `probabilities` as a loss of the raw codes."""
    return lambda codes, **options: loss(probabilities(codes), **options)


def on_relaxed(loss: Callable[..., Float[Array, ""]]) -> Callable[..., Float[Array, ""]]:
    """Returns the loss of tanh(u) in float32 as a loss of the raw codes u."""
    return lambda codes, **options: loss(relax(codes.astype(jnp.float32)), **options)


def zero_padding(codes: Float[Array, "n bits"], batch: Batch) -> Float[Array, "n bits"]:
    """Returns the codes with zeros in padded rows, which may hold anything.

    A NaN there would reach the gradient through a tanh or a product with a trained matrix.
    """
    return jnp.where(batch.mask[:, None], codes, 0)


def uniform_by_item(
    key: Key[Array, ""], index: Int[Array, " n"], bits: int
) -> Float[Array, "n bits"]:
    """Draws uniform numbers in [0, 1) for each row from its index in the training set.

    They depend neither on the position in the batch nor on the devices.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(index))
    return jax.vmap(lambda key: jax.random.uniform(key, (bits,)))(keys)


def combine(*objectives: Objective) -> Objective:
    """Returns the sum of objectives, each with its own parameters, state and random key.

    Beside an objective of two views, one of a single view is given the first; a quantizer is given
    both.

    Raises:
        ValueError: at the first call, if two objectives log a term of the same name.

    Example:
        >>> from jaxhash.objectives import hashnet, hswd
        >>> both = combine(hashnet(), weighted(0.1, hswd()))
    """
    views = max((each.views for each in objectives), default=1)

    def views_for(objective, views_given):
        sees_all = objective.views == views or objective.any_views
        return views_given if sees_all else views_given[0]

    def init(key, setup):
        keys = jax.random.split(key, len(objectives))
        initial = [
            objective.init(k, setup._replace(inputs=views_for(objective, setup.inputs)))
            for objective, k in zip(objectives, keys, strict=True)
        ]
        return Variables(tuple(v.params for v in initial), tuple(v.state for v in initial))

    def loss(variables, codes, batch, context):
        keys = jax.random.split(context.key, len(objectives))
        parts = [
            objective.loss(
                Variables(params, state),
                views_for(objective, codes),
                batch._replace(inputs=views_for(objective, batch.inputs)),
                context._replace(key=key),
            )
            for objective, params, state, key in zip(
                objectives, variables.params, variables.state, keys, strict=True
            )
        ]
        terms = {name: value for part in parts for name, value in part.terms.items()}
        if len(terms) < sum(len(part.terms) for part in parts):
            raise ValueError(f"two objectives log the same term: {[list(p.terms) for p in parts]}")
        value = sum((part.value for part in parts), start=jnp.float32(0))
        return Loss(value, tuple(part.state for part in parts), terms)

    return Objective(init, loss, views, any_views=all(each.any_views for each in objectives))


def weighted(weight: Weight, objective: Objective) -> Objective:
    """Returns the objective times a weight, which may be traced; logged terms stay unweighted.

    Example:
        >>> from jaxhash.objectives import hswd
        >>> tenth = weighted(0.1, hswd())
    """

    def loss(variables, codes, batch, context):
        part = objective.loss(variables, codes, batch, context)
        return part._replace(value=weight * part.value)

    return objective._replace(loss=loss)


def labeled_rows_only(objective: Objective) -> Objective:
    """Returns the objective with rows without a label as padding.

    By itself a method compares such a row with others: for a loss of pairs it is dissimilar to
    everything, as a row that truly has none of the classes. This is for training sets where the
    label is only unknown.

    Example:
        >>> from jaxhash.objectives import hashnet
        >>> method = labeled_rows_only(hashnet())
    """

    def loss(variables, codes, batch, context):
        mask = jnp.asarray(batch.mask) & has_label(jnp.asarray(batch.labels))
        return objective.loss(variables, codes, batch._replace(mask=mask), context)

    return objective._replace(loss=loss)


def add_penalty(objective: Objective, weight: Weight, penalty: Objective) -> Objective:
    """Adds a method's own penalty; a weight of 0 leaves the penalty out altogether.

    Raises:
        ValueError: if the weight is below 0.
    """
    check_weights(penalty=weight)
    return (
        _with_first_key(objective)
        if is_static_zero(weight)
        else combine(objective, weighted(weight, penalty))
    )


def _with_first_key(objective: Objective) -> Objective:
    """Gives the objective the random key that `combine` would give its first part."""

    def first(key):
        return jax.random.split(key, 1)[0]

    def init(key, setup):
        return objective.init(first(key), setup)

    def loss(variables, codes, batch, context):
        context = context._replace(key=first(context.key))
        return objective.loss(variables, codes, batch, context)

    return objective._replace(init=init, loss=loss)


def check_positive(**numbers: float | None) -> None:
    """Raises a ValueError that names the first number not above 0; None is skipped."""
    for name, number in numbers.items():
        if number is not None and not number > 0:
            raise ValueError(f"{name} must be above 0, got {number}")


def check_weights(**weights: Weight | None) -> None:
    """Raises a ValueError that names a weight below 0 or NaN; None and traced ones pass."""
    for name, weight in weights.items():
        if isinstance(weight, int | float) and not weight >= 0:
            raise ValueError(f"{name} must be at least 0, got {weight}")


def is_static_zero(weight: Weight) -> bool:
    """Returns whether a weight is a Python 0; a traced weight is not."""
    return isinstance(weight, int | float) and weight == 0
