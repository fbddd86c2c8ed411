"""What a configuration means: the data, the model, the objective and the optimizer it names."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import grain
import jax
import numpy as np
import optax
from jaxtyping import ArrayLike, Float, PyTree, Shaped

from jaxhash import models, objectives
from jaxhash.config import Config
from jaxhash.data.augment import Augment
from jaxhash.data.pipeline import training_batches
from jaxhash.data.protocols import make_split
from jaxhash.data.sources import Source, load_source
from jaxhash.data.splits import Split, refuse_leaks, with_validation
from jaxhash.errors import UserError
from jaxhash.objectives import Objective
from jaxhash.training.optimizer import make_optimizer
from jaxhash.training.state import TrainState, create_state
from jaxhash.training.step import train_step

#: The numbers of a configuration that may be traced; see `with_numbers`.
NUMBERS = ("learning_rate", "backbone_rate", "quantizer_weight", "weight_decay", "clip_norm")

Numbers = Mapping[str, Float[ArrayLike, ""]]


class Parts(NamedTuple):
    """Everything that a configuration determines."""

    source: Source
    split: Split
    model: nn.Module
    pretrained: dict[str, PyTree] | None
    objective: Objective
    optimizer: optax.GradientTransformation
    steps_per_epoch: int
    total_steps: int


def build(config: Config) -> Parts:
    """Open the data, read the weights and make the parts.

    Raises:
        UserError: if the data or the weights do not allow what the configuration asks for.
    """
    source = load_source(config.dataset, config.data_dir)
    split = _split(config, source)
    if config.choose == "validation" and not len(split.validation):
        raise UserError(
            "--choose validation needs validation items: --validation 0.1 holds out a tenth of the "
            "training items"
        )
    steps_per_epoch = -(-len(split.train) // config.batch_size)
    total_steps = config.epochs * steps_per_epoch
    numbers = _numbers(config)
    model = _model(config, source)
    return Parts(
        source,
        split,
        model,
        _pretrained(config, model, source),
        _objective(config, numbers),
        _optimizer(config, numbers, steps_per_epoch, total_steps),
        steps_per_epoch,
        total_steps,
    )


def with_numbers(config: Config, parts: Parts, numbers: Numbers) -> Parts:
    """The parts with other numbers in the objective and the optimizer.

    Args:
        config: the configuration of the parts.
        parts: what `build` made of it.
        numbers: values of some of the `NUMBERS`, which may be traced: a sweep maps over them.
    """
    numbers = _numbers(config) | numbers
    return parts._replace(
        objective=_objective(config, numbers),
        optimizer=_optimizer(config, numbers, parts.steps_per_epoch, parts.total_steps),
    )


def initial_state(config: Config, parts: Parts) -> TrainState:
    """The state before the first step; a function of the configuration and the weights alone."""
    (state,) = initial_states(config, parts, [config.seed])
    return state


def initial_states(config: Config, parts: Parts, seeds: Sequence[int]) -> list[TrainState]:
    """`initial_state` of each seed, compiled once for all of them."""
    create = jax.jit(
        partial(
            create_state,
            model=parts.model,
            objective=parts.objective,
            optimizer=parts.optimizer,
            items=len(parts.split.train),
            classes=len(parts.source.class_names),
            multi_label=parts.source.labels.ndim == 2,
        )
    )
    inputs = parts.source.inputs[parts.split.train[:1]]
    return [create(jax.random.key(seed), inputs, pretrained=parts.pretrained) for seed in seeds]


def make_batches(config: Config, parts: Parts) -> grain.DatasetIterator:
    """The training batches without end; see `training_batches`."""
    return training_batches(
        parts.source,
        parts.split.train,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=Augment(config.crop, config.flip),
    )


def make_step(parts: Parts) -> Callable:
    """`train_step` with all that stays the same, to be lifted over the devices."""
    return partial(
        train_step,
        model=parts.model,
        objective=parts.objective,
        optimizer=parts.optimizer,
        steps_per_epoch=parts.steps_per_epoch,
        total_steps=parts.total_steps,
    )


def check_model(name: str, model: nn.Module, inputs: Shaped[np.ndarray, "n ..."]) -> None:
    """Raise a `UserError` if the model of that name does not take such inputs; computes nothing."""
    try:
        jax.eval_shape(model.init, jax.random.key(0), inputs)
    except ValueError as error:
        raise UserError(f"{name}: {error}; --image-size may help") from error


def _pretrained(config: Config, model: models.Encoder, source: Source) -> dict[str, PyTree] | None:
    """The backbone's variables in the file of its weights."""
    if config.weights is None:
        return None
    return models.load_weights(
        config.weights, model.backbone(), leave_out="classifier", inputs=source.inputs[:1]
    )


def _split(config: Config, source: Source) -> Split:
    """The protocol's split, with validation items where they are asked for, and without a leak."""
    split = make_split(
        config.protocol,
        source.labels,
        source.part,
        queries=config.queries_per_class,
        train=config.train_per_class,
        seed=config.split_seed,
        folder=config.data_dir,
    )
    if config.validation:
        split = with_validation(
            split, source.labels, fraction=config.validation, seed=config.split_seed
        )
    refuse_leaks(split, allow=config.allow_leak)
    return split


def _model(config: Config, source: Source) -> nn.Module:
    images = source.inputs[:1].ndim == 4
    takes_vectors = config.model in ("mlp", "linear")
    if not images and (not takes_vectors or config.crop or config.flip):
        raise UserError(
            f"--dataset {config.dataset} holds feature vectors: they need --model mlp or linear, "
            "--crop 0 and --no-flip"
        )
    if not images and (config.image_size is not None or config.preprocessing != "published"):
        raise UserError(
            f"--dataset {config.dataset} holds feature vectors: --image-size and --preprocessing are "
            "for images"
        )
    backbone = models.backbone_of(
        config.model,
        preprocessing=config.preprocessing,
        image_size=config.image_size,
        dtype=config.dtype,
        freeze_stages=config.freeze_stages,
        freeze_norm=config.freeze_norm,
        remat=config.remat,
    )
    stages = len(list(backbone().stages()))
    if config.freeze_stages > stages:
        raise UserError(
            f"--freeze-stages must be at most {stages}, the stages of {config.model}, got "
            f"{config.freeze_stages}"
        )
    model = models.Encoder(backbone, config.bits)
    check_model(config.model, model, source.inputs[:1])
    return model


def _numbers(config: Config) -> dict[str, Float[ArrayLike, ""]]:
    return {name: getattr(config, name) for name in NUMBERS}


def _optimizer(
    config: Config, numbers: Numbers, steps_per_epoch: int, total_steps: int
) -> optax.GradientTransformation:
    return make_optimizer(
        learning_rate=numbers["learning_rate"],
        backbone_rate=numbers["backbone_rate"],
        freeze_stages=config.freeze_stages,
        weight_decay=numbers["weight_decay"],
        clip_norm=numbers["clip_norm"],
        warmup_steps=config.warmup_epochs * steps_per_epoch,
        total_steps=total_steps,
    )


def _objective(config: Config, numbers: Numbers) -> Objective:
    supervised = {"hashnet": objectives.hashnet}[config.objective](unseen=config.unseen)
    if config.quantizer == "none":
        return supervised
    quantizer = objectives.hswd(target=config.quantizer_target)
    return objectives.combine(
        supervised, objectives.weighted(numbers["quantizer_weight"], quantizer)
    )
