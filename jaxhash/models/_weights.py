"""Published weights for a backbone: every tensor of the file must match a leaf of the model."""

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Shaped

from jaxhash.models._base import Backbone
from jaxhash.models._tensor_paths import TensorPath, count_by_prefix, relative_to
from jaxhash.models._weight_files import TensorFile
from jaxhash.models._weight_names import WeightNames
from jaxhash.utils.errors import UserError

#: Number of names of each kind in an error.
_MAX_LISTED = 8

#: Counters that PyTorch stores beside weights, for batch normalization and averaged models.
_COUNTERS = ("num_batches_tracked", "n_averaged")


class Weights(NamedTuple):
    """The variables of a backbone, and the file and prefix they were read from."""

    variables: dict[str, Any]
    file: Path
    prefix: str
    """Prefix of the published names in the file, such as ``state_dict.module.``, or empty."""


def load_weights(
    path: str | os.PathLike[str],
    model: Backbone,
    *,
    leave_out: Sequence[str] = (),
    inputs: Shaped[np.ndarray, "n ..."] | None = None,
) -> dict[str, Any]:
    """Reads the variables of a backbone from a published weight file.

    Nothing is initialized or dropped silently: each leaf of the model needs a tensor of the file,
    and each tensor of the same state dict needs a leaf or must be named in ``leave_out``. Only
    counters are ignored: ``num_batches_tracked`` of PyTorch's batch normalization, and
    ``n_averaged`` of its averaged models.

    A training checkpoint may hold several state dicts beside optimizers and scores, and wrappers
    prefix all names (``module.``, ``backbone.``). The state dict or prefix that holds all names of
    the model is found automatically; `read_weights` returns it. If several match, such as a student
    and its teacher, ``FILE:KEY`` selects one: ``"run.pth:teacher"``.

    Args:
        path: a file of PyTorch, safetensors, Keras HDF5 or .npz, or ``FILE:KEY`` for its tensors
            under a dotted path, which may include a part of their names, or ``FILE:`` for those at
            the top level. Nothing in the file is executed.
        model: the backbone; with ``classes``, its published classifier is read too.
        leave_out: names of tensors or modules of the file to ignore: ``"fc"`` stands for
            ``fc.weight`` and ``fc.bias``. The single string ``"classifier"`` stands for the
            published classifier under any name, if the file has one.
        inputs: example inputs of the model; ``model.example()`` by default. Only the position
            embeddings of a `ViT` depend on their shape.

    Returns:
        ``params`` and, for a model with batch normalization, ``batch_stats``: nested dicts of NumPy
        arrays in the dtypes of the model.

    Raises:
        UserError: if the file cannot be read, does not match, or matches in several ways; one line
            lists tensors that are missing, unexpected, of another shape, or not finite real
            numbers.
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
        jaxhash.utils.errors.UserError: ...bare.npz does not fit ResNet: missing conv1.weight, ...
    """
    return read_weights(path, model, leave_out=leave_out, inputs=inputs).variables


def read_weights(
    path: str | os.PathLike[str],
    model: Backbone,
    *,
    leave_out: Sequence[str] = (),
    inputs: Shaped[np.ndarray, "n ..."] | None = None,
) -> Weights:
    """Reads weights like `load_weights`, and returns the file and the prefix with them."""
    if isinstance(leave_out, str) and leave_out != "classifier":
        raise TypeError(f'leave_out is a sequence of names or "classifier", got {leave_out!r}')
    conventions = model.weight_names()
    if not conventions:
        raise UserError(f"no published weights are known for {type(model).__name__}")
    leaves = _leaves(model, model.example() if inputs is None else inputs)
    path, key = split_path_and_key(path)
    file = TensorFile(path)
    tensors = _select_key(file, key)
    prefix, names = _match_prefix(tensors, conventions, leaves, model, file, key)
    classifier = _classifier_names(names, leaves, model)
    names = {target: tensor for target, tensor in names.items() if target in leaves}
    used = _file_names(names)
    own, outside = _split_by_prefix(tensors, prefix, used)
    if leave_out == "classifier":
        leave_out = sorted(classifier & own.keys())
        outside = [name for name in outside if name not in classifier]
    own = _drop(own, leave_out, path)
    arrays, missing, misshapen, unusable = _read_leaves(own, file, names, leaves)
    unexpected = [name for name in (*own, *outside) if name not in used and not _is_counter(name)]
    problems = {
        "missing": missing,
        "unexpected": unexpected,
        "wrongly shaped": misshapen,
        "no finite real numbers": unusable,
    }
    prefix = f"{key}.{prefix}" if key else prefix
    if any(problems.values()):
        listed = "; ".join(f"{kind} {_list(found)}" for kind, found in problems.items() if found)
        where = f" (its {prefix}*)" if prefix else ""
        hint = ""
        if classifier & set(unexpected):
            hint = '; leave_out="classifier" leaves its classifier out'
        elif any(name in outside for name in unexpected):
            hint = f"; {path}:{prefix[:-1]} takes what is under that alone"
        raise UserError(f"{path}{where} does not fit {type(model).__name__}: {listed}{hint}")
    return Weights(traverse_util.unflatten_dict(arrays, sep="/"), path, prefix)


def split_path_and_key(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Splits ``FILE:KEY``; an existing file with the whole name has precedence.

    Example:
        >>> split_path_and_key("absent.pth:teacher")
        (PosixPath('absent.pth:teacher'), None)
    """
    text = os.fspath(path)
    if not os.path.isfile(text):
        for colon in reversed([found.start() for found in re.finditer(":", text)]):
            if os.path.isfile(text[:colon]):
                return Path(text[:colon]), text[colon + 1 :].strip("./")
    return Path(text), None


def _select_key(file: TensorFile, key: str | None) -> dict[TensorPath, TensorPath]:
    """Maps paths relative to the key to paths in the file.

    Raises:
        UserError: if there are no tensors under the key.
    """
    tensors = relative_to(file.tensors, key or "")
    if not tensors:
        groups = dict.fromkeys(
            tensor.group or re.split("[./]", tensor.name)[0] for tensor in file.tensors
        )
        raise UserError(f"{file.path} holds no tensors under {key!r}, but under {_list([*groups])}")
    return tensors


def _match_prefix(
    tensors: Iterable[TensorPath],
    conventions: Mapping[str, WeightNames],
    leaves: Mapping[str, jax.ShapeDtypeStruct],
    model: Backbone,
    file: TensorFile,
    key: str | None,
) -> tuple[str, WeightNames]:
    """Finds the prefix of the model's names in the file, and their naming convention.

    If the file lacks some of the names, the prefix with the most names is returned.

    Raises:
        UserError: if several prefixes hold all names, and the key does not select one.
    """
    best, matches = (0, "", next(iter(conventions.values()))), []
    for names in conventions.values():
        wanted = _file_names({target: names[target] for target in names.keys() & leaves.keys()})
        for prefix, count in count_by_prefix(tensors, wanted).items():
            if (count, -len(prefix)) > (best[0], -len(best[1])):
                best = count, prefix, names
            if count == len(wanted):
                matches.append((prefix, names, frozenset(f"{prefix}{name}" for name in wanted)))
    # The names of a convention may begin with a prefix themselves: such tensors match twice.
    unique = {}
    for prefix, names, matched in sorted(matches, key=lambda match: len(match[0])):
        unique.setdefault(matched, (prefix, names))
    found = dict(unique.values())
    if key is not None and "" in found:
        return "", found[""]
    if len(found) > 1:
        parent = f"{key}." if key else ""
        choices = [f"{file.path}:{parent}{prefix[:-1]}" for prefix in found]
        raise UserError(
            f"{file.path} holds all tensors of {type(model).__name__} more than once; say which "
            f"(`weights=FILE:KEY`): {_list(choices)}"
        )
    return next(iter(found.items()), best[1:])


def _split_by_prefix(
    tensors: Mapping[TensorPath, TensorPath], prefix: str, used: Collection[str]
) -> tuple[dict[str, TensorPath], list[str]]:
    """Splits the tensors of the used state dicts: by name after the prefix, and paths without it.

    Tensors of other state dicts, such as an optimizer's, are ignored.
    """
    prefixed = {
        tensor.dotted.removeprefix(prefix): tensor
        for tensor in tensors
        if tensor.dotted.startswith(prefix)
    }
    groups = {tensor.group for name, tensor in prefixed.items() if name in used}
    groups = groups or {tensor.group for tensor in tensors}
    own = {name: tensors[tensor] for name, tensor in prefixed.items() if tensor.group in groups}
    outside = [
        tensor.dotted
        for tensor in tensors
        if tensor.group in groups and not tensor.dotted.startswith(prefix)
    ]
    return own, outside


def _read_leaves(
    tensors: Mapping[str, TensorPath],
    file: TensorFile,
    names: WeightNames,
    leaves: Mapping[str, jax.ShapeDtypeStruct],
) -> tuple[dict[str, Shaped[np.ndarray, "..."]], list[str], list[str], list[str]]:
    """Reads the leaves; also lists missing, misshapen, and unusable tensors.

    A tensor is unusable if its values are not finite real numbers.
    """
    arrays = {}
    # Ordered sets: a tensor can be part of several leaves.
    missing, misshapen, unusable = {}, {}, {}
    for target, (source, transform) in names.items():
        if source not in tensors:
            missing[source] = None
            continue
        tensor, leaf = file.read(tensors[source]), leaves[target]
        array = _try_transform(transform, tensor)
        if array is None or array.shape != leaf.shape:
            becomes = "" if array is None else f" becomes {_format_shape(array.shape)}"
            found = f"{_format_shape(tensor.shape)}{becomes}, not {_format_shape(leaf.shape)}"
            misshapen[f"{source} ({found})"] = None
        elif not jnp.issubdtype(tensor.dtype, jnp.floating):
            unusable[f"{source} ({tensor.dtype})"] = None
        else:
            with np.errstate(over="ignore"):
                arrays[target] = np.array(array, leaf.dtype, order="C")
            if not np.isfinite(arrays[target]).all():
                unusable[f"{source} (not finite in {leaf.dtype})"] = None
    return arrays, list(missing), list(misshapen), list(unusable)


def _leaves(
    model: Backbone, inputs: Shaped[np.ndarray, "n ..."]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shape and dtype of each leaf, without computing it."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return traverse_util.flatten_dict(shapes, sep="/")


def _file_names(names: WeightNames) -> set[str]:
    return {tensor.name for tensor in names.values()}


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTERS


def _classifier_names(names: WeightNames, leaves: Mapping[str, Any], model: Backbone) -> set[str]:
    """Returns the names of the published classifier's tensors.

    Raises:
        ValueError: if the map does not name exactly the leaves of the model and its classifier.
    """
    classifier = {name for name in names if name.startswith("params/classifier/")}
    beyond = names.keys() - leaves.keys() - (classifier if model.classes is None else set())
    if unnamed := sorted(leaves.keys() - names.keys()):
        raise ValueError(f"{type(model).__name__}.weight_names lacks {_list(unnamed)}")
    if beyond:
        raise ValueError(f"{type(model).__name__} has no {_list(sorted(beyond))}")
    return {names[name].name for name in classifier}


def _drop(
    tensors: Mapping[str, TensorPath], leave_out: Iterable[str], path: str | os.PathLike[str]
) -> dict[str, TensorPath]:
    """Removes the tensors that are named, or whose module is named.

    Raises:
        UserError: if a name is not in the file.
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
    """Yields the name, and its part before each dot and slash."""
    yield name
    yield from (name[: found.start()] for found in re.finditer(r"[./]", name))


def _try_transform(
    transform: Callable, tensor: Shaped[np.ndarray, "..."]
) -> Shaped[np.ndarray, "..."] | None:
    """Converts a tensor to a leaf; None if its number of axes does not allow it."""
    try:
        return transform(tensor)
    except (ValueError, TypeError):  # TypeError if shapes in signatures are checked
        return None


def _format_shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _list(names: Sequence[str]) -> str:
    listed = [name if name.isprintable() else ascii(name) for name in names[:_MAX_LISTED]]
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(listed) + more
