"""Published weights for a backbone; every tensor of the file and of the model is accounted for."""

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
from jaxhash.models._names import Names
from jaxhash.models._places import Place, count_by_prefix, under
from jaxhash.models._tensors import TensorFile
from jaxhash.utils.errors import UserError

#: How many names of each kind a complaint lists.
_LISTED = 8

#: What PyTorch counts beside weights: batches of a normalization, and models of an average.
_COUNTERS = ("num_batches_tracked", "n_averaged")


class Weights(NamedTuple):
    """The variables of a backbone, and where in the file they stood."""

    variables: dict[str, Any]
    file: Path
    prefix: str
    """What stands before the published names, such as ``state_dict.module.``; empty if nothing."""


def load_weights(
    path: str | os.PathLike[str],
    model: Backbone,
    *,
    leave_out: Sequence[str] = (),
    inputs: Shaped[np.ndarray, "n ..."] | None = None,
) -> dict[str, Any]:
    """The variables of a backbone, read from a published weight file.

    Nothing is filled in and nothing is dropped in silence: each leaf of the model has a tensor of
    the file, and each tensor of the same state dict has a leaf or is named in ``leave_out``. What
    is no weight is passed over: ``num_batches_tracked``, which PyTorch's batch normalization
    counts, and ``n_averaged``, which its averages of models count.

    A training's checkpoint may hold several state dicts, beside optimizers and scores, and wrappers
    put prefixes before all names (``module.``, ``backbone.``). The state dict, or the prefix, under
    which all names of the model stand is found, and told by `read_weights`; where there are
    several, as with a student and its teacher, ``FILE:KEY`` says which: ``"run.pth:teacher"``.

    Args:
        path: a file of PyTorch, safetensors, Keras HDF5 or .npz, or ``FILE:KEY`` for the tensors of
            it under a dotted path, which may go on into their names; ``FILE:`` for those at its
            top. Nothing in it is run.
        model: the backbone; with ``classes`` its published classifier is read too.
        leave_out: tensors of the file that are not wanted, or modules: ``"fc"`` means ``fc.weight``
            and ``fc.bias``. The one string ``"classifier"`` means the published classifier under
            whatever name, if the file has one.
        inputs: what the model will be given; ``model.example()`` by default. Only the position
            embeddings of a `ViT` depend on it.

    Returns:
        ``params`` and, where the model normalizes batches, ``batch_stats``: nested dicts of NumPy
        arrays in the dtypes that the model has.

    Raises:
        UserError: if the file cannot be read, does not fit, or fits in several ways; one line lists
            what is missing, unexpected, of another shape, or no finite real numbers.
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
    """`load_weights`, and where in the file they stood."""
    if isinstance(leave_out, str) and leave_out != "classifier":
        raise TypeError(f'leave_out is a sequence of names or "classifier", got {leave_out!r}')
    conventions = model.weight_names()
    if not conventions:
        raise UserError(f"no published weights are known for {type(model).__name__}")
    leaves = _leaves(model, model.example() if inputs is None else inputs)
    path, key = split_path_and_key(path)
    file = TensorFile(path)
    places = _under(file, key)
    prefix, names = _find(places, conventions, leaves, model, file, key)
    classifier = _classifier(names, leaves, model)
    names = {ours: tensor for ours, tensor in names.items() if ours in leaves}
    used = _file_names(names)
    own, beside = _around(places, prefix, used)
    if leave_out == "classifier":
        leave_out = sorted(classifier & own.keys())
        beside = [name for name in beside if name not in classifier]
    own = _without(own, leave_out, path)
    arrays, missing, misshapen, unusable = _arrays(own, file, names, leaves)
    unexpected = [name for name in (*own, *beside) if name not in used and not _is_counter(name)]
    complaints = {
        "missing": missing,
        "unexpected": unexpected,
        "wrongly shaped": misshapen,
        "no finite real numbers": unusable,
    }
    prefix = f"{key}.{prefix}" if key else prefix
    if any(complaints.values()):
        said = "; ".join(f"{kind} {_list(found)}" for kind, found in complaints.items() if found)
        where = f" (its {prefix}*)" if prefix else ""
        hint = ""
        if classifier & set(unexpected):
            hint = '; leave_out="classifier" leaves its classifier out'
        elif any(name in beside for name in unexpected):
            hint = f"; {path}:{prefix[:-1]} takes what is under that alone"
        raise UserError(f"{path}{where} does not fit {type(model).__name__}: {said}{hint}")
    return Weights(traverse_util.unflatten_dict(arrays, sep="/"), path, prefix)


def split_path_and_key(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The two of ``FILE:KEY``; a file of the whole name comes first, for names may hold colons.

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


def _under(file: TensorFile, key: str | None) -> dict[Place, Place]:
    """Where tensors stand, seen from the key.

    Raises:
        UserError: if none stands there.
    """
    places = under(file.places, key or "")
    if not places:
        groups = dict.fromkeys(
            place.group or re.split("[./]", place.name)[0] for place in file.places
        )
        raise UserError(f"{file.path} holds no tensors under {key!r}, but under {_list([*groups])}")
    return places


def _find(
    places: Iterable[Place],
    conventions: Mapping[str, Names],
    leaves: Mapping[str, jax.ShapeDtypeStruct],
    model: Backbone,
    file: TensorFile,
    key: str | None,
) -> tuple[str, Names]:
    """What stands before the names of the model in the file, and these names in its convention.

    If the file lacks some of them, it is what stands before most.

    Raises:
        UserError: if all names stand behind several prefixes, and the key does not end in one.
    """
    best, fits = (0, "", next(iter(conventions.values()))), []
    for names in conventions.values():
        wanted = _file_names({ours: names[ours] for ours in names.keys() & leaves.keys()})
        for prefix, count in count_by_prefix(places, wanted).items():
            if (count, -len(prefix)) > (best[0], -len(best[1])):
                best = count, prefix, names
            if count == len(wanted):
                fits.append((prefix, names, frozenset(f"{prefix}{name}" for name in wanted)))
    # The names of a convention may begin with a prefix themselves: such tensors fit twice.
    once = {}
    for prefix, names, tensors in sorted(fits, key=lambda fit: len(fit[0])):
        once.setdefault(tensors, (prefix, names))
    found = dict(once.values())
    if key is not None and "" in found:
        return "", found[""]
    if len(found) > 1:
        above = f"{key}." if key else ""
        ways = [f"{file.path}:{above}{prefix[:-1]}" for prefix in found]
        raise UserError(
            f"{file.path} holds all tensors of {type(model).__name__} more than once; say which "
            f"(--weights FILE:KEY): {_list(ways)}"
        )
    return next(iter(found.items()), best[1:])


def _around(
    places: Mapping[Place, Place], prefix: str, used: Collection[str]
) -> tuple[dict[str, Place], list[str]]:
    """The tensors of the state dicts that are used: by name behind the prefix, and the others.

    Those of other state dicts, such as an optimizer's, are not accounted for.
    """
    behind = {
        place.path.removeprefix(prefix): place for place in places if place.path.startswith(prefix)
    }
    groups = {place.group for name, place in behind.items() if name in used}
    groups = groups or {place.group for place in places}
    own = {name: places[place] for name, place in behind.items() if place.group in groups}
    beside = [
        place.path
        for place in places
        if place.group in groups and not place.path.startswith(prefix)
    ]
    return own, beside


def _arrays(
    places: Mapping[str, Place],
    file: TensorFile,
    names: Names,
    leaves: Mapping[str, jax.ShapeDtypeStruct],
) -> tuple[dict[str, Shaped[np.ndarray, "..."]], list[str], list[str], list[str]]:
    """The leaves; and the tensors that are missing, of another shape, or no finite real numbers."""
    arrays = {}
    # Ordered sets: a tensor can be part of several leaves.
    missing, misshapen, unusable = {}, {}, {}
    for ours, (theirs, transform) in names.items():
        if theirs not in places:
            missing[theirs] = None
            continue
        tensor, leaf = file.read(places[theirs]), leaves[ours]
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
    return name.rpartition(".")[2] in _COUNTERS


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
    tensors: Mapping[str, Place], leave_out: Iterable[str], path: str | os.PathLike[str]
) -> dict[str, Place]:
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
