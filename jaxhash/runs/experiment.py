"""What a configuration means: the data, the model, the objective and the optimizer it names."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.errors import ModifyScopeVariableError
from jaxtyping import ArrayLike, Float, PyTree, Shaped
from rich.console import Console

from jaxhash import models
from jaxhash.data.augment import Augment
from jaxhash.data.checks.training_data import examine, open_split
from jaxhash.data.input_form import InputForm, measure_inputs
from jaxhash.data.load import load_source
from jaxhash.data.pipeline import training_batches
from jaxhash.data.readers.class_similarity import read_class_similarity
from jaxhash.data.readers.image_files import INDEX
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split
from jaxhash.objectives import (
    Batch,
    ClassSimilarity,
    Context,
    Objective,
    TableSharding,
    Variables,
    sharded_leaves,
)
from jaxhash.runs.composition import objective_of
from jaxhash.runs.config import Config
from jaxhash.training.distributed import broadcast_from_host0
from jaxhash.training.optimizer import make_optimizer
from jaxhash.training.parallel import DataParallel
from jaxhash.training.state import TrainState, create_state
from jaxhash.training.step import loss_step, train_step
from jaxhash.utils.errors import UserError

#: Tables of images, or of classes, that take as many bytes together are spread over devices.
SPREAD_BYTES = 2**28

#: Rows of a batch that may be there for nothing, where there are fewer training items.
MOST_PADDING = 4096

#: The numbers of a configuration that may be traced; see `with_hyperparams`.
NUMBERS = ("learning_rate", "backbone_rate", "quantizer_weight", "weight_decay", "clip_norm")

Numbers = Mapping[str, Float[ArrayLike, ""]]


class Parts(NamedTuple):
    """Everything that a configuration determines."""

    source: Source
    split: Split
    model: nn.Module
    pretrained: models.Weights | None
    objective: Objective
    optimizer: optax.GradientTransformation
    steps_per_epoch: int
    total_steps: int
    class_similarity: ClassSimilarity = ClassSimilarity()
    """Of the classes or, where it has embeddings, of all items of the source."""
    table_sharding: TableSharding = TableSharding()
    """Which tables of the objective have their rows sharded over devices."""
    form: InputForm | None = None
    """What the inputs of the source were prepared by; it belongs to the model."""
    equal_inputs: Mapping[str, Mapping[str, int]] = MappingProxyType({})
    """By two parts of the split, the items of the first that are equal to another of the second."""
    data_sha256: str = ""
    """Digest of the split, the labels and the inputs of its items."""
    leaks: Sequence[str] = ()
    """What is wrong with the split, and allowed."""
    notes: Sequence[str] = ()
    """What was made of the data, where there was a choice."""
    warnings: Sequence[str] = ()
    """What is odd about the data."""


def build(
    config: Config, *, form: InputForm | None = None, console: Console | None = None
) -> Parts:
    """Open the data, read the weights and make the parts.

    Args:
        config: what they are made from.
        form: what the inputs of a model that is there already are; measured on the training items of
            one that is not.
        console: where progress is printed.

    Raises:
        UserError: if the data or the weights do not allow what the configuration asks for.
    """
    source = load_source(
        config.dataset,
        config.data_dir,
        config.image_size,
        index=config.run_dir and config.run_dir / INDEX,
    )
    split = open_split(config, source)
    if config.choose == "validation" and not len(split.validation):
        raise UserError(
            "--choose validation needs validation items: --validation 0.1 holds out a tenth of the "
            "training items"
        )
    if config.batch_size - len(split.train) > MOST_PADDING:
        raise UserError(
            f"--batch-size {config.batch_size:,} is far above the {len(split.train):,} training items; "
            f"at most {len(split.train):,} count in a step"
        )
    steps_per_epoch = -(-len(split.train) // config.batch_size)
    total_steps = config.epochs * steps_per_epoch
    numbers = _numbers(config)
    model = _model(config, source)
    if form is None:
        form = InputForm.from_json(
            broadcast_from_host0(lambda: _measured(config, model, source, split).to_json())
        )
    form.check(source.inputs, f"--dataset {config.dataset}", _preprocessing(model))
    class_similarity = read_class_similarity(config.similarity, source, config.data_dir)
    findings = examine(config, source, split, form, class_similarity, console)
    source = dataclasses.replace(source, inputs=form.prepare(source.inputs))
    parts = Parts(
        source,
        split,
        model,
        _pretrained(config, model, source),
        objective_of(config),
        _optimizer(config, numbers, steps_per_epoch, total_steps),
        steps_per_epoch,
        total_steps,
        class_similarity,
        form=form,
        **findings,
    )
    return parts._replace(
        table_sharding=_table_sharding(config, parts, _objective_state(config, parts))
    )


def with_hyperparams(config: Config, parts: Parts, numbers: Numbers) -> Parts:
    """The parts with other numbers in the objective and the optimizer.

    Args:
        config: the configuration of the parts.
        parts: what `build` made of it.
        numbers: values of some of the `NUMBERS`, which may be traced: a sweep maps over them.
    """
    numbers = _numbers(config) | numbers
    return parts._replace(
        objective=objective_of(config, numbers.get("quantizer_weight")),
        optimizer=_optimizer(config, numbers, parts.steps_per_epoch, parts.total_steps),
    )


def initial_state(config: Config, parts: Parts) -> TrainState:
    """The state before the first step; a function of the configuration and the weights alone."""
    (state,) = initial_states(config, parts, [config.seed])
    return state


def initial_states(config: Config, parts: Parts, seeds: Sequence[int]) -> Iterator[TrainState]:
    """`initial_state` of each seed, one after the other, compiled once for all of them."""
    create, inputs = jax.jit(_creation(parts)), _example(parts)
    pretrained = parts.pretrained and parts.pretrained.variables
    for seed in seeds:
        yield create(jax.random.key(seed), inputs, pretrained=pretrained)


def state_bytes(parts: Parts) -> int:
    """Memory that the state of a training takes; computes nothing."""
    pretrained = parts.pretrained and parts.pretrained.variables
    state = jax.eval_shape(
        _creation(parts), jax.random.key(0), _example(parts), pretrained=pretrained
    )
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def make_batches(config: Config, parts: Parts, *, start: int = 0) -> Iterator[Batch]:
    """This process's rows of the training batches after ``start``; see `training_batches`."""
    return training_batches(
        parts.source,
        parts.split.train,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=augmentation(config),
        views=parts.objective.views,
        start=start,
        workers=config.workers,
        augment_on=config.augment_on,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def augmentation(config: Config) -> Augment:
    """What is done to the training inputs at random."""
    return Augment(config.crop, config.flip, config.drop)


def make_step(config: Config, parts: Parts) -> Callable:
    """`train_step` with all that stays the same, to be run over the devices by `DataParallel`."""
    return partial(
        train_step,
        model=parts.model,
        optimizer=parts.optimizer,
        skip_broken=config.on_nan == "skip",
        micro_batch_size=config.chunk_size,
        **_of_any_step(config, parts),
    )


def make_loss_step(config: Config, parts: Parts) -> Callable:
    """`loss_step` with all that stays the same, for the same use."""
    return partial(
        loss_step, bits=config.bits, encode=parts.model.apply, **_of_any_step(config, parts)
    )


def _of_any_step(config: Config, parts: Parts) -> dict[str, Any]:
    options = {
        "objective": parts.objective,
        "steps_per_epoch": parts.steps_per_epoch,
        "total_steps": parts.total_steps,
    }
    if config.augment_on == "device":
        options["prepare"] = augmentation(config).on_device
    return options


def make_data_parallel(config: Config, parts: Parts, step: Callable) -> DataParallel:
    """A step over the devices of all processes, as the configuration has it."""
    return DataParallel(step, mapping=config.parallel, table_sharding=parts.table_sharding)


def check_model(name: str, model: nn.Module, inputs: Shaped[np.ndarray, "n ..."]) -> None:
    """Raise a `UserError` if the model of that name does not take such inputs; computes nothing."""
    try:
        jax.eval_shape(model.init, jax.random.key(0), inputs)
    except ValueError as error:
        raise UserError(f"{name}: {error}; --image-size may help") from error


def _creation(parts: Parts) -> Callable[..., TrainState]:
    """`create_state` with what the parts determine."""
    known = parts.class_similarity
    if known.embeddings is not None:
        known = known._replace(embeddings=known.embeddings[parts.split.train])
    return partial(
        create_state,
        model=parts.model,
        objective=parts.objective,
        optimizer=parts.optimizer,
        items=len(parts.split.train),
        classes=len(parts.source.class_names),
        multi_label=parts.source.labels.ndim == 2,
        class_similarity=known,
        table_sharding=parts.table_sharding,
    )


def _table_sharding(
    config: Config, parts: Parts, state: PyTree[jax.ShapeDtypeStruct]
) -> TableSharding:
    """Which tables of the objective's state are spread over devices."""
    if config.spread_banks == "never":
        return TableSharding()

    def is_chosen(kind: TableSharding) -> bool:
        leaves = zip(
            jax.tree.leaves(state), jax.tree.leaves(sharded_leaves(state, kind)), strict=True
        )
        size = sum(leaf.size * leaf.dtype.itemsize for leaf, is_of_kind in leaves if is_of_kind)
        return config.spread_banks == "always" or size >= SPREAD_BYTES

    items, classes = len(parts.split.train), len(parts.source.class_names)
    return TableSharding(
        items if is_chosen(TableSharding(items=items)) else None,
        classes if is_chosen(TableSharding(classes=classes)) else None,
    )


def _example(parts: Parts) -> PyTree[Shaped[np.ndarray, "1 ..."]]:
    """Inputs of one item, as the model is given them in training."""
    inputs = parts.source.inputs[parts.split.train[:1]]
    return inputs if parts.objective.views == 1 else (inputs,) * parts.objective.views


def _objective_state(config: Config, parts: Parts) -> PyTree[jax.ShapeDtypeStruct]:
    """The shapes of the objective's state; computes no step.

    Raises:
        UserError: if the objective does not take such data.
    """
    if parts.objective.views > 1 and augmentation(config) == Augment():
        raise UserError(
            f"--objective {config.objective} compares two views of each input, which would be the "
            "same: it needs --drop for feature vectors, --crop or --flip for images"
        )
    rows = config.batch_size

    def first_loss(key, inputs, labels):
        state = _creation(parts)(key, inputs)
        batch = Batch(inputs, labels, jnp.zeros(rows, jnp.int32), jnp.ones(rows, bool))
        codes = jax.tree.map(lambda _: jnp.zeros((rows, config.bits)), inputs)
        encode = parts.model.apply
        context = Context(key, jnp.float32(0), jnp.bool_(False), state.variables, encode, None)
        variables = Variables(state.params["objective"], state.objective_state)
        return parts.objective.loss(variables, codes, batch, context).state

    def of_rows(array):
        return jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype)

    labels = of_rows(parts.source.labels)
    try:
        return jax.eval_shape(
            first_loss, jax.random.key(0), jax.tree.map(of_rows, _example(parts)), labels
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"--objective {config.objective_name}: {error}") from error


def _pretrained(config: Config, model: models.Encoder, source: Source) -> models.Weights | None:
    """The backbone's variables in the file of its weights."""
    if config.weights is None:
        return None
    return models.read_weights(
        config.weights, model.backbone(), leave_out="classifier", inputs=source.inputs[:1]
    )


def _measured(config: Config, model: models.Encoder, source: Source, split: Split) -> InputForm:
    """The form of the inputs of a model that is to be trained."""
    return measure_inputs(
        source.inputs,
        split.train,
        image_size=config.image_size,
        preprocessing=_preprocessing(model),
    )


def _preprocessing(model: models.Encoder) -> dict[str, Any]:
    return dataclasses.asdict(model.backbone().preprocessing)


def _model(config: Config, source: Source) -> nn.Module:
    images = source.inputs[:1].ndim == 4
    takes_vectors = config.model in ("mlp", "linear")
    if not images and (not takes_vectors or config.crop or config.flip):
        raise UserError(
            f"--dataset {config.dataset} holds feature vectors: they need --model mlp or linear, "
            "--crop 0 and --no-flip"
        )
    if not images and config.augment_on == "device":
        raise UserError(
            f"--dataset {config.dataset} holds feature vectors: --augment-on device is for images"
        )
    if images and config.crop >= min(source.inputs[:1].shape[1:3]):
        height, width = source.inputs[:1].shape[1:3]
        raise UserError(
            f"--crop {config.crop} must be below {min(height, width)}: the images of {config.dataset} are "
            f"{height} x {width}, and a crop could miss them"
        )
    if images and config.drop:
        raise UserError(f"--dataset {config.dataset} holds images: --drop is for feature vectors")
    if not images and (config.image_size is not None or config.preprocessing != "published"):
        raise UserError(
            f"--dataset {config.dataset} holds feature vectors: --image-size and --preprocessing are "
            "for images"
        )
    backbone = models.backbone_factory(
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
    model = models.Encoder(backbone, config.bits, config.head_norm)
    check_model(config.model, model, source.inputs[:1])
    if config.chunk_size is not None and _takes_statistics(model, source.inputs[:1]):
        raise UserError(
            f"--chunk-size {config.chunk_size}: {config.model} normalizes by statistics of the whole "
            "batch, which chunks do not have; it needs --freeze-norm and --no-head-norm"
        )
    return model


def _takes_statistics(model: nn.Module, inputs: Shaped[np.ndarray, "1 ..."]) -> bool:
    """Whether the model changes statistics in training."""

    def train(key):
        variables = model.init(key, inputs)
        return model.apply(variables, inputs, train=True, rngs={"dropout": key})

    try:
        jax.eval_shape(train, jax.random.key(0))
    except ModifyScopeVariableError:
        return True
    return False


def _numbers(config: Config) -> dict[str, Float[ArrayLike, ""]]:
    return {name: value for name in NUMBERS if (value := getattr(config, name)) is not None}


def _optimizer(
    config: Config, numbers: Numbers, steps_per_epoch: int, total_steps: int
) -> optax.GradientTransformation:
    return make_optimizer(
        learning_rate=numbers["learning_rate"],
        backbone_rate=numbers["backbone_rate"],
        freeze_stages=config.freeze_stages,
        weight_decay=numbers["weight_decay"],
        clip_norm=numbers["clip_norm"],
        warmup_steps=config.warmup * steps_per_epoch,
        total_steps=total_steps,
    )
