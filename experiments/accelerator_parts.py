"""What experiments/accelerator.py measures, a function for each part, at given sizes."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxhash.bench.compile.targets import GPUS, TPUS, Chip
from jaxhash.bench.config import BenchConfig
from jaxhash.bench.losses import KERNEL, LOSSES
from jaxhash.bench.run import run_benchmark
from jaxhash.data.input_form import InputForm
from jaxhash.metrics import evaluate_retrieval
from jaxhash.models import preprocessing_of, summary
from jaxhash.objectives import Batch
from jaxhash.retrieval.hasher import Hasher
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.outline import DataShape, outline_experiment
from jaxhash.training.devices import peak_device_bytes
from jaxhash.training.members import best_mapping, member_step, stack_states
from jaxhash.training.timing import time_alternately


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of all measurements.

    Attributes:
        losses: losses that are timed beside each other; the kernel of HSWD has a part of its own.
        loss_batch: rows of the codes that they are timed on.
        elementwise_batch: rows of the codes on which HSWD stands against the elementwise penalty.
        copy_batch: rows of the codes on which HSWD stands against a copy.
        bits: length of all codes.
        models: backbones of the training steps and of the encoding.
        image_size: height and width of their images.
        batch_size: images of a step on each device, and of a batch that is encoded.
        classes: number of classes of the images.
        queries: queries of the evaluation.
        database: items of its database.
        labels: number of labels of which an item may have several.
        k: rank at which the evaluation cuts.
        members: numbers of members of the sweeps.
        dimensions: length of the vectors that the sweeps train on.
        sweep_batch: vectors of a step of a sweep.
        budget_seconds: seconds of rounds of each timing.
    """

    losses: tuple[str, ...] = tuple(name for name in LOSSES if name != KERNEL)
    loss_batch: int = 1024
    elementwise_batch: int = 8192
    copy_batch: int = 65_536
    bits: int = 64
    models: tuple[str, ...] = ("resnet50", "vit_b16")
    image_size: int = 224
    batch_size: int = 256
    classes: int = 1000
    queries: int = 5000
    database: int = 117_218
    labels: int = 80
    k: int = 5000
    members: tuple[int, ...] = (8, 64)
    dimensions: int = 1280
    sweep_batch: int = 128
    budget_seconds: float = 10.0


#: Sizes to test the command with.
TOY = Sizes(
    losses=("l2", "hashnet"),
    loss_batch=16,
    elementwise_batch=16,
    copy_batch=16,
    bits=8,
    models=("cnn",),
    image_size=16,
    batch_size=8,
    classes=3,
    queries=5,
    database=40,
    labels=4,
    k=10,
    members=(2,),
    dimensions=6,
    sweep_batch=8,
    budget_seconds=0.05,
)


def find_chip(kind: str) -> Chip | None:
    """Returns what a device can do, from JAX's name of its kind; None if it is not known.

    Example:
        >>> [find_chip(kind).name for kind in ("NVIDIA H200", "TPU v5 lite", "TPU v6 lite")]
        ['h200', 'v5e', 'v6e']
    """
    kind = kind.lower()
    if "pcie" in kind:
        return None  # slower than the cards on a board, which are published beside it
    spelled = {"v5 lite": "v5e", "v6 lite": "v6e", "v5": "v5p"}
    for name, chip in (*spelled.items(), *((name, name) for name in (*GPUS, *TPUS))):
        if name in kind:
            return (GPUS | TPUS)[chip]
    return None


def losses_config(sizes: Sizes) -> BenchConfig:
    """Returns the benchmark of all losses."""
    return BenchConfig(
        preset="losses",
        losses=sizes.losses,
        passes=("forward+backward",),
        batch_sizes=(sizes.loss_batch,),
        bits=(sizes.bits,),
        budget_seconds=sizes.budget_seconds,
    )


def hswd_config(sizes: Sizes, other: str) -> BenchConfig:
    """Returns the benchmark of HSWD as it is computed by default, beside another loss."""
    return BenchConfig(
        losses=("select", other),
        passes=("forward+backward",),
        batch_sizes=(sizes.elementwise_batch, sizes.copy_batch),
        bits=(sizes.bits,),
        budget_seconds=sizes.budget_seconds,
    )


def measure_step(name: str, sizes: Sizes) -> dict[str, Any]:
    """Measures a training step in bfloat16, and the loss with its gradient in the codes alone.

    The batch lies on the devices already: reading and moving images is not measured.
    """
    experiment = _image_experiment(name, sizes)
    step, loss = experiment.make_step(), experiment.make_loss_step()
    state = [step.to_local(step.replicate(experiment.initial_state()))]
    batch = step.shard_batch(random_batch(experiment, sizes.classes))

    def call(mapped):
        state[0], metrics = mapped(state[0], batch)
        jax.block_until_ready(metrics)

    started = time.perf_counter()
    call(step)
    first = time.perf_counter() - started
    calls = {"step": partial(call, step), "loss": partial(call, loss)}
    seconds = _medians(calls, sizes)
    rows = experiment.config.optimizer.batch_size
    macs = summary(experiment.model, experiment.source.inputs[:1]).training_macs
    flops, devices = 2 * macs * rows, jax.device_count()
    chip = find_chip(jax.local_devices()[0].device_kind)
    peak = chip and chip.peak_flops * devices
    return {
        "model": name,
        "dtype": "bfloat16",
        "batch_size": rows,
        "devices": devices,
        "first_step_seconds": first,
        "step_seconds": seconds["step"],
        "loss_seconds": seconds["loss"],
        "loss_share": seconds["loss"] / seconds["step"],
        "images_per_second": rows / seconds["step"],
        "flops": flops,
        "peak_flops": peak,
        "peak_source": chip and chip.source,
        "mfu": peak and flops / seconds["step"] / peak,
        "peak_device_bytes": peak_device_bytes(),
    }


def measure_encoding(name: str, sizes: Sizes) -> dict[str, Any]:
    """Measures images a second of the network on a device, and of encoding from the host's memory."""
    experiment = _image_experiment(name, sizes)
    model, shape = experiment.model, experiment.source.inputs.shape[1:]
    state = experiment.initial_state()
    form = InputForm(
        "images", shape, "uint8", 0.0, 255.0, 128.0, None, shape[0], preprocessing_of(model)
    )
    hasher = Hasher(model, jax.device_get(state.variables), form)
    rows = sizes.batch_size
    images = np.random.default_rng(0).integers(0, 256, (rows, *shape), np.uint8)
    apply, variables, there = jax.jit(hasher.apply), *jax.device_put((hasher.variables, images))
    seconds = _medians(
        {
            "network": lambda: jax.block_until_ready(apply(variables, there)),
            "encode": lambda: hasher.encode(images, batch_size=rows),
        },
        sizes,
    )
    return {
        "model": name,
        "dtype": "bfloat16",
        "batch_size": rows,
        "network_images_per_second": rows / seconds["network"],
        "encode_images_per_second": rows / seconds["encode"],
    }


def measure_evaluation(sizes: Sizes) -> dict[str, Any]:
    """Measures the evaluation of random codes, with compilation in the first call, and after it."""
    rng = np.random.default_rng(0)

    def part(items):
        codes = rng.integers(0, 256, (items, sizes.bits // 8), np.uint8)
        return codes, rng.random((items, sizes.labels)) < 3 / sizes.labels

    codes = (*part(sizes.queries), *part(sizes.database))

    def call():
        return evaluate_retrieval(*codes, k=sizes.k)

    started = time.perf_counter()
    call()
    first = time.perf_counter() - started
    return {
        "queries": sizes.queries,
        "database": sizes.database,
        "bits": sizes.bits,
        "labels": sizes.labels,
        "first_seconds": first,
        "seconds": _medians({"evaluation": call}, sizes)["evaluation"],
    }


def measure_sweep(sizes: Sizes) -> dict[str, Any]:
    """Measures steps of several members in one program, and of one training by itself."""
    config = Config().replace(model="mlp", bits=sizes.bits, batch_size=sizes.sweep_batch)
    data = DataShape(10 * sizes.sweep_batch, 10, (sizes.dimensions,))
    experiment = outline_experiment(config, *data.make_source())
    calls = {1: _step_call(experiment, 1)}
    calls |= {members: _step_call(experiment, members) for members in sizes.members}
    seconds = _medians(calls, sizes)
    platform = jax.local_devices()[0].platform
    return {
        "model": "mlp",
        "batch_size": sizes.sweep_batch,
        "dimensions": sizes.dimensions,
        "mapping": best_mapping(platform, experiment.initial_state().params),
        "points": [
            {
                "members": members,
                "step_seconds": found,
                "times_one": found / seconds[1],
                "member_steps_per_second": members / found,
            }
            for members, found in seconds.items()
        ],
    }


def random_batch(experiment: Experiment, classes: int, members: int | None = None) -> Batch:
    """Returns a full batch of random inputs and labels; with ``members``, one for each [rows, members]."""
    rng = np.random.default_rng(0)
    shapes, stacked = experiment.abstract_batch(), () if members is None else (members,)
    rows = len(shapes.mask)

    def shape(leaf):
        return rows, *stacked, *leaf.shape[1:]

    if np.issubdtype(shapes.inputs.dtype, np.integer):
        inputs = rng.integers(0, 256, shape(shapes.inputs), np.uint8)
    else:
        inputs = rng.normal(size=shape(shapes.inputs)).astype(np.float32)
    index = np.arange(rows, dtype=shapes.index.dtype)
    return Batch(
        inputs,
        rng.integers(0, classes, shape(shapes.labels)).astype(shapes.labels.dtype),
        np.broadcast_to(index.reshape(-1, *(1 for _ in stacked)), shape(shapes.index)),
        np.ones(shape(shapes.mask), bool),
    )


def _image_experiment(name: str, sizes: Sizes) -> Experiment:
    rows = sizes.batch_size * jax.device_count()
    config = Config().replace(model=name, dtype="bfloat16", bits=sizes.bits, batch_size=rows)
    shape = (sizes.image_size, sizes.image_size, 3)
    return outline_experiment(config, *DataShape(10 * rows, sizes.classes, shape).make_source())


def _step_call(experiment: Experiment, members: int) -> Callable[[], None]:
    """Returns a call of the step of this many members; of one as it is trained by itself."""
    if members == 1:
        step, state = experiment.make_step(), experiment.initial_state()
        batch = random_batch(experiment, classes=10)
    else:
        state = stack_states(experiment.initial_states(range(members)), members)
        mapping = best_mapping(jax.local_devices()[0].platform, state.params)
        one = lambda traced: experiment.with_hyperparams(**traced).step_function()  # noqa: E731
        step = experiment.over_devices(member_step(one, {}, mapping=mapping))
        batch = random_batch(experiment, classes=10, members=members)
    held = [step.to_local(step.replicate(state))]
    there = step.shard_batch(batch)

    def call():
        held[0], metrics = step(held[0], there)
        jax.block_until_ready(metrics)

    return call


def _bench(config: BenchConfig, file: Path, console: Console, command: str) -> dict[str, Any]:
    """Runs a benchmark and returns the content of its result file."""
    return run_benchmark(dataclasses.replace(config, output=file), console, command)


def _medians(calls: dict[Any, Callable[[], Any]], sizes: Sizes) -> dict[Any, float]:
    seconds = time_alternately(calls, repeats=50, budget_seconds=sizes.budget_seconds)
    return {name: float(np.median(found)) for name, found in seconds.items()}


def parts(
    sizes: Sizes, output: Path, console: Console, command: str
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yields the name of each part and the function that measures it.

    The kernel comes last: a fault in it on the device would end what comes after it in the process.
    """

    def bench(name, config):
        file = output.with_name(f"{output.stem}_{name}.json")
        return name, partial(_bench, config, file, console, command)

    yield bench("hswd", hswd_config(sizes, "l2"))
    for model in sizes.models:
        yield f"step {model}", partial(measure_step, model, sizes)
    yield "evaluation", partial(measure_evaluation, sizes)
    for model in sizes.models:
        yield f"encode {model}", partial(measure_encoding, model, sizes)
    yield "sweep", partial(measure_sweep, sizes)
    yield bench("losses", losses_config(sizes))
    yield bench("kernel", hswd_config(sizes, KERNEL))
