"""How inputs reach the model: their size, their form, and how many are encoded at a time."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxhash import models
from jaxhash.data.readers.images import Resize
from jaxhash.data.readers.interactions import InteractionRows
from jaxhash.data.rows import ViewRows
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


def check_views(source: Source, where: str) -> None:
    """Raises a `UserError` if all views of an input are the same, where nothing augments them."""
    if not isinstance(source.inputs, ViewRows):
        raise UserError(
            f"`{where}` compares two views of each input, which would be the same: it needs `drop` for "
            "feature vectors, `crop` or `flip` for images"
        )


def make_model(config: Config, source: Source) -> nn.Module:
    """Returns the model that the configuration names, for the inputs of a source.

    Raises:
        UserError: if it does not take them, or not in the chunks that are asked for.
    """
    inputs = source.inputs[:1]
    model = config.model.make(inputs, nodes_of(source))
    if config.run.chunk_size is not None and models.updates_statistics(model, inputs):
        raise UserError(
            f"`chunk_size={config.run.chunk_size}`: {config.model.model} normalizes by statistics of "
            "the whole batch, which chunks do not have; it needs `freeze_norm`, and no `head_norm`"
        )
    return model


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
