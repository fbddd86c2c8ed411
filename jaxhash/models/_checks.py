"""Checks of a model against its inputs, by shapes alone."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.errors import ModifyScopeVariableError
from jaxtyping import PyTree, Shaped

from jaxhash.models._encoder import Encoder
from jaxhash.models._modalities import Modalities
from jaxhash.utils.errors import UserError


def check_model(name: str, model: nn.Module, inputs: PyTree[Shaped[np.ndarray, "n ..."]]) -> None:
    """Raises a `UserError` if the model of that name does not take such inputs; computes nothing."""
    try:
        jax.eval_shape(model.init, jax.random.key(0), inputs)
    except ValueError as error:
        raise UserError(f"{name}: {error}; `image_size` may help") from error


def updates_statistics(model: nn.Module, inputs: PyTree[Shaped[np.ndarray, "1 ..."]]) -> bool:
    """Returns whether the model updates statistics in training."""

    def train(key):
        variables = model.init(key, inputs)
        return model.apply(variables, inputs, train=True, rngs={"dropout": key})

    try:
        jax.eval_shape(train, jax.random.key(0))
    except ModifyScopeVariableError:
        return True
    return False


def preprocessing_of(model: nn.Module) -> dict[str, Any]:
    """Returns how the model's backbone prepares images; nothing is known of a user's own module.

    Of `Modalities` it is a dict of that, by the name of the modality.
    """
    if isinstance(model, Modalities):
        return {name: preprocessing_of(model.encoders[name]()) for name in model.names}
    backbone = model.backbone() if isinstance(model, Encoder) else None
    preprocessing = getattr(backbone, "preprocessing", None)
    return {} if preprocessing is None else dataclasses.asdict(preprocessing)
