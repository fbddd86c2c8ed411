"""Measures the input pipeline: images a second that are decoded, augmented, and batched."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from rich.console import Console
from rich.table import Table

from jaxhash.bench.config import SYNTHETIC, InputConfig
from jaxhash.bench.run import result_header
from jaxhash.data.augment import Augment, DeferredAugment
from jaxhash.data.load import load_source
from jaxhash.data.pipeline import training_batches
from jaxhash.data.readers.folder import MAX_UNREADABLE, read_folder
from jaxhash.data.readers.image_files import ImageFiles
from jaxhash.data.sources import Source
from jaxhash.objectives import Batch
from jaxhash.training.timing import MIN_ROUNDS, time_alternately
from jaxhash.utils.console import print_line, print_table
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, write_json

#: Value of the key ``format`` of a result file.
FORMAT = "jaxhash bench data 1"

#: Height and width of the synthetic images, as in CIFAR.
SIZE = 32

#: Number of synthetic images in memory, and in files.
ARRAYS, FILES = 20_000, 2_000

#: Time in seconds of the calls that determine the length of a round.
_CALIBRATION_SECONDS = 0.5


class Rate(NamedTuple):
    """A measured rate of one stage of one data set."""

    data: str
    what: Literal["decode", "augment", "pipeline"]
    augment_on: Literal["host", "device"] | None
    workers: int | None
    images_per_second: float
    """Rate of the median round."""
    quartiles: tuple[float, float]
    rounds: int


def benchmark_input(config: InputConfig, console: Console, command: str) -> dict[str, Any]:
    """Measures, prints, writes the result file, and returns its content.

    Decoding uses all threads of the data set's reader, if it has one: a folder's images are read
    from their files, as for a set too large for memory. The rate of augmentation on the device
    includes the transfer, and a pipeline ends with augmented images on the device.

    Raises:
        UserError: if the configuration is invalid, or a data set cannot be read.
    """
    config.check()
    packages = ("jaxhash", "jax", "jaxlib", "numpy", "grain", "pillow")
    content = result_header(FORMAT, command, packages) | {
        "load_average": os.getloadavg(),  # other processes lower the rates
        "settings": config.to_json(),
        "rates": [],
    }
    output = config.output or Path("runs", "bench", f"data-{content['hardware']['platform']}.json")
    check_output(output, ".json", makes_folder=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    rates = []
    for name in config.data or (*SYNTHETIC, "digits"):
        with _open_source(name, config) as source:
            for rate in _measure(source, config):
                rates.append(rate)
                print_line(console, _describe(rate))
                content["rates"] = [each._asdict() for each in rates]
                write_json(output, content)
    print_table(console, _table(rates))
    print_line(console, f"results are in {output}")
    return content


def synthetic_images(
    images: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "images height width 3"]:
    """Draws images that compress about as photographs do: soft blotches and a little noise."""
    blotches = rng.integers(0, 256, (images, 4, 4, 3)).astype(np.uint8)
    soft = [np.asarray(Image.fromarray(x).resize((SIZE, SIZE))) for x in blotches]
    noise = rng.integers(-4, 5, (images, SIZE, SIZE, 3))
    return np.clip(np.stack(soft) + noise, 0, 255).astype(np.uint8)


@contextlib.contextmanager
def _open_source(name: str, config: InputConfig) -> Iterator[Source]:
    """Opens a data set; synthetic files lie in a folder that is removed afterwards."""
    if name not in SYNTHETIC:
        source = _load_source(name, config)
        if source.inputs[:1].ndim != 4:
            raise UserError(f"`data={name}`: it holds feature vectors, and no images")
        yield source
        return
    images = synthetic_images(ARRAYS if name == "arrays" else FILES, np.random.default_rng(0))
    with TemporaryDirectory() as folder:
        inputs = images if name == "arrays" else _write(images, Path(folder), name)
        yield Source(name, inputs, np.zeros(len(images), np.int32), ("image",))


def _load_source(name: str, config: InputConfig) -> Source:
    if name.startswith("folder:"):
        folder = (config.data_dir or Path()) / name.removeprefix("folder:")
        return read_folder(name, folder, config.image_size, MAX_UNREADABLE, memory_limit=0)
    return load_source(name, config.data_dir)


def _write(images: UInt8[np.ndarray, "n height width 3"], folder: Path, kind: str) -> ImageFiles:
    paths = [folder / f"{number}.{kind}" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return ImageFiles(paths, None, images.shape[1:])


def _measure(source: Source, config: InputConfig) -> Iterator[Rate]:
    """Yields all rates of a data set, one after the other, so that no two compete for cores."""
    augment = Augment(config.crop, config.flip)
    size = min(config.batch_size, len(source.inputs))
    rows = np.random.default_rng(0).permutation(len(source.inputs))[:size]
    images = source.inputs[rows]
    sample = augment.sample(size, np.random.default_rng(0))

    augment_on_device = jax.jit(augment.on_device)
    deferred = DeferredAugment(images, (sample.astype(np.int32),))
    augmenters = {
        "host": lambda: augment.apply(images, sample),
        "device": lambda: jax.block_until_ready(augment_on_device(deferred)),
    }
    calls: dict[tuple, Callable[[], Any]] = {
        ("augment", where): augmenters[where] for where in config.augment_on
    }
    if not isinstance(source.inputs, np.ndarray):
        calls = {("decode", None): lambda: source.inputs[rows]} | calls
    for (what, where), call in calls.items():
        seconds = time_alternately(
            {what: call}, repeats=config.repeats, budget_seconds=config.budget_seconds
        )[what]
        yield _summarize(source.name, what, where, None, size / np.array(seconds))

    for workers in config.workers:
        for where in config.augment_on:
            batches = training_batches(
                source,
                np.arange(len(source.inputs)),
                batch_size=size,
                seed=0,
                augment=augment,
                workers=workers,
                augment_on=where,
            )
            transfer = augment_on_device if where == "device" else jax.device_put
            with contextlib.closing(batches):
                rates = _sustained(
                    partial(_transfer_next, batches, transfer), config, 8 * max(2, workers)
                )
            yield _summarize(source.name, "pipeline", where, workers, rates)


def _transfer_next(batches: Iterator[Batch], transfer: Callable[[Any], Any]) -> int:
    """Transfers the next batch to the device and returns its number of images."""
    batch = next(batches)
    jax.block_until_ready(transfer(batch.inputs))
    return int(batch.mask.sum())


def _sustained(
    call: Callable[[], int],
    config: InputConfig,
    min_calls: int,
    clock: Callable[[], float] = time.perf_counter,
) -> np.ndarray:
    """Returns the images a second of rounds of calls without a break, after some untimed calls.

    The untimed calls use up the batches in the pipeline's buffers and the time that its workers take
    to start. A round is ``min_calls`` calls or more, several times the size of the buffers, since
    workers deliver batches in bursts.
    """
    for _ in range(min_calls):
        call()
    start, done = clock(), 0
    while not done or clock() - start < _CALIBRATION_SECONDS:
        call()
        done += 1
    rounds = min(config.repeats, MIN_ROUNDS)
    in_round = max(min_calls, round(config.budget_seconds / rounds * done / (clock() - start)))
    rates = []
    for _ in range(rounds):
        start = clock()
        images = sum(call() for _ in range(in_round))
        rates.append(images / (clock() - start))
    return np.array(rates)


def _summarize(
    data: str, what: str, where: str | None, workers: int | None, rates: np.ndarray
) -> Rate:
    lower, median, upper = np.quantile(rates, (0.25, 0.5, 0.75)).tolist()
    return Rate(data, what, where, workers, median, (lower, upper), len(rates))


def _describe(rate: Rate) -> str:
    how = [] if rate.augment_on is None else [f"on {rate.augment_on}"]
    how += [] if rate.workers is None else [f"{rate.workers} workers"]
    return (
        f"{', '.join([f'{rate.data} {rate.what}', *how])}: {rate.images_per_second:,.0f} images/s"
    )


def _table(rates: list[Rate]) -> Table:
    table = Table(title="images a second", box=None)
    for title in ("data", "what", "augmented on"):
        table.add_column(title)
    for title in ("workers", "median", "quartiles"):
        table.add_column(title, justify="right")
    for rate in rates:
        table.add_row(
            rate.data,
            rate.what,
            rate.augment_on or "-",
            "-" if rate.workers is None else str(rate.workers),
            f"{rate.images_per_second:,.0f}",
            " to ".join(f"{quartile:,.0f}" for quartile in rate.quartiles),
        )
    return table
