"""The configuration of a run: five parts, and the flat form that config.json holds.

Each part lies in the package that it configures. No two of them share the name of a field, so a field
can be named without its part: by `Config.replace`, in config.json, and by the flags of the command.
"""

import dataclasses
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import PyTree, Shaped

from jaxhash.data.class_batches import check_class_batches
from jaxhash.data.config import DataConfig
from jaxhash.data.protocols import COUNTS, PER_CLASS
from jaxhash.data.splits import Split
from jaxhash.models import VECTOR_BACKBONES
from jaxhash.models.config import GRAPH, ModelConfig
from jaxhash.objectives.config import DEFAULT_WEIGHT, ObjectiveConfig
from jaxhash.training.config import OptimizerConfig
from jaxhash.training.model_selection import SelectionRule
from jaxhash.training.parallel import Mapping
from jaxhash.utils.checks import check_numbers
from jaxhash.utils.errors import UserError

#: Largest number of padding rows in a batch that is larger than the training set.
MAX_PADDING = 4096

#: Fields that may change when a run is resumed: its places, how it is computed, what is kept of it.
RESUME_MUTABLE_FIELDS = (
    "run_dir",
    "data_dir",
    "parallel",
    "shard_params",
    "model_parallel",
    "chunk_size",
    "workers",
    "augment_on",
    "checkpoint_every",
    "log_every",
    "log_to",
    "keep_newest",
    "keep_best",
    "on_nan",
    "on_collapse",
    "compilation_cache",
    "baselines",
    "plots",
    "memory_bytes",
)


#: Numbers of a configuration that may be traced; see `Experiment.with_hyperparams`.
TRACED_HYPERPARAMS = (
    "learning_rate",
    "backbone_rate",
    "quantizer_weight",
    "weight_decay",
    "clip_norm",
)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """How a run is computed, and what is kept of it; every field is a flag of its name."""

    run_dir: Path | None = None
    """Folder of the run; if not given one in runs/, named by preset, objective, bits and seed."""
    seed: int = 0
    """Seed of initialization, order, augmentation and sampled targets."""
    parallel: Mapping = "pmap"
    """What spreads the step over devices: jax.pmap; jax.shard_map under jax.jit; or jax.jit alone, where
    the compiler spreads a step on the whole batch."""
    shard_params: bool = False
    """Spread parameters, gradients and optimizer state over the devices, for models larger than a device's
    memory (FSDP); needs --parallel jit."""
    model_parallel: int = 1
    """Devices over which classifiers, proxies and centers of very many classes are spread; each has as many
    of the classes. It divides devices and classes, and needs --parallel jit."""
    chunk_size: int | None = None
    """Images that a device encodes at a time, for less memory; loss and gradient are the batch's."""
    spread_banks: Literal["auto", "always", "never"] = "auto"
    """Spread the rows of memory banks, of the codes that alternating methods find, and of codebooks
    over the devices; auto does so from 256 MiB."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""
    log_every: int | None = None
    """Steps between two records of metrics.jsonl; if not given each step has one, and of a training of more
    than 50,000 steps as many as stay below that number. Steps that are saved, skipped or collapse have one
    in any case."""
    log_to: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Loggers that take the same records: TensorBoard, by files in the run's folder, and Weights & Biases
    (jaxhash[tensorboard], jaxhash[wandb]); for a single run, not for a sweep."""
    keep_newest: int = 2
    """Newest checkpoints that are kept."""
    keep_best: int = 1
    """Checkpoints that are kept of the best models, where models are compared."""
    compilation_cache: bool = True
    """Keep compiled programs in the run's folder, for when it goes on."""
    on_nan: Literal["stop", "skip"] = "stop"
    """At a loss or a gradient that is not finite: stop the run, or skip the update and count it."""
    on_collapse: Literal["stop", "warn"] = "stop"
    """When more than half of the bits are dead for 20 steps: stop the run, or warn and go on."""
    choose: SelectionRule = "last"
    """Model to evaluate: the last, or the best mAP on validation items or on the queries."""
    evaluate_every: int = 5
    """Epochs between two models that --choose compares; the last one always takes part."""
    baselines: Literal["default", "all", "none"] = "default"
    """What stands beside the codes at the end: hashes of the inputs, by pca-rotation and itq (default) or
    by all methods of jaxhash fit, also those by labels (all), a product quantizer and the rankings by
    floats; or nothing (none), which takes no time."""
    plots: bool = True
    """Draw plots and, of a single run, its page at the end, a second or two; jaxhash report RUN --html FILE
    draws the page later, but for the values of the codes before training."""
    memory_bytes: int = 2**30
    """Memory that the evaluation may take above what data, model and codes do."""

    def check(self) -> None:
        """Raises a `UserError` that names the first argument whose value is not allowed."""
        many = 10**6
        allowed = {
            "checkpoint_every": (1, many),
            "log_every": (1, many),
            "evaluate_every": (1, many),
            "chunk_size": (1, many),
            "model_parallel": (1, many),
            "keep_newest": (1, many),
            "keep_best": (1, many),
            "memory_bytes": (2**24, 2**50),
            "seed": (0, 2**32 - 1),
        }
        check_numbers(self, allowed)
        if self.shard_params and self.parallel != "jit":
            raise UserError(
                f"`shard_params` needs `parallel=jit`: `parallel={self.parallel}` has all parameters on "
                "each device"
            )
        if self.model_parallel > 1 and self.parallel != "jit":
            raise UserError(
                f"`model_parallel={self.model_parallel}` needs `parallel=jit`: `parallel={self.parallel}` "
                "has all classes on each device"
            )


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run.

    Attributes:
        data: the data, their split and their augmentation.
        model: the model.
        objective: what is minimized.
        optimizer: the optimizer, with the length of the training.
        run: how it is computed, and what is kept of it.
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()

    def replace(self, **fields: Any) -> "Config":
        """Returns the configuration with other values of fields of any part.

        A path may be a string, and a number one of NumPy.

        Raises:
            ValueError: if no part has a field of that name.

        Example:
            >>> Config().replace(bits=16, epochs=5).model.bits
            16
        """
        parts = {}
        for name, value in fields.items():
            if name not in _PART_OF_FIELD:
                raise ValueError(f"there is no field {name!r}")
            if isinstance(value, np.generic):
                value = value.item()
            value = _as_path(value, _KINDS[name])
            parts.setdefault(_PART_OF_FIELD[name], {})[name] = value
        changed = {
            part: dataclasses.replace(getattr(self, part), **values)
            for part, values in parts.items()
        }
        return dataclasses.replace(self, **changed)

    def get(self, name: str) -> Any:
        """Returns the value of a field of any part.

        Example:
            >>> Config().get("bits")
            32
        """
        return getattr(getattr(self, _PART_OF_FIELD[name]), name)

    def check(self) -> None:
        """Raises a `UserError` that names the first argument whose value is not allowed."""
        for name, kind in _KINDS.items():
            value = self.get(name)
            if not (_is_of_kind(value, kind) or (type(value) is int and _is_of_kind(1.0, kind))):
                raise UserError(f"`{name}` must be {_describe_kind(kind)}, got {value!r}")
        for part in (self.data, self.model, self.objective, self.optimizer, self.run):
            part.check()
        every, epochs = self.run.evaluate_every, self.optimizer.epochs
        if self.run.choose != "last" and every >= epochs:
            raise UserError(
                f"`evaluate_every={every}` must be below `epochs={epochs}`, or "
                f"`choose={self.run.choose}` has one model to choose from"
            )

    def check_split(
        self, split: Split, labels: Shaped[np.ndarray, " items *classes"] | None = None
    ) -> None:
        """Raises a `UserError` if the configuration asks for more than the split's items allow.

        Args:
            split: how the data are split.
            labels: labels of all items of the source; not given where they are not known.
        """
        train = len(split.train)
        batch_size, batch_classes = self.optimizer.batch_size, self.optimizer.batch_classes
        if batch_classes is not None and labels is not None:
            check_class_batches(
                split.training_labels(labels)[split.train],
                batch_size=batch_size,
                batch_classes=batch_classes,
            )
        if self.run.choose == "validation" and not len(split.validation):
            raise UserError(
                "`choose=validation` needs validation items: `validation=0.1` holds out a tenth of the "
                "training items"
            )
        if batch_size - train > MAX_PADDING:
            raise UserError(
                f"`batch_size={batch_size:,}` is far above the {train:,} training items; "
                f"at most {train:,} count in a step"
            )

    def check_inputs(
        self, inputs: PyTree[Shaped[np.ndarray, "1 ..."]], where: str, *, takes_any: bool
    ) -> None:
        """Raises a `UserError` if an option is for images and these are vectors, or the reverse.

        Args:
            inputs: an input of the source; of several modalities, a dict of them.
            where: the argument that names the source, for messages.
            takes_any: whether the model is the user's own, of whatever inputs.
        """
        data, model = self.data, self.model
        if isinstance(inputs, dict):
            if data.augment_on == "device":
                raise UserError(f"{where} holds several modalities: `augment_on=device` is for one")
            for name, part in inputs.items():
                self.check_inputs(part, f"{where}, {name},", takes_any=takes_any)
            return
        if inputs.dtype == np.int32:
            if not takes_any and model.model != GRAPH:
                raise UserError(f"{where} holds integers: they need `model={GRAPH}` or your own")
            taken = [name for name in ("crop", "flip", "drop") if getattr(data, name)]
            if taken := taken + ["augment_on"] * (data.augment_on == "device"):
                raise UserError(f"{where} holds integers, which `{taken[0]}` does nothing to")
            return
        if inputs.ndim == 4:
            height, width = inputs.shape[1:3]
            if data.crop >= min(height, width):
                raise UserError(
                    f"`crop={data.crop}` must be below {min(height, width)}: the images of {where} are "
                    f"{height} x {width}, and a crop could miss them"
                )
            if data.drop:
                raise UserError(f"{where} holds images: `drop` is for feature vectors")
            return
        vectors = f"{where} holds feature vectors"
        takes_vectors = takes_any or model.model in VECTOR_BACKBONES
        if not takes_vectors or data.crop or data.flip:
            raise UserError(
                f"{vectors}: they need `model=mlp`, linear or text-mlp, `crop=0` and no `flip`"
            )
        if data.augment_on == "device":
            raise UserError(f"{vectors}: `augment_on=device` is for images")
        if model.image_size is not None or model.preprocessing != "published":
            raise UserError(f"{vectors}: `image_size` and `preprocessing` are for images")

    def located(self) -> "Config":
        """Returns the same with paths of data that do not depend on the working folder."""
        return dataclasses.replace(self, data=self.data.located())

    def to_json(self) -> dict[str, object]:
        """Returns the fields of all parts as JSON values in the order of config.json, without ``run_dir``."""
        fields = {name: self.get(name) for name in _STORED_ORDER if name != "run_dir"}
        return {k: str(v.absolute()) if isinstance(v, Path) else v for k, v in fields.items()}

    @classmethod
    def from_json(cls, fields: dict[str, object]) -> "Config":
        """Undoes `to_json`; a field that an older version did not have gets its default.

        Raises:
            ValueError: if a field is unknown, or its value of another kind; or if the version is so
                old that its models had other parameters.
        """
        if "head_multiplier" in fields:
            raise ValueError(
                "it was written by a version of jaxhash whose models had other parameters; its "
                "codes.npz can still be evaluated"
            )
        fields = dict(fields)
        fields.setdefault("protocol", PER_CLASS)  # the only one there was
        if "queries" not in COUNTS.get(str(fields["protocol"]), ()) and fields.get(
            "queries_per_class"
        ):
            # The counts of per-class stood beside protocols that have their own.
            fields |= {"queries_per_class": None, "train_per_class": None}
        if "quantizer_options" not in fields:
            _take_flags_of_options(fields)
        for name, kind in _KINDS.items():
            if get_origin(kind) is tuple and isinstance(fields.get(name), list):
                fields[name] = tuple(fields[name])
        for name, value in fields.items():
            if name not in _KINDS:
                raise ValueError(f"there is no field {name!r}")
            if type(value) is int and abs(value) < 2**53 and _is_of_kind(1.0, _KINDS[name]):
                fields[name] = float(value)  # 1 is a number too
            elif not _is_of_kind(_as_path(value, _KINDS[name]), _KINDS[name]):
                raise ValueError(f"{name!r} cannot be {str(value)[:80]!r}")
        return cls().replace(**fields)


#: The part of each field, and its annotation.
_PART_OF_FIELD = {
    field.name: part.name
    for part in dataclasses.fields(Config)
    for field in dataclasses.fields(part.type)
}
_KINDS = {
    name: kind
    for part in dataclasses.fields(Config)
    for name, kind in get_type_hints(part.type).items()
}


def _stored_order() -> list[str]:
    """Returns the fields in the order of config.json, older than the parts: runs compare by a diff."""
    names = list(_PART_OF_FIELD)
    augmentation = ("crop", "flip", "drop", "augment_on", "workers")
    followers = {"similarity": "quantizer", "seed": "epochs"} | dict.fromkeys(
        augmentation, "parallel"
    )
    for name, follower in followers.items():
        names.remove(name)
        names.insert(names.index(follower), name)
    return names


_STORED_ORDER = _stored_order()


def config_diff(old: Config, new: Config) -> list[str]:
    """Returns the arguments that differ, but for those that may; paths are compared as absolute ones."""
    there, here = old.to_json(), new.to_json()
    return [
        f"`{name}` is {there[name]} there and {here[name]} here"
        for name in here
        if name not in RESUME_MUTABLE_FIELDS and there[name] != here[name]
    ]


def _as_path(value: Any, kind: Any) -> Any:
    """Returns text as a path for a field that takes one, unless it is a word that the field takes too."""
    is_path = isinstance(value, str) and _is_of_kind(Path(), kind) and not _is_of_kind(value, kind)
    return Path(value) if is_path else value


def _is_of_kind(value: object, kind: Any) -> bool:
    """Returns whether a value fits the annotation of its field."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_is_of_kind(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        each_kind, _ = get_args(kind)
        return isinstance(value, tuple) and all(_is_of_kind(each, each_kind) for each in value)
    return isinstance(value, kind) if kind is Path else type(value) is kind


def _describe_kind(kind: Any) -> str:
    """Returns the allowed values of a field in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_describe_kind, get_args(kind)))
    if get_origin(kind) is tuple:
        each_kind, _ = get_args(kind)
        return f"a tuple of {'strings' if each_kind is str else ', '.join(get_args(each_kind))}"
    return "None" if kind is type(None) else kind.__name__


def _take_flags_of_options(fields: dict[str, object]) -> None:
    """Turns the fields of a version that had flags in place of options into today's."""
    missing = [name for name in ("quantizer", "quantizer_weight") if name not in fields]
    if missing:
        raise ValueError(f"there is no field {missing[0]!r}")
    unseen, target = fields.pop("unseen", "ignored"), fields.pop("quantizer_target", "sampled")
    quantized = fields["quantizer"] != "none"
    fields["objective_options"] = [] if unseen == "ignored" else [f"unseen={unseen}"]
    fields["quantizer_options"] = [f"target={target}"] if quantized and target != "sampled" else []
    if not quantized or fields["quantizer_weight"] == DEFAULT_WEIGHT:
        fields["quantizer_weight"] = None  # a stored default cannot be told from a given value
