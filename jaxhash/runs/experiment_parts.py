"""The parts of an experiment as its configuration asks for them, checked against the data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Shaped

from jaxhash import models
from jaxhash.data.input_form import InputForm, measure_inputs
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split
from jaxhash.runs.config import Config
from jaxhash.runs.own_parts import updates_statistics
from jaxhash.training.distributed import broadcast_from_host0
from jaxhash.utils.errors import UserError

#: Largest number of padding rows in a batch that is larger than the training set.
MAX_PADDING = 4096


def check_model(name: str, model: nn.Module, inputs: Shaped[np.ndarray, "n ..."]) -> None:
    """Raises a `UserError` if the model of that name does not take such inputs; computes nothing."""
    try:
        jax.eval_shape(model.init, jax.random.key(0), inputs)
    except ValueError as error:
        raise UserError(f"{name}: {error}; `image_size` may help") from error


def check_sizes(config: Config, split: Split) -> None:
    """Raises a `UserError` if the split has too few items for the configuration."""
    train = len(split.train)
    if config.run.choose == "validation" and not len(split.validation):
        raise UserError(
            "`choose=validation` needs validation items: `validation=0.1` holds out a tenth of the "
            "training items"
        )
    if config.optimizer.batch_size - train > MAX_PADDING:
        raise UserError(
            f"`batch_size={config.optimizer.batch_size:,}` is far above the {train:,} training items; "
            f"at most {train:,} count in a step"
        )


def make_model(config: Config, inputs: Shaped[np.ndarray, "1 ..."]) -> models.Encoder:
    """Returns the encoder that the configuration names, checked against the inputs."""
    backbone = models.backbone_factory(
        config.model.model,
        preprocessing=config.model.preprocessing,
        image_size=config.model.image_size,
        dtype=config.model.dtype,
        freeze_stages=config.model.freeze_stages,
        freeze_norm=config.model.freeze_norm,
        remat=config.model.remat,
    )
    stages = len(list(backbone().stages()))
    if config.model.freeze_stages > stages:
        raise UserError(
            f"`freeze_stages` must be at most {stages}, the stages of {config.model.model}, got "
            f"{config.model.freeze_stages}"
        )
    model = models.Encoder(backbone, config.model.bits, config.model.head_norm)
    check_model(config.model.model, model, inputs)
    if config.run.chunk_size is not None and updates_statistics(model, inputs):
        raise UserError(
            f"`chunk_size={config.run.chunk_size}`: {config.model.model} normalizes by statistics of the whole "
            "batch, which chunks do not have; it needs `freeze_norm`, and no `head_norm`"
        )
    return model


def check_input_options(
    config: Config, inputs: Shaped[np.ndarray, "1 ..."], where: str, *, takes_any: bool
) -> None:
    """Raises a `UserError` if an option is for images and these are vectors, or the reverse.

    Args:
        config: the configuration.
        inputs: an input of the source.
        where: the argument that names the source, for messages.
        takes_any: whether the model is the user's own, of whatever inputs.
    """
    if inputs.ndim == 4:
        height, width = inputs.shape[1:3]
        if config.data.crop >= min(height, width):
            raise UserError(
                f"`crop={config.data.crop}` must be below {min(height, width)}: the images of "
                f"{where} are {height} x {width}, and a crop could miss them"
            )
        if config.data.drop:
            raise UserError(f"{where} holds images: `drop` is for feature vectors")
        return
    vectors, takes_vectors = f"{where} holds feature vectors", ("mlp", "linear")
    if (
        not (takes_any or config.model.model in takes_vectors)
        or config.data.crop
        or config.data.flip
    ):
        raise UserError(f"{vectors}: they need `model=mlp` or linear, `crop=0` and no `flip`")
    if config.data.augment_on == "device":
        raise UserError(f"{vectors}: `augment_on=device` is for images")
    if config.model.image_size is not None or config.model.preprocessing != "published":
        raise UserError(f"{vectors}: `image_size` and `preprocessing` are for images")


def preprocessing_of(model: nn.Module) -> dict[str, Any]:
    """Returns how the model's backbone prepares images; nothing is known of a user's own module."""
    backbone = model.backbone() if isinstance(model, models.Encoder) else None
    preprocessing = getattr(backbone, "preprocessing", None)
    return {} if preprocessing is None else dataclasses.asdict(preprocessing)


def measure_form(
    config: Config, source: Source, split: Split, preprocessing: Mapping[str, Any]
) -> InputForm:
    """Returns the form of the inputs of a model that is to be trained, the same in all processes."""

    def measure() -> dict[str, Any]:
        return measure_inputs(
            source.inputs,
            split.train,
            image_size=config.model.image_size,
            preprocessing=dict(preprocessing),
        ).to_json()

    return InputForm.from_json(broadcast_from_host0(measure))


def read_backbone_weights(
    config: Config, model: nn.Module, source: Source
) -> models.Weights | None:
    """Returns the backbone's variables from the file of its weights."""
    if config.model.weights is None:
        return None
    return models.read_weights(
        config.model.weights, model.backbone(), leave_out="classifier", inputs=source.inputs[:1]
    )
