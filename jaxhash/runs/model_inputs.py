"""How inputs reach the model: their size, their form, and how many are encoded at a time."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import PyTree, Shaped

from jaxhash import models
from jaxhash.data.readers.images import Resize
from jaxhash.data.readers.interactions import InteractionRows
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split
from jaxhash.data.tree_form import AnyForm, form_from_json, measure_rows
from jaxhash.models.config import GRAPH
from jaxhash.objectives import METHODS
from jaxhash.runs.config import Config
from jaxhash.training.distributed import broadcast_from_host0
from jaxhash.utils.errors import UserError


def file_resize(config: Config, model: nn.Module | None) -> Resize | None:
    """Returns how image files are brought to the size that the model takes."""
    preprocessing = (
        {}
        if model is not None or config.model.model == GRAPH
        else dataclasses.asdict(config.model.backbone().preprocessing)
    )
    return Resize.of(config.model.input_size, preprocessing)


def nodes_of(source: Source) -> dict[str, int] | None:
    """Returns the numbers of users and items that the model of a source encodes; None for no graph."""
    return source.inputs.nodes if isinstance(source.inputs, InteractionRows) else None


def check_interactions(config: Config, source: Source) -> None:
    """Raises a `UserError` if interactions are trained as single items, or the reverse."""
    method, is_graph = config.objective.objective, nodes_of(source) is not None
    if (METHODS[method].kind == "interactions") != is_graph:
        others = ", ".join(name for name, row in METHODS.items() if row.kind == "interactions")
        raise UserError(
            f"`objective={method}` learns from single items, and {source.name} holds interactions, "
            f"for {others}"
            if is_graph
            else f"`objective={method}` learns from interactions: it needs "
            "`dataset=interactions:FILE.npz`"
        )
    if is_graph and config.data.similarity != "classes":
        raise UserError(f"`similarity={config.data.similarity}`: interactions have no classes")


def check_chunks(
    config: Config, model: nn.Module, inputs: PyTree[Shaped[np.ndarray, "1 ..."]]
) -> None:
    """Raises a `UserError` if the batch is encoded in chunks by a model that needs it whole."""
    if config.run.chunk_size is not None and models.updates_statistics(model, inputs):
        raise UserError(
            f"`chunk_size={config.run.chunk_size}`: {config.model.model} normalizes by statistics of "
            "the whole batch, which chunks do not have; it needs `freeze_norm`, and no `head_norm`"
        )


def measure_form(
    config: Config, source: Source, split: Split, preprocessing: Mapping[str, Any]
) -> AnyForm:
    """Returns the form of the inputs of a model that is to be trained, the same in all processes."""

    def measure() -> dict[str, Any]:
        return measure_rows(
            source.inputs,
            split.train,
            image_size=config.model.input_size,
            preprocessing=preprocessing,
        ).to_json()

    return form_from_json(broadcast_from_host0(measure))
