"""What a configuration means: the data, the model, the objective and the optimizer it names."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import grain
import jax
import optax

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


class Parts(NamedTuple):
    """Everything that a configuration determines."""

    source: Source
    split: Split
    model: nn.Module
    objective: Objective
    optimizer: optax.GradientTransformation
    steps_per_epoch: int
    total_steps: int


def build(config: Config) -> Parts:
    """Open the data and make the parts.

    Raises:
        UserError: if the data do not allow what the configuration asks for.
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
    optimizer = make_optimizer(
        learning_rate=config.learning_rate,
        head_multiplier=config.head_multiplier,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        warmup_steps=config.warmup_epochs * steps_per_epoch,
        total_steps=total_steps,
    )
    return Parts(
        source,
        split,
        _model(config, source),
        _objective(config),
        optimizer,
        steps_per_epoch,
        total_steps,
    )


def initial_state(config: Config, parts: Parts) -> TrainState:
    """The state before the first step; a function of the configuration alone."""
    create = partial(
        create_state,
        model=parts.model,
        objective=parts.objective,
        optimizer=parts.optimizer,
        items=len(parts.split.train),
        classes=len(parts.source.class_names),
        multi_label=parts.source.labels.ndim == 2,
    )
    inputs = parts.source.inputs[parts.split.train[:1]]
    return jax.jit(create)(jax.random.key(config.seed), inputs)


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
    if not images and (config.model == "cnn" or config.crop or config.flip):
        raise UserError(
            f"--dataset {config.dataset} holds feature vectors: they need --model mlp, --crop 0 and "
            "--no-flip"
        )
    backbone = {"cnn": models.CNN, "mlp": models.MLP}[config.model]
    return models.Encoder(backbone, config.bits)


def _objective(config: Config) -> Objective:
    supervised = {"hashnet": objectives.hashnet}[config.objective](unseen=config.unseen)
    if config.quantizer == "none":
        return supervised
    quantizer = objectives.hswd(target=config.quantizer_target)
    return objectives.combine(supervised, objectives.weighted(config.quantizer_weight, quantizer))
