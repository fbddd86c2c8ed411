"""A user's own source, model and objective: checked, and the model adapted to the call of the step.

A model is a Flax module from a batch of inputs to codes [n, bits]. The training calls it with two
keyword arguments and sets one attribute. A module may have each of them or not:

- ``train``: True in training, for dropout and batch normalization.
- ``mask``: [n], False for rows of padding.
- ``axis_name``: attribute with the mapped axis over which the batch is sharded.

A module that updates ``batch_stats`` needs all three, as its statistics are those of the valid rows
of the whole batch; `jaxhash.models.BatchNorm` computes them. An objective of several views calls the
model on a tuple of batches. A module that lacks one of the three gets them as one large batch.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from jaxhash import models
from jaxhash.data.sources import Source
from jaxhash.objectives import Objective
from jaxhash.runs.config import Config
from jaxhash.utils.errors import UserError, first_line

#: Arguments that a module would miss without an error, as they often have a default.
_OTHER_NAMES_OF_TRAIN = {"training", "is_training", "deterministic", "use_running_average"}


class PlainModel(nn.Module):
    """A module that lacks ``train``, ``mask`` or ``axis_name``, as one that has them with defaults.

    Its variables have the names that they have in the module.

    Attributes:
        module: the module from a batch of inputs to codes.
        axis_name: mapped axis over which the batch is sharded; passed to a module that has it.
    """

    module: nn.Module
    axis_name: str | None = None

    def setup(self):
        """Joins the scope of the module, so that its variables keep their names."""
        if hasattr(self.module, "axis_name"):
            self.inner = self.module.clone(axis_name=self.axis_name)
        else:
            self.inner = self.module
        nn.share_scope(self, self.inner)

    def __call__(
        self,
        inputs: PyTree[Shaped[Array | np.ndarray, "n ..."]],
        *,
        train: bool = False,
        mask: Bool[Array | np.ndarray, " n"] | None = None,
    ) -> PyTree[Float[Array, "n bits"]]:
        """Computes codes; several views pass through the module as one large batch.

        A dict of modalities is passed as it is.
        """
        views, tree = jax.tree.flatten(inputs)
        is_tree = isinstance(inputs, dict)  # of modalities, which the module tells apart
        if mask is not None and not is_tree:
            mask = jnp.tile(mask, len(views))
        arguments = {"train": train, "mask": mask}
        taken = {name: value for name, value in arguments.items() if name in _arguments(self.inner)}
        if is_tree:
            return self.inner(inputs, **taken)
        x = views[0] if len(views) == 1 else jnp.concatenate(views)
        return tree.unflatten(jnp.split(self.inner(x, **taken), len(views)))


def own_parts(**parts: Any) -> tuple[str, ...]:
    """Returns the names of the parts that are given.

    Example:
        >>> own_parts(source=None, model=3)
        ('model',)
    """
    return tuple(name for name, part in parts.items() if part is not None)


def checked_source(source: Source) -> Source:
    """Returns the source with labels of 32 bits, or rows of int8.

    Raises:
        UserError: if inputs, labels and class names do not fit together.
    """
    if not isinstance(source, Source):
        raise UserError(
            f"`source` must be a Source, got {_kind(source)}; jaxhash.data.from_arrays makes one"
        )
    labels, names = source.labels, source.class_names
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "biu" or not labels.size:
        raise UserError("`source`: labels must be integers in a NumPy array")
    if len(source.inputs) != len(labels):
        raise UserError(f"`source` has {len(source.inputs):,} inputs and {len(labels):,} labels")
    example = source.inputs[:1]
    parts = example.values() if isinstance(example, dict) else [example]
    if not all(_is_input(part, is_part=isinstance(example, dict)) for part in parts):
        raise UserError(
            "`source`: inputs must be uint8 images [items, height, width, channels] or float32 "
            "vectors [items, dimensions], or TreeRows of such and of int32 arrays; "
            "jaxhash.data.from_arrays converts others"
        )
    if labels.ndim == 1:
        fits = labels.min() >= -1 and labels.max() < len(names)
    else:
        fits = labels.shape[1:] == (len(names),) and np.isin(labels, (0, 1)).all()
    if not fits:
        raise UserError(
            f"`source`: labels must be class ids from -1 to {len(names) - 1}, or rows of 0 and 1 "
            f"[items, {len(names)}], as there are {len(names)} class_names"
        )
    return dataclasses.replace(source, labels=labels.astype((np.int32, np.int8)[labels.ndim - 1]))


def _is_input(example: Any, *, is_part: bool) -> bool:
    """Returns whether an array is one of images or vectors; of a tree, also one of integers."""
    dtype = str(getattr(example, "dtype", ""))
    kinds = ((4, "uint8"), (2, "float32"))
    return (getattr(example, "ndim", 0), dtype) in kinds or (is_part and dtype == "int32")


def check_objective(objective: Objective) -> None:
    """Raises a `UserError` unless the objective is one."""
    if not isinstance(objective, Objective):
        raise UserError(
            f"`objective` must be an Objective, such as combine(hashnet(), hswd()), got {_kind(objective)}"
        )


def adapt_model(
    config: Config, model: nn.Module, inputs: PyTree[Shaped[np.ndarray, "1 ..."]]
) -> nn.Module:
    """Returns a user's own model in the form that the training calls; computes nothing.

    Raises:
        UserError: if the model does not make codes of such inputs.
    """
    bits = config.model.bits
    if config.model.weights is not None:
        raise UserError(
            "`weights` is for a backbone that `model` names, not for a model of your own"
        )
    if not isinstance(model, nn.Module):
        raise UserError(f"`model` must be a Flax Linen module, got {_kind(model)}")
    if others := _OTHER_NAMES_OF_TRAIN.intersection(_arguments(model)):
        raise UserError(f"`model` must call its argument {min(others)} train, True in training")
    arguments = _arguments(model)
    missing = [name for name in ("train", "mask") if name not in arguments]
    if not hasattr(model, "axis_name"):
        missing.append("axis_name")
    is_whole = not missing and all(
        arguments[name].default is not Parameter.empty for name in ("train", "mask")
    )
    adapted = model if is_whole else PlainModel(model)

    def encode(key):
        variables, mask = adapted.init(key, inputs), jnp.ones(1, bool)
        options = {"train": True, "mask": mask, "mutable": ["batch_stats"]}
        adapted.apply(variables, inputs, rngs={"dropout": key}, **options)
        return adapted.apply(variables, inputs, train=False)

    try:
        codes = jax.eval_shape(encode, jax.random.key(0))
    except (TypeError, ValueError, AttributeError, FlaxError) as error:
        raise UserError(f"`model`: {first_line(error)}") from error
    of_each = codes if isinstance(inputs, dict) and isinstance(codes, tuple) else (codes,)
    for each in of_each:
        shape = getattr(each, "shape", None)
        if shape != (1, bits) or not jnp.issubdtype(each.dtype, jnp.floating):
            found = f"codes of shape {shape}" if shape else _kind(each)
            raise UserError(
                f"`model` makes {found} of one input; expected (1, {bits}), as `bits={bits}`"
            )
    if models.updates_statistics(adapted, inputs):
        if missing:
            raise UserError(
                f"`model` updates batch statistics, so it also needs {' and '.join(missing)}: "
                "arguments train and mask, and an attribute axis_name; "
                "jaxhash.models.BatchNorm takes them"
            )
        if config.run.chunk_size is not None:
            raise UserError("`chunk_size`: `model` normalizes by statistics of the whole batch")
    return adapted


def _arguments(module: nn.Module) -> Mapping[str, Parameter]:
    """Returns the arguments that a module is called with."""
    return inspect.signature(module.__call__).parameters


def _kind(value: object) -> str:
    """Returns the kind of a value, for messages."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
