"""Loads a hash function: from a finished run, an archive, or an index."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import PyTree, Shaped

from jaxhash.data.form_files import read_form
from jaxhash.data.tree_form import AnyForm, part_forms
from jaxhash.models import MODALITY_PREFIX, Modalities, preprocessing_of
from jaxhash.retrieval.archive import load_archive
from jaxhash.retrieval.archive_format import is_archive
from jaxhash.retrieval.hasher import Hasher
from jaxhash.runs.config import Config
from jaxhash.runs.folder import damaged, read_finished, read_own_parts, read_results
from jaxhash.runs.own_parts import PlainModel, adapt_model
from jaxhash.training.checkpoint import read_variables
from jaxhash.utils.errors import UserError

#: Facts in results.json that say where a hash function comes from.
_PROVENANCE = ("dataset", "split", "split_sha256", "objective", "epochs", "seed")


def load(
    path: str | Path, *, model: nn.Module | None = None, modality: str | None = None
) -> Hasher:
    """Loads a hash function; the data that it was trained on are not needed.

    It computes in float32, also where the backbone was trained in bfloat16.

    Args:
        path: folder of a finished run, or of a member of a sweep; an archive, which `Hasher.save` or
            ``jaxhash export`` wrote; or an index.
        model: the user's own module, if the run was trained with one.
        modality: which hash function of a run of several modalities, such as ``title``; each is a
            hash function by itself, whose codes are compared with those of the others.

    Raises:
        UserError: if the folder holds no hash function, or a file of it is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        is_there = folder.exists()
        found = (
            "it is a file, and no run, archive or index"
            if is_there
            else "there is no such folder; jaxhash train or jaxhash fit makes one"
        )
        raise UserError(f"{folder}: {found}")
    for place in (folder, folder / "hasher"):
        if is_archive(place):
            if modality is not None:
                raise UserError(f"{folder} holds one hash function: load it without a `modality`")
            return load_archive(place, model=None if model is None else PlainModel(model))
    if not (folder / "config.json").exists():
        raise UserError(
            f"{folder} holds no hash function: it is no finished run, no archive and no index"
        )
    return _load_run(folder, model, modality)


def _load_run(folder: Path, model: nn.Module | None, modality: str | None) -> Hasher:
    """Loads the hash function of a finished run: the model that its rule chose."""
    config, sweep = read_finished(folder)
    if sweep is not None:
        members = sorted(path.parent.name for path in folder.glob("*/results.json"))
        raise UserError(
            f"{folder} is a sweep, and one of its members is loaded: {', '.join(members) or 'none'}"
        )
    if model is None and "model" in read_own_parts(folder):
        raise UserError(
            f"{folder} was trained with a model of the user's own: "
            "jaxhash.load(folder, model=...) takes it"
        )
    if model is not None and "model" not in read_own_parts(folder):
        raise UserError(
            f"{folder} was trained with `model={config.model.model}`: load it without a model"
        )
    form = read_form(folder / "inputs.json")
    if form is None:
        raise UserError(
            f"{folder} has no inputs.json, as an older version of jaxhash made it: train anew "
            "(codes.npz can still be evaluated)"
        )
    if form.kind == "ids" and model is None:
        raise UserError(
            f"{folder} is a model of users and items, which encodes those of its own graph alone: their "
            "codes are in its codes.npz"
        )
    _check_modality(folder, form, modality)
    example = form.example()
    module = _make_model(folder, config, form, example, model)
    results = read_results(folder)
    try:
        step = int(results["model_choice"]["step"])
    except Exception as error:  # it may hold anything
        raise damaged(folder, error) from error
    like = jax.eval_shape(module.init, jax.random.key(0), example)
    variables = read_variables(folder / "checkpoints" / str(step), dict(like))
    made_by = _provenance(results, step)
    if modality is None:
        return Hasher(module, variables, form, made_by)
    if not isinstance(module, Modalities):
        raise UserError(
            f"{folder} was trained with a model of the user's own, which is not divided into modalities"
        )
    name = MODALITY_PREFIX + modality
    own = {collection: tree[name] for collection, tree in variables.items() if name in tree}
    made_by |= {"modality": modality}
    return Hasher(module.encoders[modality](), own, form.forms[modality], made_by)


def _check_modality(folder: Path, form: AnyForm, modality: str | None) -> None:
    """Raises a `UserError` if a modality is missing, unknown, or there are none."""
    names = list(part_forms(form))
    if modality is None and names:
        raise UserError(
            f"{folder} holds a hash function for each of {', '.join(names)}: "
            f"`modality={names[0]}` loads that one"
        )
    if modality is not None and modality not in names:
        there = f"its modalities are {', '.join(names)}" if names else "its items have one modality"
        raise UserError(f"{folder}: there is no `modality={modality}`; {there}")


def _make_model(
    folder: Path,
    config: Config,
    form: AnyForm,
    example: PyTree[Shaped[np.ndarray, "1 ..."]],
    model: nn.Module | None,
) -> nn.Module:
    """Returns the model of a run without what is for training alone, checked against its inputs."""
    options = {"dtype": "float32", "freeze_stages": 0, "freeze_norm": False, "remat": False}
    try:
        if model is not None:
            return adapt_model(config, model, example)
        module = dataclasses.replace(config.model, **options).make(example)
        form.check(example, "its inputs.json", preprocessing_of(module))
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    return module


def _provenance(results: dict[str, Any], step: int) -> dict[str, Any]:
    """Returns where the hash function of a run comes from."""
    facts = {name: results[name] for name in _PROVENANCE if name in results}
    return {"by": "jaxhash train", **facts, "step": step}
