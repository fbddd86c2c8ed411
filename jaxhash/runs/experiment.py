"""An experiment: a configuration with all that it determines, from the data to the optimizer."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import ArrayLike, Float, Int, PyTree, Shaped
from rich.console import Console

from jaxhash import models
from jaxhash.data.augment import Augment, DeferredAugment
from jaxhash.data.checks.training_data import Findings, examine, open_split
from jaxhash.data.load import load_source
from jaxhash.data.pipeline import training_batches
from jaxhash.data.readers.class_similarity import read_class_similarity
from jaxhash.data.readers.image_files import INDEX_NAME
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split
from jaxhash.data.tree_form import AnyForm, part_rows
from jaxhash.objectives import (
    Batch,
    ClassSimilarity,
    Context,
    Objective,
    TableSharding,
    Variables,
    sharded_leaves,
)
from jaxhash.runs import model_inputs
from jaxhash.runs.config import TRACED_HYPERPARAMS, Config
from jaxhash.runs.own_parts import (
    adapt_model,
    check_objective,
    checked_source,
    own_parts,
)
from jaxhash.training.optimizer import make_optimizer
from jaxhash.training.parallel import DataParallel, find_class_axes
from jaxhash.training.state import TrainState, create_state
from jaxhash.training.step import loss_step, train_step
from jaxhash.utils.errors import UserError

#: Tables of items, or of classes, are sharded over devices from this total size in bytes.
MIN_SHARDED_BYTES = 2**28


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """One training before its first step: its configuration and the parts that this determines.

    Attributes:
        config: the configuration.
        source: the data, with inputs prepared as the model takes them.
        split: training items, validation items, queries and database.
        model: the module from inputs to real-valued codes.
        objective: what is minimized.
        optimizer: the optimizer, with its schedule.
        pretrained: published weights of the backbone; None where it is trained from scratch.
        class_similarity: similarity of the classes or, if it has embeddings, of all items of the source.
        sharding: which tables of the objective are sharded over devices.
        input_form: how the inputs of the source were prepared; it belongs to the model.
        findings: what was found in the data.
        own: names of the parts that are the user's own, not named by the configuration.
    """

    config: Config
    source: Source
    split: Split
    model: nn.Module
    objective: Objective
    optimizer: optax.GradientTransformation
    pretrained: models.Weights | None = None
    class_similarity: ClassSimilarity = ClassSimilarity()
    sharding: TableSharding = TableSharding()
    input_form: AnyForm | None = None
    findings: Findings = Findings()
    own: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        config: Config,
        *,
        source: Source | None = None,
        model: nn.Module | None = None,
        objective: Objective | None = None,
        input_form: AnyForm | None = None,
        console: Console | None = None,
    ) -> "Experiment":
        """Opens the data, reads the weights, and makes model, objective and optimizer.

        Args:
            config: the configuration.
            source: data in place of those that the configuration names;
                `jaxhash.data.from_arrays` makes one.
            model: a model in place of the named one: a Flax module from a batch of inputs to
                real-valued codes of ``config.model.bits``; see `jaxhash.runs.own_parts`.
            objective: an objective in place of the named one.
            input_form: form of the inputs of a model that exists already; measured on the training
                items if not given.
            console: console for progress.

        Raises:
            UserError: if the data or the weights do not allow what the configuration asks for.
        """
        own = own_parts(source=source, model=model, objective=objective)
        if source is not None:
            source = checked_source(source)
        if objective is not None:
            check_objective(objective)
        where = "`source`" if "source" in own else f"`dataset={config.data.dataset}`"
        if source is None:
            source = load_source(
                config.data.dataset,
                config.data.data_dir,
                model_inputs.file_resize(config, model),
                index_file=config.run.run_dir and config.run.run_dir / INDEX_NAME,
            )
        split = open_split(config.data, source)
        config.check_split(split, source.labels)
        example = source.inputs[:1]
        config.check_inputs(example, where, takes_any=model is not None)
        if objective is None:
            model_inputs.check_interactions(config, source)
        if model is None:
            model = model_inputs.make_model(config, source)
        else:
            model = adapt_model(config, model, example)
        preprocessing = models.preprocessing_of(model)
        if input_form is None:
            input_form = model_inputs.measure_form(config, source, split, preprocessing)
        input_form.check(source.inputs, where, preprocessing)
        class_similarity = read_class_similarity(
            config.data.similarity, source, config.data.data_dir
        )
        findings = examine(
            config.data,
            None if "objective" in own else config.objective.objective,
            source,
            split,
            input_form,
            class_similarity,
            console,
        )
        experiment = cls(
            config,
            dataclasses.replace(source, inputs=input_form.prepare(source.inputs)),
            split,
            model,
            config.objective.make() if objective is None else objective,
            optimizer=optax.identity(),
            pretrained=config.model.read_weights(example),
            class_similarity=class_similarity,
            input_form=input_form,
            findings=findings,
            own=own,
        ).with_hyperparams()
        return dataclasses.replace(experiment, sharding=experiment.choose_sharding())

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; its last batch may be padded."""
        return -(-len(self.split.train) // self.config.optimizer.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.config.optimizer.epochs * self.steps_per_epoch

    @property
    def batch_rows(self) -> int:
        """Rows of a full batch that are not padding."""
        return min(self.config.optimizer.batch_size, len(self.split.train))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of an item, in the order of their codes; none if items have one array."""
        return tuple(part_rows(self.source.inputs))

    @property
    def objective_name(self) -> str:
        """The objective in words."""
        return "own objective" if "objective" in self.own else self.config.objective.describe()

    @functools.cached_property
    def training_labels(self) -> Int[np.ndarray, " items *classes"]:
        """Labels of all items as the training sees them; see `Split.training_labels`."""
        return self.split.training_labels(self.source.labels)

    @property
    def augment(self) -> Augment:
        """The random augmentation of the training inputs."""
        return Augment(self.config.data.crop, self.config.data.flip, self.config.data.drop)

    def with_hyperparams(self, **values: Float[ArrayLike, ""]) -> "Experiment":
        """Returns the experiment with other numbers in its objective and its optimizer.

        Args:
            values: values of some of the `TRACED_HYPERPARAMS`, by name. They may be traced: a sweep
                maps over them. The others are those of the configuration.
        """
        named = {name: self.config.get(name) for name in TRACED_HYPERPARAMS} | values
        weight = named.pop("quantizer_weight")
        optimizer = make_optimizer(
            **named,
            freeze_stages=self.config.model.freeze_stages,
            warmup_steps=self.config.optimizer.warmup * self.steps_per_epoch,
            total_steps=self.total_steps,
        )
        if "objective" in self.own:
            return dataclasses.replace(self, optimizer=optimizer)
        facts = {"few_labels": self.split.labeled is not None, "modalities": len(self.modalities)}
        objective = self.config.objective.make(weight, **facts)
        return dataclasses.replace(self, objective=objective, optimizer=optimizer)

    def with_config(self, config: Config) -> "Experiment":
        """Returns the experiment with another configuration of the same data and model."""
        return dataclasses.replace(self, config=config).with_hyperparams()

    def initial_state(self) -> TrainState:
        """Returns the state before the first step; it depends on configuration and weights alone."""
        (state,) = self.initial_states([self.config.run.seed])
        return state

    def initial_states(self, seeds: Sequence[int]) -> Iterator[TrainState]:
        """Yields the `initial_state` of each seed in turn; it is compiled once for all of them."""
        inputs, weights = self._example, self._weights
        for seed in seeds:
            yield self._compiled_create(jax.random.key(seed), inputs, pretrained=weights)

    def abstract_state(self, devices: Sequence[jax.Device] | None = None) -> TrainState:
        """Returns shapes and shardings of the state of a training; computes nothing.

        Args:
            devices: devices of all processes, or their descriptions; those that are there if not given.
        """
        return self.make_step(devices).abstract(self._state_shapes())

    def abstract_batch(self) -> Batch:
        """Returns the shapes [n, ...] of a training batch of all processes; reads one input."""
        rows, inputs = self.config.optimizer.batch_size, self._example
        if self.config.data.augment_on == "device":
            image = jax.tree.leaves(inputs)[0]
            samples = (np.zeros((1, 3), np.int32),) * self.objective.views
            inputs = DeferredAugment(image, samples)
        index, mask = np.zeros(1, np.int32), np.ones(1, bool)
        one = Batch(inputs, self.source.labels[self.split.train[:1]], index, mask)
        return jax.tree.map(
            lambda array: jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype), one
        )

    def batches(self, *, start: int = 0, seed: int | None = None) -> Iterator[Batch]:
        """Yields this process's rows of the training batches; see `training_batches`.

        Args:
            start: number of batches to leave out at the beginning.
            seed: seed of order and augmentation; the configured one if not given.
        """
        config = self.config
        return training_batches(
            dataclasses.replace(self.source, labels=self.training_labels),
            self.split.train,
            batch_size=config.optimizer.batch_size,
            seed=config.run.seed if seed is None else seed,
            augment=self.augment,
            batch_classes=config.optimizer.batch_classes,
            views=self.objective.views,
            start=start,
            workers=config.data.workers,
            augment_on=config.data.augment_on,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def step_function(self) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
        """Returns `train_step` with all that stays the same in a training bound to it."""
        return partial(
            train_step,
            model=self.model,
            optimizer=self.optimizer,
            skip_broken=self.config.run.on_nan == "skip",
            micro_batch_size=self.config.run.chunk_size,
            **self._step_kwargs,
        )

    def make_step(self, devices: Sequence[jax.Device] | None = None) -> DataParallel:
        """Returns the training step over the devices of all processes.

        Args:
            devices: other devices, such as descriptions of those that `DataParallel.lower` compiles
                for.
        """
        return self.over_devices(self.step_function(), devices)

    def make_loss_step(self) -> DataParallel:
        """Returns the objective alone as a step over the devices; see `loss_step`."""
        options = {"bits": self.config.model.bits, "modalities": len(self.modalities)}
        step = partial(loss_step, encode=self.model.apply, **options, **self._step_kwargs)
        return self.over_devices(step)

    def over_devices(
        self, step: Callable, devices: Sequence[jax.Device] | None = None
    ) -> DataParallel:
        """Returns a step over the devices of all processes, mapped as the configuration asks."""
        return DataParallel(
            step,
            devices,
            mapping=self.config.run.parallel,
            table_sharding=self.sharding,
            shard_params=self.config.run.shard_params,
            remat=self.config.model.remat,
            model_parallel=self.config.run.model_parallel,
            class_axes=self._class_axes,
        )

    @property
    def _step_kwargs(self) -> dict[str, Any]:
        kwargs = {
            "objective": self.objective,
            "steps_per_epoch": self.steps_per_epoch,
            "total_steps": self.total_steps,
        }
        if self.config.data.augment_on == "device":
            kwargs["prepare"] = self.augment.on_device
        return kwargs

    @functools.cached_property
    def _compiled_create(self) -> Callable[..., TrainState]:
        """`_create_state`, compiled once for all states that are asked for."""
        shardings = None
        run = self.config.run
        if run.shard_params or run.model_parallel > 1:  # the whole state may not fit one device
            shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state())
        return jax.jit(self._create_state, out_shardings=shardings)

    def _create_state(self, *arguments: Any, classes: int | None = None, **options: Any):
        """Calls `create_state` with the parts of the experiment; with fewer classes if given."""
        classes = len(self.source.class_names) if classes is None else classes
        similarity = self.class_similarity.of_first_classes(classes)
        if similarity.embeddings is not None:
            embeddings = similarity.embeddings[self.split.train]
            similarity = similarity._replace(embeddings=embeddings)
        return create_state(
            *arguments,
            model=self.model,
            objective=self.objective,
            optimizer=self.optimizer,
            items=len(self.split.train),
            classes=classes,
            multi_label=self.source.labels.ndim == 2,
            class_similarity=similarity,
            table_sharding=self.sharding,
            **options,
        )

    def _state_shapes(self, classes: int | None = None) -> TrainState:
        """Returns the shapes of the state, or those that it would have with fewer classes."""
        create = partial(self._create_state, classes=classes)
        return jax.eval_shape(create, jax.random.key(0), self._example, pretrained=self._weights)

    @functools.cached_property
    def _class_axes(self) -> TrainState | None:
        """The axes that are spread over devices that share the classes; None if none do."""
        model_parallel = self.config.run.model_parallel
        if model_parallel == 1:
            return None
        return find_class_axes(self._state_shapes, len(self.source.class_names), model_parallel)

    @property
    def _example(self) -> PyTree[Shaped[np.ndarray, "1 ..."]]:
        """The inputs of one item, in the form of a training batch."""
        inputs = self.source.inputs[self.split.train[:1]]
        return inputs if self.objective.views == 1 else (inputs,) * self.objective.views

    @property
    def _weights(self) -> dict[str, PyTree] | None:
        return None if self.pretrained is None else self.pretrained.variables

    def choose_sharding(self) -> TableSharding:
        """Returns which tables of the objective's state are sharded over devices.

        Raises:
            UserError: if the objective does not take such data.
        """
        state = self._objective_state_shape()
        if self.config.run.spread_banks == "never":
            return TableSharding()

        def is_sharded(kind: TableSharding) -> bool:
            leaves = zip(
                jax.tree.leaves(state), jax.tree.leaves(sharded_leaves(state, kind)), strict=True
            )
            size = sum(leaf.size * leaf.dtype.itemsize for leaf, is_of_kind in leaves if is_of_kind)
            return self.config.run.spread_banks == "always" or size >= MIN_SHARDED_BYTES

        items, classes = len(self.split.train), len(self.source.class_names)
        return TableSharding(
            items if is_sharded(TableSharding(items=items)) else None,
            classes
            if self._class_axes is None and is_sharded(TableSharding(classes=classes))
            else None,
        )

    def _objective_state_shape(self) -> PyTree[jax.ShapeDtypeStruct]:
        """Returns the shapes of the objective's state after a first loss; computes nothing.

        Raises:
            UserError: if the objective does not take such data.
        """
        config, rows = self.config, self.config.optimizer.batch_size
        own = "objective" in self.own
        if self.objective.views > 1 and self.augment == Augment():
            where = "objective" if own else f"objective={config.objective.objective}"
            model_inputs.check_views(self.source, where)

        def first_loss(key, inputs, labels):
            state = self._create_state(key, inputs)
            batch = Batch(inputs, labels, jnp.zeros(rows, jnp.int32), jnp.ones(rows, bool))
            encode = self.model.apply
            codes = jax.tree.map(lambda _: jnp.zeros((rows, config.model.bits)), inputs)
            if self.modalities:  # the model decides on how many codes there are
                codes = encode(state.variables, inputs)
            context = Context(key, jnp.float32(0), jnp.bool_(False), state.variables, encode, None)
            variables = Variables(state.params["objective"], state.objective_state)
            return self.objective.loss(variables, codes, batch, context).state

        def of_batch(array):
            return jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype)

        inputs, labels = jax.tree.map(of_batch, self._example), of_batch(self.source.labels)
        try:
            return jax.eval_shape(first_loss, jax.random.key(0), inputs, labels)
        except (ValueError, TypeError, OverflowError) as error:
            where = "objective" if own else f"objective={self.objective_name}"
            raise UserError(f"`{where}`: {error}") from error
