"""Loads a hash function: from a finished run, an archive, or an index."""

from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import PyTree

from jaxhash.data.input_form import InputForm, read_form
from jaxhash.models import preprocessing_of
from jaxhash.retrieval.archive import load_archive
from jaxhash.retrieval.archive_format import is_archive
from jaxhash.retrieval.hasher import Hasher
from jaxhash.runs.config import Config
from jaxhash.runs.folder import damaged, read_finished, read_own_parts, read_results
from jaxhash.runs.own_parts import adapt_model
from jaxhash.training.checkpoint import read_variables
from jaxhash.utils.errors import UserError


def load(path: str | Path, *, model: nn.Module | None = None) -> Hasher:
    """Loads a hash function; no data of a training are opened.

    Args:
        path: folder of a finished run, or of a member of a sweep; an archive that `Hasher.save` wrote;
            or an index, whose hash function lies in its folder ``hasher``.
        model: the user's own module, if the run was trained with one.

    Raises:
        UserError: if the folder holds no hash function, or a file of it is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    if is_archive(folder):
        return load_archive(folder, model=model)
    if is_archive(folder / "hasher"):
        return load_archive(folder / "hasher", model=model)
    return _load_run(folder, model)


def _load_run(folder: Path, model: nn.Module | None) -> Hasher:
    """Loads the hash function of a finished run, by the model that its rule chose."""
    config, sweep = read_finished(folder)
    if sweep is not None:
        members = sorted(path.parent.name for path in folder.glob("*/results.json"))
        raise UserError(f"{folder} is a sweep; one of its members is loaded: {', '.join(members)}")
    if ("model" in read_own_parts(folder)) != (model is not None):
        raise UserError(
            f"{folder} was trained with a model of its own: jaxhash.load(folder, model=...) takes it"
            if model is None
            else f"{folder} was trained with the model that its config.json names: give no `model`"
        )
    form = read_form(folder / "inputs.json")
    if form is None:
        raise UserError(
            f"{folder} has no inputs.json: an older version of jaxhash made it; train anew"
        )
    module, variables = _read_model(folder, config, form, model)
    results = read_results(folder)
    return Hasher(module, variables, form, _provenance(results))


def _read_model(
    folder: Path, config: Config, form: InputForm, model: nn.Module | None
) -> tuple[nn.Module, PyTree]:
    example = np.zeros((1, *form.shape), form.dtype)
    module = config.model.make(example) if model is None else adapt_model(config, model, example)
    form.check(example, folder, preprocessing_of(module))
    results = read_results(folder)
    try:
        step = int(results["model_choice"]["step"])
    except Exception as error:  # it may hold anything
        raise damaged(folder, error) from error
    like = jax.eval_shape(module.init, jax.random.key(0), example)
    return module, read_variables(folder / "checkpoints" / str(step), dict(like))


def _provenance(results: dict) -> dict:
    names = ("dataset", "split", "split_sha256", "objective", "epochs", "seed")
    return {name: results[name] for name in names if name in results}
