"""Reads a hash function back from its archive, and checks that it is the one that was saved."""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.errors import FlaxError
from jaxtyping import PyTree

from jaxhash.retrieval.archive_format import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    encoder_from_json,
    input_from_json,
    read_archive,
)
from jaxhash.retrieval.hasher import CHECK_TOLERANCE, Hasher
from jaxhash.utils.errors import UserError, first_line

_REMEDY = "save the hash function again"

#: Entries of config.json that do not determine codes, or are compared with more care.
_MAY_DIFFER = ("check_code", "jaxhash", "made_by")


def load_archive(folder: str | Path, *, model: nn.Module | None = None) -> Hasher:
    """Reads a hash function from the folder that `Hasher.save` wrote.

    Args:
        folder: the folder.
        model: the user's own module, if the hash function has one.

    Raises:
        UserError: if a file is missing or damaged, was changed, or this machine computes other codes.
    """
    folder = Path(folder)
    config, weights = read_archive(folder)
    encoder = config.get("encoder")
    own = encoder.get("own") if isinstance(encoder, dict) else None
    if own is not None and model is None:
        raise UserError(
            f"{folder} has a model of the user's own, {own}: jaxhash.load(folder, model=...) takes it"
        )
    if own is None and model is not None:
        raise UserError(f"{folder} names its model: load it without one")
    try:
        if model is None:
            model = encoder_from_json(encoder, config["bits"])
        form = input_from_json(config["input"], model)
        example = np.zeros((1, *form.shape), form.dtype)
        like = jax.eval_shape(model.init, jax.random.key(0), example)
    except (KeyError, ValueError, TypeError, AttributeError, FlaxError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{folder / CONFIG_FILE} is damaged ({reason}); {_REMEDY}") from error
    hasher = Hasher(
        model,
        _unflatten(weights, like, folder / WEIGHTS_FILE),
        form,
        config.get("made_by", {}),
    )
    now = hasher.config
    changed = [name for name in now if name not in _MAY_DIFFER and config.get(name) != now[name]]
    if changed:
        raise UserError(
            f"{folder}: {CONFIG_FILE} or {WEIGHTS_FILE} was changed after it was written "
            f"({', '.join(changed)} differ); {_REMEDY}"
        )
    _verify_check_code(hasher, config, folder)
    return hasher


def _unflatten(weights: dict[str, np.ndarray], like: PyTree, path: Path) -> PyTree:
    """Returns the weights as variables of the model."""
    expected = {
        jax.tree_util.keystr(key, simple=True, separator="/"): leaf
        for key, leaf in jax.tree.leaves_with_path(like)
    }
    for name, leaf in expected.items():
        found = weights.get(name)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise UserError(f"{path} is of another model: no {name} of shape {leaf.shape}")
    if unknown := weights.keys() - expected.keys():
        raise UserError(f"{path} is of another model: it has {min(unknown)}")
    return jax.tree.unflatten(jax.tree.structure(like), [weights[name] for name in expected])


def _verify_check_code(hasher: Hasher, config: dict[str, Any], folder: Path) -> None:
    """Raises unless this machine computes the check code, but for bits within rounding of zero."""
    (values,) = hasher.encode_floats(hasher.check_input)
    try:
        stored = np.frombuffer(bytes.fromhex(config["check_code"]), np.uint8)
        bits = np.unpackbits(stored, count=hasher.bits).astype(bool)
        if len(stored) != -(-hasher.bits // 8):
            raise ValueError(f"{len(stored)} bytes")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / CONFIG_FILE} is damaged (check_code); {_REMEDY}") from error
    is_sure = np.abs(values) > CHECK_TOLERANCE * np.sqrt(np.square(values).mean())
    if other := int(((values >= 0) != bits)[is_sure].sum()):
        raise UserError(
            f"{folder}: this machine computes {other} of {hasher.bits} bits of the check code otherwise: "
            "its codes do not compare with those made before; try another version of jax, or device"
        )
