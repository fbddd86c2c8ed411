"""The files of a hash function that is taken home: ``config.json`` and ``model.safetensors``.

Both are read by anything, and nothing of them is executed. The configuration names a backbone of
`jaxhash.models` and how it is called, so that the same module can be made again from it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from jaxhash.data.input_form import InputForm
from jaxhash.models import BACKBONES, Encoder, Preprocessing, preprocessing_of
from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.files import read_json, whole_file, write_json

#: Value of ``format`` in config.json.
FORMAT = "jaxhash-hasher"

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

#: Options of a backbone that matter in training alone.
_OF_TRAINING = ("freeze_stages", "freeze_norm", "remat")

_REMEDY = "save the hash function again"


def encoder_to_json(model: nn.Module) -> dict[str, Any]:
    """Describes a model so that `encoder_from_json` makes it again.

    Fields of the preprocessing that have their default are left out, so that the description, and with
    it the digest, does not change with a version that has more of them. A module that is no `Encoder` on
    a backbone of `jaxhash.models` is described by its class alone, as ``{"own": NAME}``.

    Example:
        >>> from jaxhash.models import backbone_factory
        >>> description = encoder_to_json(Encoder(backbone_factory("linear"), 16))
        >>> description["backbone"], description["preprocessing"], description["head_norm"]
        ('linear', {'mean': [127.5], 'std': [127.5]}, False)
    """
    own = {"own": type(getattr(model, "module", model)).__name__}
    if not isinstance(model, Encoder):
        return own
    factory = model.backbone if isinstance(model.backbone, partial) else partial(model.backbone)
    names = [name for name, make in BACKBONES.items() if make is factory.func]
    options = {name: v for name, v in factory.keywords.items() if name not in _OF_TRAINING}
    dtype = jnp.dtype(options.pop("dtype", jnp.float32)).name
    preprocessing = options.pop("preprocessing", factory().preprocessing)
    if not names or factory.args or not _is_json(options):
        return own
    changed = {
        field.name: getattr(preprocessing, field.name)
        for field in dataclasses.fields(preprocessing)
        if field.name != "size" and getattr(preprocessing, field.name) != field.default
    }
    return {
        "backbone": names[0],
        "options": _as_json(options),
        "preprocessing": _as_json(changed),
        "image_size": preprocessing.size,
        "dtype": dtype,
        "head_norm": model.head_norm,
        "unit_norm": model.unit_norm,
    }


def encoder_from_json(content: Mapping[str, Any], bits: int) -> Encoder:
    """Makes the model that `encoder_to_json` described.

    Raises:
        ValueError: if it is not described as this version describes one.
    """
    try:
        backbone = partial(
            BACKBONES[content["backbone"]],
            preprocessing=Preprocessing(
                **_with_tuples(content["preprocessing"]), size=content["image_size"]
            ),
            dtype=content["dtype"],
            **_with_tuples(content["options"]),
        )
        if not jnp.issubdtype(content["dtype"], jnp.floating):
            raise TypeError(f"dtype {content['dtype']} is no float")
        backbone()
        return Encoder(backbone, bits, content["head_norm"], unit_norm=content["unit_norm"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its encoder is unknown to this version: {first_line(error)}") from error


def input_to_json(form: InputForm) -> dict[str, Any]:
    """Describes the form of inputs; their preprocessing is described with the encoder."""
    return {name: value for name, value in form.to_json().items() if name != "preprocessing"}


def input_from_json(content: Mapping[str, Any], model: nn.Module) -> InputForm:
    """Makes the form that `input_to_json` described.

    Args:
        content: its result.
        model: the model, which knows how images are prepared.

    Raises:
        ValueError: if it is of another form.
    """
    preprocessing = _as_json(preprocessing_of(model)) if content.get("kind") == "images" else None
    return InputForm.from_json({**content, "preprocessing": preprocessing})


def flatten_variables(variables: PyTree) -> dict[str, np.ndarray]:
    """Returns the leaves of a tree of dictionaries by their path, such as ``params/head/kernel``."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.ascontiguousarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(variables)
    }


def digest(config: Mapping[str, Any], variables: PyTree) -> str:
    """Returns the SHA-256 of all that determines codes: weights, and the configuration of the model.

    Args:
        config: JSON values.
        variables: the model's variables.
    """
    found = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, leaf in sorted(flatten_variables(variables).items()):
        found.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        found.update(leaf.data if leaf.size else b"")
    return found.hexdigest()


def write_archive(folder: Path, config: Mapping[str, Any], variables: PyTree) -> None:
    """Writes both files; the configuration last, so that a folder with one is whole.

    Raises:
        UserError: if the folder holds something else, or another hash function.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose another folder")
    names = {path.name.removesuffix(".partial") for path in folder.glob("*")}
    if not names <= {CONFIG_FILE, WEIGHTS_FILE}:
        raise UserError(
            f"{folder} holds {min(names - {CONFIG_FILE, WEIGHTS_FILE})}; choose another folder"
        )
    if CONFIG_FILE in names:
        stored = read_json(folder / CONFIG_FILE, "choose another folder").get("digest")
        if stored != config["digest"]:
            raise UserError(f"{folder} holds another hash function; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS_FILE, "wb") as file:
        file.write(save(flatten_variables(variables), {"format": "flax"}))
    write_json(folder / CONFIG_FILE, dict(config))


def is_archive(folder: Path) -> bool:
    """Returns whether a folder holds a hash function, perhaps a damaged one."""
    if (folder / WEIGHTS_FILE).exists():
        return True
    try:
        return read_json(folder / CONFIG_FILE, "").get("format") == FORMAT
    except UserError:
        return False


def read_input_kind(folder: Path) -> str:
    """Returns what a hash function takes, ``images`` or ``vectors``; loads no weights.

    Raises:
        UserError: if its configuration is missing or damaged.
    """
    path = folder / CONFIG_FILE
    form = read_json(path, _REMEDY).get("input")
    kind = form.get("kind") if isinstance(form, dict) else None
    if kind not in ("images", "vectors"):
        raise UserError(f"{path} is damaged (it names no kind of input); {_REMEDY}")
    return kind


def read_archive(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads both files.

    Returns:
        The configuration, and the weights by their path.

    Raises:
        UserError: if one is missing or cannot be read.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no hash function: it has no {name}")
    config = read_json(folder / CONFIG_FILE, _REMEDY)
    if config.get("format") != FORMAT:
        raise UserError(
            f"{folder / CONFIG_FILE} is of no hash function: its format is not {FORMAT}"
        )
    try:
        return config, load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{folder / WEIGHTS_FILE} is damaged ({first_line(error)}); {_REMEDY}"
        ) from error


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns fields from JSON with tuples for lists, as modules have them."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
