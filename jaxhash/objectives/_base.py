"""The interface between the training step and whatever is being minimized."""

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

#: A weight in a sum of losses, which may be traced.
Weight = int | float | Float[ArrayLike, ""]


class Batch(NamedTuple):
    """One batch, or one device's rows of it."""

    inputs: PyTree[Shaped[Any, "n ..."]]
    """What the model encodes: images, features, or a tree of them (two views, two modalities)."""
    labels: Shaped[Any, " n *classes"]
    """Class ids [n], of which -1 is none, or multi-hot rows [n, classes] of 0 and 1."""
    index: Int[Any, " n"]
    """Position of each row in the training set, from 0."""
    mask: Shaped[Any, " n"]
    """False, or 0, where the row is padding."""


class ClassSimilarity(NamedTuple):
    """What is known of the meaning of the labels or of the images; nothing by default."""

    distances: Float[Any, "classes classes"] | None = None
    """The semantic distance of each two classes, such as 1 - `jaxhash.similarity.tree_similarity`."""
    levels: Int[Any, "levels classes"] | None = None
    """The group of each class at each level of a hierarchy, above the classes themselves."""
    embeddings: Float[Any, "items dimensions"] | None = None
    """Of each training image what a distance of meanings is taken from, such as its caption's."""


class TableSharding(NamedTuple):
    """Which tables have their rows spread over the devices, in order and as many on each.

    A table is a `jaxhash.objectives.Bank`, `ItemTable` or `ClassTable` in an objective's state.
    """

    items: int | None = None
    """How many training images there are, if tables of them are spread; rows after these are
    padding. None where each device has such a table whole."""
    classes: int | None = None
    """The same of the classes."""


class Setup(NamedTuple):
    """What an objective may know of the run when it makes its parameters and its state."""

    bits: int
    """Length of a code."""
    items: int
    """Size of the training set."""
    classes: int
    """Number of classes."""
    multi_label: bool
    """Whether labels are multi-hot rows rather than ids."""
    inputs: PyTree[Shaped[Any, "n ..."]]
    """Inputs of the model, for their shape: decoders and memories of features need it."""
    variables: PyTree
    """The model's initial variables, for objectives that keep a copy of the model."""
    class_similarity: ClassSimilarity = ClassSimilarity()
    """What is known beyond the labels."""
    table_sharding: TableSharding = TableSharding()
    """Which tables are made for their rows to be spread over devices."""


class Variables(NamedTuple):
    """What belongs to an objective and lives in the checkpoint."""

    params: PyTree = ()
    """Trained with the network by the optimizer: classifiers, anchors, decoders."""
    state: PyTree = ()
    """Carried from step to step as the loss returns it: banks, codebooks, an averaged model."""


class Context(NamedTuple):
    """What varies from one call of a loss to the next."""

    key: Key[Array, ""]
    """Fresh each step, and the same on all devices."""
    progress: Float[Array, ""]
    """Share of the training that is done, in [0, 1)."""
    new_epoch: Bool[Array, ""]
    """Whether an epoch has just ended: then alternating methods take their other step."""
    variables: PyTree
    """The model's present variables; their gradient flows."""
    encode: Callable[..., PyTree]
    """``encode(variables, inputs)``: codes by a copy of the model, in evaluation mode; the features
    that it makes them from with ``return_features=True``."""
    axis_name: str | None
    """The mapped axis that the batch is spread over, or None."""
    table_sharding: TableSharding = TableSharding()
    """Which tables are spread over the mapped axis: of these a device has its own rows only."""


class Loss(NamedTuple):
    """What an objective returns."""

    value: Float[Array, ""]
    """Value of the whole batch over devices; its gradient is this device's share."""
    state: PyTree
    """The state for the next step, equal on all devices but for the rows of spread tables."""
    terms: dict[str, Float[Array, ""]]
    """Named parts of the value, unweighted, for the log."""


class _Objective(NamedTuple):
    init: Callable[[Key[Array, ""], Setup], Variables]
    loss: Callable[[Variables, PyTree, Batch, Context], Loss]
    views: int = 1
    """How many augmented views of each input it asks for; of several, inputs and codes are tuples."""
    any_views: bool = False
    """Whether it takes codes of however many views there are; else, where another objective asks
    for more than it does, it sees the first view."""


class Objective(_Objective):
    """A method as a pair of pure functions.

    ``init(key, setup)`` makes the `Variables`; ``loss(variables, codes, batch, context)`` returns
    the `Loss`. Codes are whatever the model made of ``batch.inputs``, so a model of two views or
    two modalities hands over a tree of codes. Every global quantity is the objective's business: it
    sums over ``context.axis_name`` as `jaxhash.losses` do. The loss computes on any mesh, whatever
    it is made of: see `jaxhash.ops.meshes.on_any_mesh`.

    The batch that it is given is checked first: labels are class ids of integers, or rows of 0 and
    1 in any dtype; index is integers, and mask 0 and 1. Anything else raises a ValueError or a
    TypeError that names it. The loss sees multi-hot labels and the mask as bools.
    """

    __slots__ = ()

    def __new__(cls, init: Callable, loss: Callable, views: int = 1, any_views: bool = False):
        """The pair, whose loss is put on any mesh here once for all methods."""
        return super().__new__(cls, init, _on_any_mesh(loss), views, any_views)


def _on_any_mesh(loss: Callable[..., Loss]) -> Callable[..., Loss]:
    """The loss of an objective on any mesh, of a checked batch; its state stays where it lies."""

    def returns(variables, codes, batch, context):
        return Loss(PartitionSpec(), specs_of(variables.state), PartitionSpec())

    anywhere = on_any_mesh(loss, out_specs=returns)

    def checked(variables, codes, batch, context):
        check_axis_name(context.axis_name)
        return anywhere(variables, codes, _checked(batch), context)

    return checked


def _checked(batch: Batch) -> Batch:
    """The batch as its parts are meant; what nobody asks for may be None."""
    rows = (len(batch.mask),)
    labels, index = batch.labels, batch.index
    if labels is not None:
        labels = as_labels("labels", labels)
        check_shape("labels", labels, (*rows, *labels.shape[1:]))
    if index is not None:
        check_shape("index", index, rows)
        index = as_index("index", index, minimum=-1)  # padding may be nowhere
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
    """A loss of the codes alone as an objective; of several views the mean over them.

    Args:
        name: of the term in the log.
        loss: ``loss(codes, where=, axis_name=)``, a scalar. Padding is 0 in the codes.
        random: whether the loss takes a ``key`` as well. Each view has a key of its own.
    """

    def of_views(variables, codes, batch, context):
        values = []
        for number, view in enumerate(jax.tree.leaves(codes)):
            key = jax.random.fold_in(context.key, number) if number else context.key
            keyed = {"key": key} if random else {}
            view = without_padding(view, batch)
            values.append(loss(view, where=batch.mask, axis_name=context.axis_name, **keyed))
        value = sum(values[1:], start=values[0]) / len(values)
        return Loss(value, variables.state, {name: value})

    return Objective(lambda key, setup: Variables(), of_views, any_views=True)


def probabilities(codes: Float[Array, "n bits"]) -> Float[Array, "n bits"]:
    """Raw codes u as (1 + tanh(u)) / 2 in float32, in [0, 1]."""
    return 0.5 + 0.5 * relax(codes.astype(jnp.float32))


def on_probabilities(loss: Callable[..., Float[Array, ""]]) -> Callable[..., Float[Array, ""]]:
    """The loss of the `probabilities`, as a loss of the raw codes."""
    return lambda codes, **options: loss(probabilities(codes), **options)


def on_relaxed(loss: Callable[..., Float[Array, ""]]) -> Callable[..., Float[Array, ""]]:
    """The loss of tanh(u) in float32, as a loss of the raw codes u."""
    return lambda codes, **options: loss(relax(codes.astype(jnp.float32)), **options)


def without_padding(codes: Float[Array, "n bits"], batch: Batch) -> Float[Array, "n bits"]:
    """The codes with zeros for padding, whatever the network made of it.

    A tanh, or a product with a matrix that is trained, would make a NaN there one of the gradient.
    """
    return jnp.where(batch.mask[:, None], codes, 0)


def noise_of_items(
    key: Key[Array, ""], index: Int[Array, " n"], bits: int
) -> Float[Array, "n bits"]:
    """Uniform numbers in [0, 1) for each row, by its place in the training set.

    They do not depend on its place in the batch, nor on the devices.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(index))
    return jax.vmap(lambda key: jax.random.uniform(key, (bits,)))(keys)


def combine(*objectives: Objective) -> Objective:
    """The sum of objectives, each with its own parameters, state and random key.

    Next to one of two views, an objective of one sees the first; a quantizer sees both.

    Raises:
        ValueError: at the first call, if two objectives log a term of the same name.

    Example:
        >>> from jaxhash.objectives import hashnet, hswd
        >>> both = combine(hashnet(), weighted(0.1, hswd()))
    """
    views = max((each.views for each in objectives), default=1)

    def seen_by(objective, of_views):
        sees_all = objective.views == views or objective.any_views
        return of_views if sees_all else of_views[0]

    def init(key, setup):
        keys = jax.random.split(key, len(objectives))
        made = [
            objective.init(k, setup._replace(inputs=seen_by(objective, setup.inputs)))
            for objective, k in zip(objectives, keys, strict=True)
        ]
        return Variables(tuple(v.params for v in made), tuple(v.state for v in made))

    def loss(variables, codes, batch, context):
        keys = jax.random.split(context.key, len(objectives))
        parts = [
            objective.loss(
                Variables(params, state),
                seen_by(objective, codes),
                batch._replace(inputs=seen_by(objective, batch.inputs)),
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
    """The objective times a weight, which may be traced; the terms it logs stay unweighted.

    Example:
        >>> from jaxhash.objectives import hswd
        >>> tenth = weighted(0.1, hswd())
    """

    def loss(variables, codes, batch, context):
        part = objective.loss(variables, codes, batch, context)
        return part._replace(value=weight * part.value)

    return objective._replace(loss=loss)


def add_penalty(objective: Objective, weight: Weight, penalty: Objective) -> Objective:
    """The objective with its own penalty, which a weight of 0 leaves out altogether.

    Raises:
        ValueError: if the weight is below 0.
    """
    check_weights(penalty=weight)
    return _alone(objective) if left_out(weight) else combine(objective, weighted(weight, penalty))


def _alone(objective: Objective) -> Objective:
    """The objective with the random key that `combine` gives its first part, and so its draws."""

    def first(key):
        return jax.random.split(key, 1)[0]

    def init(key, setup):
        return objective.init(first(key), setup)

    def loss(variables, codes, batch, context):
        context = context._replace(key=first(context.key))
        return objective.loss(variables, codes, batch, context)

    return objective._replace(init=init, loss=loss)


def check_positive(**numbers: float | None) -> None:
    """Raise a `ValueError` that names a number which is not above 0; None is no number."""
    for name, number in numbers.items():
        if number is not None and not number > 0:
            raise ValueError(f"{name} must be above 0, got {number}")


def check_weights(**weights: Weight | None) -> None:
    """Raise a `ValueError` that names a weight which is known to be below 0 or no number."""
    for name, weight in weights.items():
        if isinstance(weight, int | float) and not weight >= 0:
            raise ValueError(f"{name} must be at least 0, got {weight}")


def left_out(weight: Weight) -> bool:
    """Whether a weight is known to be 0; a traced one is not."""
    return isinstance(weight, int | float) and weight == 0
