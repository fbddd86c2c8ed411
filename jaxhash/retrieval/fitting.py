"""Hash functions that are fitted without training, in seconds: without labels, or by them."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, PyTree, Shaped
from rich.console import Console

from jaxhash import models
from jaxhash.data.input_form import SAMPLE_SIZE, InputForm, measure_inputs
from jaxhash.data.inputs import Inputs
from jaxhash.data.rows import row_blocks
from jaxhash.models.config import ModelConfig
from jaxhash.retrieval.baselines.labeled_hashes import (
    LABELED_METHODS,
    LabeledMethodName,
    fit_labeled_hashes,
    used_classes,
)
from jaxhash.retrieval.baselines.linear_hashes import LinearHash, MethodName, fit_linear_hashes
from jaxhash.retrieval.baselines.training_vectors import max_fitting_items
from jaxhash.retrieval.fit_sample import Sample, check_labels, labels_of
from jaxhash.retrieval.hasher import Hasher
from jaxhash.retrieval.vectors import ProgressTracker, no_progress, normalize_rows
from jaxhash.utils.checks import check_numbers
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError

#: Names of the methods: those without labels, and those by labels.
FitMethod = Literal[MethodName, LabeledMethodName]

#: Items that a hash function is fitted to at most, unless asked otherwise.
FIT_VECTORS, FIT_IMAGES = 100_000, 5_000

#: Consecutive images that are read for a sample: a batch.
_RUN = 64

#: Difference of vectors of length 1 in float32 that is rounding.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """How a hash function is fitted.

    Attributes:
        method: name of the method; see `jaxhash.retrieval.baselines.linear_hashes` and, of those with
            labels, `jaxhash.retrieval.baselines.labeled_hashes`.
        bits: length of a code.
        seed: seed of rotations and hyperplanes.
        fit_items: number of items to fit to at most, evenly spaced, or vectors drawn by the seed if labels
            count; `FIT_VECTORS` or `FIT_IMAGES` if None.
        memory_bytes: bound on the memory in bytes; fewer items are taken where it is small.
    """

    method: str = "itq"
    bits: int = 64
    seed: int = 0
    fit_items: int | None = None
    memory_bytes: int = 2**30

    @property
    def takes_labels(self) -> bool:
        """Whether the method is fitted by labels."""
        return self.method in LABELED_METHODS

    def check(self) -> None:
        """Raises a `UserError` that names the first argument whose value is not allowed."""
        if self.method not in get_args(FitMethod):
            raise UserError(
                f"`method` must be one of {', '.join(get_args(FitMethod))}, got {self.method!r}"
            )
        for name in ("bits", "seed", "fit_items", "memory_bytes"):
            value = getattr(self, name)
            if type(value) is not int and (value is not None or name != "fit_items"):
                raise UserError(f"`{name}` must be a whole number, got {value!r}")
        allowed = {
            "bits": (1, 10**6),
            "seed": (0, 2**32 - 1),
            "fit_items": (2, 2**50),
            "memory_bytes": (2**24, 2**50),
        }
        check_numbers(self, allowed)


def fit(
    vectors: Shaped[np.ndarray, "..."],
    method: str = "itq",
    bits: int = 64,
    *,
    labels: Shaped[np.ndarray, " n *classes"] | None = None,
    seed: int = 0,
    fit_items: int | None = None,
    memory_bytes: int = 2**30,
) -> Hasher:
    """Fits a hash function to vectors.

    The vectors are scaled to length 1, so that their direction alone counts, as for the cosine.

    Args:
        vectors: embeddings [n, dimensions] of any encoder; may be mapped from a file.
        method: ``itq``, ``pca-rotation``, ``random`` or ``pca-sign``, see
            `jaxhash.retrieval.baselines.linear_hashes.fit_linear_hashes`; or, with labels, ``cca-itq`` or
            ``lda-itq``, see `jaxhash.retrieval.baselines.labeled_hashes.fit_labeled_hashes`.
        bits: length of a code.
        labels: class ids, -1 for none, or rows of 0 and 1; of the methods that take them alone.
        seed: seed of rotations and hyperplanes.
        fit_items: number of vectors to fit to at most, evenly spaced, or drawn by the seed if labels count;
            100,000 by default.
        memory_bytes: bound on the memory in bytes, beside the vectors.

    Raises:
        UserError: if an argument is not allowed, labels are missing or not taken, a vector is not finite, or
            all are the same.

    Example:
        >>> vectors = np.random.default_rng(0).normal(size=(1000, 32)).astype(np.float32)
        >>> hasher = fit(vectors, "itq", bits=16)
        >>> hasher.encode(vectors).shape, hasher.bits
        ((1000, 2), 16)
    """
    options = FitOptions(method, bits, seed, fit_items, memory_bytes)
    options.check()
    if getattr(vectors, "ndim", 0) != 2 or vectors.dtype.kind not in "fiu" or not vectors.size:
        found = getattr(vectors, "shape", type(vectors).__name__)
        raise UserError(f"`vectors` must be numbers [n, dimensions], n at least 1, got {found}")
    labels = check_labels(labels, len(vectors), method)
    count = _num_items(vectors.shape[1], len(vectors), options, FIT_VECTORS)
    [chosen] = _choose_rows([len(vectors)], count, options)
    some = np.ascontiguousarray(vectors[chosen], np.float32)
    if not (sound := np.isfinite(some).all(axis=1)).all():
        raise UserError(f"`vectors`: row {np.flatnonzero(chosen)[sound.argmin()]} is not finite")
    return _fit_vectors(Sample(some, None if labels is None else labels[chosen]), options, {})


def fit_inputs(
    inputs: Sequence[Inputs],
    options: FitOptions,
    model: ModelConfig | None,
    console: Console,
    *,
    batch_size: int = 256,
    made_by: dict[str, Any],
) -> Hasher:
    """Fits a hash function to vectors, or to the features of images by a published backbone.

    Args:
        inputs: vectors or images; unreadable ones are left out.
        options: how it is fitted.
        model: backbone of images and its weights; None for vectors.
        console: where progress is printed.
        batch_size: images that are computed at a time.
        made_by: where the hash function comes from, as JSON values.

    Raises:
        UserError: if vectors come with a model or images without weights, or there is nothing to fit to.
    """
    _check_model(inputs, model)
    if model is not None:
        return _fit_images(inputs, options, model, console, batch_size, made_by)
    form = InputForm("vectors", inputs[0].shape, "float32", 0.0, 0.0, 0.0, scale=1.0)
    lengths = list(map(len, inputs))
    count = _num_items(form.shape[0], sum(lengths), options, FIT_VECTORS)
    chosen = _choose_rows(lengths, count, options)
    parts = list(_read_vectors(inputs, form, chosen, options.takes_labels, console))
    sample = Sample.of(parts, options.method, inputs[0].name)
    if not len(sample.vectors):
        raise UserError(f"none of the vectors of {inputs[0].name} that were tried is finite")
    _tell_missing_classes(sample, inputs, console)
    return _fit_vectors(sample, options, made_by, partial(track_progress, console=console))


def _check_model(inputs: Sequence[Inputs], model: ModelConfig | None) -> None:
    """Raises a `UserError` unless inputs are vectors without a model, or images with its weights."""
    kinds = {each.kind for each in inputs}
    if len(kinds) > 1:
        raise UserError("the inputs are images and vectors; a hash function takes one kind")
    if kinds == {"vectors"}:
        if model is not None:
            raise UserError(f"{inputs[0].name} holds vectors; `model` and `weights` are for images")
        for each in inputs:
            if each.shape != inputs[0].shape:
                raise UserError(
                    f"{inputs[0].name} has {inputs[0].shape[0]} dimensions, and {each.name} "
                    f"{each.shape[0]}"
                )
    elif model is None or model.weights is None:
        raise UserError(
            f"{inputs[0].name} holds images: name a backbone and its published weights, by `model` and "
            "`weights`; features by random weights would say nothing of them"
        )


def _num_items(dimensions: int, total: int, options: FitOptions, default: int) -> int:
    """Returns to how many of the items a hash function is fitted at most."""
    needed = 4 * 8 * dimensions * options.bits
    if needed > options.memory_bytes:
        raise UserError(
            f"`bits={options.bits:,}` of vectors of {dimensions:,} dimensions take about "
            f"{needed / 2**20:,.0f} MiB to fit, and `memory_bytes` allows "
            f"{options.memory_bytes / 2**20:,.0f} MiB"
        )
    rows = np.broadcast_to(np.float32(0), (total, dimensions))
    return min(options.fit_items or default, max_fitting_items(rows, options.memory_bytes))


def _tell_missing_classes(sample: Sample, inputs: Sequence[Inputs], console: Console) -> None:
    """Prints how many of the classes of the inputs are in the sample, if some are not."""
    total = sum(map(len, inputs))
    if sample.labels is None or len(sample.vectors) == total:
        return
    names: set[str] = set()
    for each in inputs:
        for rows in row_blocks(len(each), 1024):
            names.update(*each.labels(rows))
    used = len(used_classes(sample.labels))
    if used < len(names):
        print_line(
            console,
            f"note: the {len(sample.vectors):,} of {total:,} items that are fitted to hold {used:,} of the "
            f"{len(names):,} classes; `fit_items` takes more",
        )


def _choose_rows(
    lengths: Sequence[int], count: int, options: FitOptions
) -> list[Bool[np.ndarray, " n"]]:
    """Returns which rows of each of some inputs a hash function is fitted to.

    They are evenly spaced; drawn by the seed if labels count, as these may come in a regular order.
    """
    total = sum(lengths)
    every = -(-total // count)
    if every == 1 or not options.takes_labels:
        return [np.arange(length) % every == 0 for length in lengths]
    chosen = np.zeros(total, bool)
    chosen[np.random.default_rng(options.seed).choice(total, count, replace=False)] = True
    return np.split(chosen, np.cumsum(lengths)[:-1])


def _read_vectors(
    inputs: Sequence[Inputs],
    form: InputForm,
    chosen: Sequence[Bool[np.ndarray, " _"]],
    with_labels: bool,
    console: Console,
) -> Iterator[tuple[Float32[np.ndarray, "n dimensions"], list[list[str]]]]:
    """Yields the chosen vectors of each of the inputs, and their labels if they are asked for.

    All are read, in order, as some files can only be.
    """
    blocks = [
        (each, some, rows)
        for each, some in zip(inputs, chosen, strict=True)
        for rows in row_blocks(len(each), 4 * form.shape[0])
    ]
    for each, some, rows in track_progress(blocks, "reading vectors", len(blocks), console):
        block = each.read(rows, form)
        here = some[block.rows]
        labels = labels_of(each, rows, block.rows[here]) if with_labels else []
        yield block.inputs[here].copy(), labels


def _fit_vectors(
    sample: Sample,
    options: FitOptions,
    made_by: dict[str, Any],
    track: ProgressTracker = no_progress,
) -> Hasher:
    """Fits a hash function to vectors that are all finite and lie in memory."""
    vectors, _ = sample
    linear = _fit_linear(sample, options, track)
    form = measure_inputs(vectors, np.arange(len(vectors)))
    form = dataclasses.replace(form, scale=1.0)  # the length does not matter
    return Hasher(
        models.Encoder(models.backbone_factory("linear"), options.bits, unit_norm=True),
        {"params": _head(linear)},
        form,
        made_by | {"fitted_items": len(vectors)},
    )


def _fit_images(
    inputs: Sequence[Inputs],
    options: FitOptions,
    config: ModelConfig,
    console: Console,
    batch_size: int,
    made_by: dict[str, Any],
) -> Hasher:
    """Fits a hash function to the features of images."""
    extract, form = _feature_extractor(inputs, config, options.bits)
    total = sum(map(len, inputs))
    dimensions = extract.features(np.zeros((0, *form.shape), np.uint8)).shape[1]
    count = _num_items(dimensions, total, options, FIT_IMAGES)
    parts, first = [], []
    runs = _runs([len(each) for each in inputs], count)
    what = f"features by {config.model}, {_RUN} images at a time"
    for number, rows in track_progress(runs, what, len(runs), console):
        block = inputs[number].read(rows, form)
        images = block.inputs
        if len(images):
            labels = labels_of(inputs[number], rows, block.rows) if options.takes_labels else []
            parts.append((extract.features(images, batch_size=batch_size), labels))
        if sum(map(len, first)) < SAMPLE_SIZE:
            first.append(images)
    if not parts:
        raise UserError(f"none of the images of {inputs[0].name} that were tried can be read")
    sample = Sample.of(parts, options.method, inputs[0].name)
    _tell_missing_classes(sample, inputs, console)
    linear = _fit_linear(sample, options, partial(track_progress, console=console))
    images = np.concatenate(first)
    form = measure_inputs(
        images,
        np.arange(len(images)),
        image_size=form.image_size,
        preprocessing=form.preprocessing,
    )
    variables = dict(extract.variables)
    variables["params"] = variables.get("params", {}) | _head(linear)
    made_by = made_by | {"fitted_items": len(sample.vectors)}
    return Hasher(extract.model, variables, form, made_by)


def _feature_extractor(
    inputs: Sequence[Inputs], config: ModelConfig, bits: int
) -> tuple[Hasher, InputForm]:
    """Returns the backbone with its weights and without a head, and the form of its images."""
    config = dataclasses.replace(config, bits=bits)
    config.check()
    shape = getattr(inputs[0], "shape", None)
    if shape is None:
        size = config.input_size
        if size is None:
            raise UserError(
                f"{inputs[0].name} holds files of images, of any size: name the size that "
                f"{config.model} takes, by `image_size`"
            )
        shape = (size, size, 3)
    example = np.zeros((1, *shape), np.uint8)
    model = config.make(example).clone(unit_norm=True)
    weights = config.read_weights(example)
    form = measure_inputs(
        *(example, np.arange(1)),
        image_size=config.input_size,
        preprocessing=models.preprocessing_of(model),
    )
    for each in inputs:
        each.check(form)
    variables = {name: {"backbone": tree} for name, tree in weights.variables.items()}
    return Hasher(model, variables, form), form


def _runs(lengths: Sequence[int], count: int) -> list[tuple[int, slice]]:
    """Returns runs of rows, evenly spaced in each of some inputs, of so many rows in all at most.

    Args:
        lengths: number of rows of each of the inputs.
        count: number of rows; each of the inputs has one at least.

    Returns:
        Pairs of the number of the inputs and a range of their rows.
    """
    found = []
    for number, length in enumerate(lengths):
        share = max(1, min(count * length // sum(lengths), length))
        size = min(_RUN, share)
        places = -(-length // size)
        runs = places if share == length else share // size
        starts = [run * places // runs * size for run in range(runs)]
        found += [(number, slice(at, min(at + size, length))) for at in starts]
    return found


def _fit_linear(sample: Sample, options: FitOptions, track: ProgressTracker) -> LinearHash:
    """Fits the linear hash function, and refuses what it would have dead bits of."""
    vectors, labels = sample
    unit = normalize_rows(vectors[:1])
    if all(
        np.abs(normalize_rows(vectors[rows]) - unit).max() < _ROUNDING
        for rows in row_blocks(len(vectors), 4 * vectors.shape[1])
    ):
        raise UserError(
            f"the {len(vectors):,} vectors to fit to are all the same at length 1: no hash function "
            "tells them apart"
        )
    chosen = {"seed": options.seed, "memory_bytes": options.memory_bytes, "track": track}
    method = [options.method], options.bits
    if labels is not None:
        return fit_labeled_hashes(vectors, labels, *method, **chosen)[options.method]
    [linear] = fit_linear_hashes(vectors, *method, **chosen).values()
    live = int(linear.projection.any(axis=0).sum())
    if live < options.bits:
        raise UserError(
            f"{options.method} has a bit for each direction in which the vectors differ: `bits` must be "
            f"at most {live} for these {len(vectors):,}, got {options.bits}; itq and pca-rotation make "
            "longer codes"
        )
    return linear


def _head(linear: LinearHash) -> dict[str, PyTree]:
    """Returns the parameters of the hash head."""
    return {"head": {"kernel": linear.projection, "bias": linear.bias}}
