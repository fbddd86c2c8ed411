"""What a run is made from, and the check that it makes sense."""

import dataclasses
import sys
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jaxhash.data.pipeline import AugmentDevice
from jaxhash.data.protocols import AUTO, COUNTS, PER_CLASS, check_protocol
from jaxhash.models import BackboneName, PreprocessingName
from jaxhash.objectives import MethodName
from jaxhash.runs.composition import WEIGHT, QuantizerName, objective_of, objective_words
from jaxhash.training.model_selection import SelectionRule
from jaxhash.training.parallel import Mapping
from jaxhash.utils.errors import UserError

#: Least and greatest values of what a split is drawn by.
SPLIT_NUMBERS = {
    "queries_per_class": (1, 10**6),
    "train_per_class": (1, 10**6),
    "split_seed": (0, 2**32 - 1),
}

#: Fields that may change when a run goes on: where it is, how it is computed, what is kept of it.
RESUME_MUTABLE_FIELDS = (
    "run_dir",
    "data_dir",
    "parallel",
    "chunk_size",
    "workers",
    "augment_on",
    "checkpoint_every",
    "keep_newest",
    "keep_best",
    "on_nan",
    "on_collapse",
    "compilation_cache",
    "baselines",
    "memory_bytes",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run; every field is a flag of its name."""

    dataset: str = "digits"
    """digits, folder:DIR for image files, tfds:NAME for a TFDS set of images, or features:FILE.npz for
    feature vectors."""
    data_dir: Path | None = None
    """Folder of the TFDS sets, or what DIR and the files are in; the working folder if not given."""
    run_dir: Path | None = None
    """Folder of the run; runs/PRESET-BITSbit-seedSEED if not given."""
    protocol: str = AUTO
    """How the data are split: by their own parts (parts), drawn anew (per-class), by a protocol of the
    literature, or by FILE.npz in --data-dir; auto is parts where the data have some, else per-class."""
    queries_per_class: int | None = None
    """Queries of each class: 100 by per-class, all of their part by parts, if not given."""
    train_per_class: int | None = None
    """Training items of each class: 500 by per-class, all of their part by parts, if not given."""
    split_seed: int = 0
    """Seed of the split, so that runs of several seeds share one."""
    validation: float = 0.0
    """Share of the training items that is held out to choose the model; 0 for none."""
    allow_leak: bool = False
    """Take a split whose queries, or 1 % of them by equal inputs, are among the training or database
    items; the results say so."""

    model: BackboneName = "cnn"
    """Backbone; cnn is a small one for images, mlp and linear (the hash head alone) take vectors."""
    weights: Path | None = None
    """Published weights, or those under KEY in the file, as teacher; from scratch if not given."""
    preprocessing: PreprocessingName = "published"
    """How images of bytes are normalized: as the backbone's weights were published, or one of these."""
    image_size: int | None = None
    """Height and width that images are brought to on the device; they stay as they are if not given."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the backbone's computation; parameters, hash head and loss are float32."""
    freeze_stages: int = 0
    """First stages of the backbone that stay as they are; --dry-run lists them."""
    freeze_norm: bool = False
    """Batch normalization by the running statistics, which stay as they are."""
    remat: bool = False
    """Compute activations again in the backward pass, for less memory (jax.checkpoint)."""
    bits: int = 32
    """Length of a code."""
    head_norm: bool = False
    """Batch normalization of the codes, without scale and bias, which centers each bit (OrthoHash)."""

    objective: MethodName = "hashnet"
    """Method; "--objective help" prints a table of them."""
    objective_options: tuple[str, ...] = ()
    """Arguments of the method as NAME=VALUE, such as pairs=batch."""
    similarity: str = "classes"
    """What the classes mean to each other: nothing (classes), their coarse labels (coarse), a tree
    FILE.txt or FILE.json of parents and children, or FILE.npz with embeddings of classes or items."""
    quantizer: QuantizerName = "hswd"
    """Penalty that makes codes binary: instead of the method's own, that one (own), or none."""
    quantizer_options: tuple[str, ...] = ()
    """Arguments of the quantizer as NAME=VALUE, such as target=balanced."""
    quantizer_weight: float | None = None
    """Weight of the quantizer; 0.1 if not given, and the published one of a method's own."""
    keep_own: bool = False
    """Keep the method's own penalty beside the quantizer, at its published weight."""

    seed: int = 0
    """Seed of initialization, order, augmentation and sampled targets."""
    epochs: int = 30
    """Passes over the training items."""
    batch_size: int = 125
    """Images a step, over all devices. 125 divides the usual 5,000, so no batch is short."""
    learning_rate: float = 1e-3
    """Peak rate of the hash head."""
    backbone_rate: float = 1.0
    """Rate of the backbone as a fraction of the head's."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, of matrices and kernels."""
    clip_norm: float = 5.0
    """Largest norm of the gradient."""
    warmup_epochs: int = 1
    """Epochs of linear warm-up; a cosine to zero follows. One epoch alone has none."""
    crop: int = 0
    """Random crop from the image padded by this many pixels on each side."""
    flip: bool = False
    """Random flip, left to right."""
    drop: float = 0.0
    """Share of a feature vector's entries that are set to 0 at random."""
    augment_on: AugmentDevice = "host"
    """Where images are cropped and flipped; the result is the same, and the device is often faster."""
    workers: int = 0
    """Processes that load the data; with 0 it is threads of this one."""
    parallel: Mapping = "pmap"
    """What maps the step over devices: jax.pmap, or jax.shard_map under jax.jit."""
    chunk_size: int | None = None
    """Images that a device encodes at a time, for less memory; loss and gradient are the batch's."""
    spread_banks: Literal["auto", "always", "never"] = "auto"
    """Spread the rows of memory banks, of the codes that alternating methods find, and of codebooks
    over the devices; auto does so from 256 MiB."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""
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
    baselines: Literal["all", "none"] = "all"
    """What stands beside the codes at the end: untrained hashes of the inputs and the rankings by
    floats (all), or nothing (none), which takes no time."""
    memory_bytes: int = 2**30
    """Memory that the evaluation may take above what data, model and codes do."""

    @property
    def warmup(self) -> int:
        """Epochs of warm-up: a cosine must be left."""
        return min(self.warmup_epochs, self.epochs - 1)

    @property
    def objective_name(self) -> str:
        """The loss in words."""
        return objective_words(self)

    def check(self) -> None:
        """Raise a `UserError` that names the first flag whose value is not allowed."""
        seeds, many, finite = 2**32 - 1, 10**6, sys.float_info.max
        allowed = SPLIT_NUMBERS | {
            "bits": (1, many),
            "epochs": (1, many),
            "batch_size": (1, many),
            "checkpoint_every": (1, many),
            "evaluate_every": (1, many),
            "chunk_size": (1, many),
            "keep_newest": (1, many),
            "keep_best": (1, many),
            "memory_bytes": (2**24, 2**50),
            "workers": (0, 256),
            "seed": (0, seeds),
            "warmup_epochs": (0, many),
            "crop": (0, many),
            "freeze_stages": (0, many),
            "quantizer_weight": (0, finite),
            "backbone_rate": (0, finite),
            "weight_decay": (0, finite),
        }
        check_numbers(self, allowed)
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) <= finite:
                found = getattr(self, name)
                raise UserError(f"{flag(name)} must be above 0 and finite, got {found}")
        check_image_size(self.image_size)
        objective_of(self)
        for name in ("validation", "drop"):
            if not 0 <= getattr(self, name) < 1:
                found = getattr(self, name)
                raise UserError(f"{flag(name)} must be at least 0 and below 1, got {found}")
        check_protocol(self.protocol, self.queries_per_class, self.train_per_class)
        if self.warmup_epochs >= max(self.epochs, 2):
            raise UserError(
                f"--warmup-epochs {self.warmup_epochs} must be below --epochs {self.epochs}"
            )
        if self.choose != "last" and self.evaluate_every >= self.epochs:
            raise UserError(
                f"--evaluate-every {self.evaluate_every} must be below --epochs {self.epochs}, or "
                f"--choose {self.choose} has one model to choose from"
            )

    def located(self) -> "Config":
        """The same, where what is relative to the working folder is found from any other."""
        if self.data_dir is not None:
            return self
        if self.dataset.startswith(("folder:", "features:")):
            return dataclasses.replace(self, data_dir=Path.cwd())
        files = {  # beside data that need no folder, or have one of their own
            name: str(Path(value).absolute())
            for name in ("protocol", "similarity")
            if Path(value := getattr(self, name)).suffix.lower() in (".npz", ".txt", ".json")
        }
        return dataclasses.replace(self, **files)

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values, but for the folder of the run, which it is kept in."""
        fields = dataclasses.asdict(self)
        del fields["run_dir"]
        return {k: str(v.absolute()) if isinstance(v, Path) else v for k, v in fields.items()}

    @classmethod
    def from_json(cls, fields: dict[str, object]) -> "Config":
        """Undo `to_json`; a field that an older version did not have gets its default.

        Raises:
            ValueError: if a field is unknown, or its value of another kind; or if the version was so
                old that its models were others.
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
        for name in ("objective_options", "quantizer_options"):
            if isinstance(fields.get(name), list):
                fields[name] = tuple(fields[name])
        for name in ("data_dir", "weights"):
            if isinstance(fields.get(name), str):
                fields[name] = Path(fields[name])
        kinds = get_type_hints(cls)
        for name, value in fields.items():
            if name not in kinds:
                raise ValueError(f"there is no field {name!r}")
            if type(value) is int and abs(value) < 2**53 and _is_of_kind(1.0, kinds[name]):
                fields[name] = float(value)  # 1 is a number too
            elif not _is_of_kind(value, kinds[name]):
                raise ValueError(f"{name!r} cannot be {str(value)[:80]!r}")
        return cls(**fields)


def _is_of_kind(value: object, kind: Any) -> bool:
    """Whether a value is what the annotation of its field says."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is UnionType:
        return any(_is_of_kind(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    return isinstance(value, kind) if kind is Path else type(value) is kind


def _take_flags_of_options(fields: dict[str, object]) -> None:
    """Turn the fields of a version that had flags where there are options into today's."""
    missing = [name for name in ("quantizer", "quantizer_weight") if name not in fields]
    if missing:
        raise ValueError(f"there is no field {missing[0]!r}")
    unseen, target = fields.pop("unseen", "ignored"), fields.pop("quantizer_target", "sampled")
    quantized = fields["quantizer"] != "none"
    fields["objective_options"] = [] if unseen == "ignored" else [f"unseen={unseen}"]
    fields["quantizer_options"] = [f"target={target}"] if quantized and target != "sampled" else []
    if not quantized or fields["quantizer_weight"] == WEIGHT:
        fields["quantizer_weight"] = None  # that it had a default was not to be seen


def check_numbers(options: Any, allowed: dict[str, tuple[int | float, int | float]]) -> None:
    """Raise a `UserError` that names the first flag of these whose value is not from least to most.

    Args:
        options: what has a field for each flag.
        allowed: least and greatest value, by the names of the fields.
    """
    for name, (least, most) in allowed.items():
        value = getattr(options, name)
        if value is None:
            continue
        if not least <= value:
            raise UserError(f"{flag(name)} must be at least {least}, got {value}")
        if not value <= most:
            raise UserError(f"{flag(name)} must be at most {most}, got {value}")


def check_image_size(size: int | None) -> None:
    """Raise a `UserError` if images cannot be brought to this height and width."""
    if size is not None and not 1 <= size <= 4096:
        raise UserError(f"--image-size must be at least 1 and at most 4096, got {size}")


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + word(name)


def word(name: str) -> str:
    """A field as the command line has it."""
    return name.replace("_", "-")


def differences(old: Config, new: Config) -> list[str]:
    """Flags whose values differ, but for those that may; a path is where it leads to."""
    there, here = old.to_json(), new.to_json()
    return [
        f"{flag(name)} is {there[name]} there and {here[name]} here"
        for name in here
        if name not in RESUME_MUTABLE_FIELDS and there[name] != here[name]
    ]
