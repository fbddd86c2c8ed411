"""Published weights for a backbone; every tensor of the file and of the model is accounted for."""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Shaped

from jaxhash.errors import UserError
from jaxhash.models._base import Backbone
from jaxhash.models._names import Names
from jaxhash.models._tensors import read_tensors

#: How many names of each kind a complaint lists.
_LISTED = 8

Tensors = Mapping[str, Shaped[np.ndarray, "..."]]


def load_weights(
    path: str | os.PathLike[str],
    model: Backbone,
    *,
    leave_out: Sequence[str] = (),
    inputs: Shaped[np.ndarray, "n ..."] | None = None,
) -> dict[str, Any]:
    """The variables of a backbone, read from a published weight file.

    Nothing is filled in and nothing is dropped in silence: each leaf of the model has a tensor of
    the file, and each tensor of the file has a leaf or is named in ``leave_out``. One thing is no
    weight and is passed over: ``num_batches_tracked``, which PyTorch's batch normalisation counts.

    Args:
        path: a file of PyTorch, safetensors, Keras HDF5 or .npz. Nothing in it is run.
        model: the backbone; with ``classes`` its published classifier is read too.
        leave_out: tensors of the file that are not wanted, or modules: ``"fc"`` means ``fc.weight``
            and ``fc.bias``. The one string ``"classifier"`` means the published classifier under
            whatever name, if the file has one.
        inputs: what the model will be given; ``model.example()`` by default. Only the position
            embeddings of a `ViT` depend on it.

    Returns:
        ``params`` and, where the model normalises batches, ``batch_stats``: nested dicts of NumPy
        arrays in the dtypes that the model has.

    Raises:
        UserError: if the file cannot be read, or does not fit; one line lists what is missing,
            unexpected, of another shape, or no finite real numbers.
        TypeError: if ``leave_out`` is another string.
        ValueError: if ``model.weight_names`` does not name the leaves of the model.

    Example:
        >>> import tempfile
        >>> from jaxhash.models import resnet18
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/bare.npz", **{"fc.bias": np.ones(1000)})
        ...     load_weights(f"{folder}/bare.npz", resnet18(), leave_out=["fc"])
        Traceback (most recent call last):
        ...
        jaxhash.errors.UserError: ...bare.npz does not fit ResNet: missing conv1.weight, ...
    """
    if isinstance(leave_out, str) and leave_out != "classifier":
        raise TypeError(f'leave_out is a sequence of names or "classifier", got {leave_out!r}')
    conventions = model.weight_names()
    if not conventions:
        raise UserError(f"no published weights are known for {type(model).__name__}")
    leaves = _leaves(model, model.example() if inputs is None else inputs)
    tensors = read_tensors(path)
    names = max(conventions.values(), key=lambda names: len(_file_names(names) & tensors.keys()))
    classifier = _classifier(names, leaves, model)
    names = {ours: tensor for ours, tensor in names.items() if ours in leaves}
    used = _file_names(names)
    if leave_out == "classifier":
        leave_out = sorted(classifier & tensors.keys())
    tensors = _without(tensors, leave_out, path)
    arrays, missing, misshapen, unusable = _arrays(tensors, names, leaves)
    unexpected = [name for name in tensors if name not in used and not _is_counter(name)]
    complaints = {
        "missing": missing,
        "unexpected": unexpected,
        "wrongly shaped": misshapen,
        "no finite real numbers": unusable,
    }
    if any(complaints.values()):
        said = "; ".join(f"{kind} {_list(found)}" for kind, found in complaints.items() if found)
        beyond = classifier & set(unexpected)
        hint = '; leave_out="classifier" leaves its classifier out' if beyond else ""
        raise UserError(f"{path} does not fit {type(model).__name__}: {said}{hint}")
    return traverse_util.unflatten_dict(arrays, sep="/")


def _arrays(
    tensors: Tensors, names: Names, leaves: Mapping[str, jax.ShapeDtypeStruct]
) -> tuple[dict[str, Shaped[np.ndarray, "..."]], list[str], list[str], list[str]]:
    """The leaves; and the tensors that are missing, of another shape, or no finite real numbers."""
    arrays = {}
    # Ordered sets: a tensor can be part of several leaves.
    missing, misshapen, unusable = {}, {}, {}
    for ours, (theirs, transform) in names.items():
        if theirs not in tensors:
            missing[theirs] = None
            continue
        tensor, leaf = tensors[theirs], leaves[ours]
        array = _transformed(transform, tensor)
        if array is None or array.shape != leaf.shape:
            becomes = "" if array is None else f" becomes {_times(array.shape)}"
            found = f"{_times(tensor.shape)}{becomes}, not {_times(leaf.shape)}"
            misshapen[f"{theirs} ({found})"] = None
        elif not jnp.issubdtype(tensor.dtype, jnp.floating):
            unusable[f"{theirs} ({tensor.dtype})"] = None
        else:
            with np.errstate(over="ignore"):
                arrays[ours] = np.array(array, leaf.dtype, order="C")
            if not np.isfinite(arrays[ours]).all():
                unusable[f"{theirs} (not finite in {leaf.dtype})"] = None
    return arrays, list(missing), list(misshapen), list(unusable)


def _leaves(
    model: Backbone, inputs: Shaped[np.ndarray, "n ..."]
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shape and dtype of each leaf, without computing any."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return traverse_util.flatten_dict(shapes, sep="/")


def _file_names(names: Names) -> set[str]:
    return {tensor.name for tensor in names.values()}


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == "num_batches_tracked"


def _classifier(names: Names, leaves: Mapping[str, Any], model: Backbone) -> set[str]:
    """The tensors of the published classifier.

    Raises:
        ValueError: if the map does not name the leaves of the model, these and the classifier's.
    """
    classifier = {name for name in names if name.startswith("params/classifier/")}
    beyond = names.keys() - leaves.keys() - (classifier if model.classes is None else set())
    if unnamed := sorted(leaves.keys() - names.keys()):
        raise ValueError(f"{type(model).__name__}.weight_names lacks {_list(unnamed)}")
    if beyond:
        raise ValueError(f"{type(model).__name__} has no {_list(sorted(beyond))}")
    return {names[name].name for name in classifier}


def _without(
    tensors: Tensors, leave_out: Iterable[str], path: str | os.PathLike[str]
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The tensors but for those that are named, alone or by a module.

    Raises:
        UserError: if one that is named is not there.
    """
    modules = {name: set(_modules(name)) for name in tensors}
    known = set().union(*modules.values())
    for name in leave_out:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{path}: leave_out names {name!r}, which the file does not hold{hint}")
    return {name: tensors[name] for name in tensors if modules[name].isdisjoint(leave_out)}


def _modules(name: str) -> Iterable[str]:
    """The name, and what is left of it in front of each of its dots and slashes."""
    yield name
    yield from (name[: found.start()] for found in re.finditer(r"[./]", name))


def _transformed(
    transform: Callable, tensor: Shaped[np.ndarray, "..."]
) -> Shaped[np.ndarray, "..."] | None:
    """A tensor as a leaf; None if it has too few axes, or too many, to become one."""
    try:
        return transform(tensor)
    except (ValueError, TypeError):  # the latter where shapes in signatures are checked
        return None


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _list(names: Sequence[str]) -> str:
    listed = [name if name.isprintable() else ascii(name) for name in names[:_LISTED]]
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(listed) + more
