"""``jaxhash bench --data``: images a second that are decoded, moved at random, and brought in batches."""

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

from jaxhash.bench.config import MADE, DataConfig
from jaxhash.bench.run import measured_here
from jaxhash.bench.timing import FEWEST_ROUNDS, alternate
from jaxhash.data.augment import Augment, Drawn
from jaxhash.data.load import MOST_BAD, load_source
from jaxhash.data.pipeline import training_batches
from jaxhash.data.readers.folder import read_folder
from jaxhash.data.readers.image_files import Files
from jaxhash.data.sources import Source
from jaxhash.objectives import Batch
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, write_json

#: What a result file says it is.
FORMAT = "jaxhash bench data 1"

#: Height and width of the images that are made up, CIFAR's.
SIZE = 32

#: How many are made up, in memory and in files.
ARRAYS, FILES = 20_000, 2_000

#: Seconds of a pipeline from which the length of a round is taken.
_WARM_UP = 0.5


class Rate(NamedTuple):
    """What was measured of one data set."""

    data: str
    what: Literal["decode", "augment", "pipeline"]
    augment_on: Literal["host", "device"] | None
    workers: int | None
    images_per_second: float
    """The median round's."""
    quartiles: tuple[float, float]
    rounds: int


def bench_data(config: DataConfig, console: Console, command: str) -> dict[str, Any]:
    """Measure, print, and write the result file; return its content.

    Decoding is measured by all threads of the set's reader, where it has one: a folder's images are
    read from their files, as those of a set too large for memory are. To augment on the device
    includes the way there, and a pipeline ends with augmented images on the device.

    Raises:
        UserError: if the configuration does not allow it, or a data set cannot be read.
    """
    config.check()
    packages = ("jaxhash", "jax", "jaxlib", "numpy", "grain", "pillow")
    content = measured_here(FORMAT, command, packages) | {
        "load_average": os.getloadavg(),  # others' work, which these rates suffer from
        "settings": config.to_json(),
        "rates": [],
    }
    output = config.output or Path("runs", "bench", f"data-{content['hardware']['platform']}.json")
    check_output(output, ".json", makes_folder=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    rates = []
    for name in config.data or (*MADE, "digits"):
        with _opened(name, config) as source:
            for rate in _measure(source, config):
                rates.append(rate)
                print_line(console, _line(rate))
                content["rates"] = [each._asdict() for each in rates]
                write_json(output, content)
    console.print(_table(rates))
    print_line(console, f"results are in {output}")
    return content


def made_up(images: int, rng: np.random.Generator) -> UInt8[np.ndarray, "images height width 3"]:
    """Images that compress about as photographs do: soft blotches and a little noise."""
    blotches = rng.integers(0, 256, (images, 4, 4, 3)).astype(np.uint8)
    soft = [np.asarray(Image.fromarray(x).resize((SIZE, SIZE))) for x in blotches]
    noise = rng.integers(-4, 5, (images, SIZE, SIZE, 3))
    return np.clip(np.stack(soft) + noise, 0, 255).astype(np.uint8)


@contextlib.contextmanager
def _opened(name: str, config: DataConfig) -> Iterator[Source]:
    """The data set; one made up lies in a folder that is removed afterwards."""
    if name not in MADE:
        source = _open(name, config)
        if source.inputs[:1].ndim != 4:
            raise UserError(f"--data {name}: it holds feature vectors, and no images")
        yield source
        return
    images = made_up(ARRAYS if name == "arrays" else FILES, np.random.default_rng(0))
    with TemporaryDirectory() as folder:
        inputs = images if name == "arrays" else _write(images, Path(folder), name)
        yield Source(name, inputs, np.zeros(len(images), np.int32), ("image",))


def _open(name: str, config: DataConfig) -> Source:
    if name.startswith("folder:"):
        folder = (config.data_dir or Path()) / name.removeprefix("folder:")
        return read_folder(name, folder, config.image_size, MOST_BAD, held=0)
    return load_source(name, config.data_dir)


def _write(images: UInt8[np.ndarray, "n height width 3"], folder: Path, kind: str) -> Files:
    paths = [folder / f"{number}.{kind}" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return Files(paths, None, images.shape[1:])


def _measure(source: Source, config: DataConfig) -> Iterator[Rate]:
    """All rates of a data set, one after the other: none has threads of another beside it."""
    augment = Augment(config.crop, config.flip)
    size = min(config.batch_size, len(source.inputs))
    rows = np.random.default_rng(0).permutation(len(source.inputs))[:size]
    images = source.inputs[rows]
    draws = augment.draw(size, np.random.default_rng(0))

    move = jax.jit(augment.on_device)
    drawn = Drawn(images, (draws.astype(np.int32),))
    on = {
        "host": lambda: augment.apply(images, draws),
        "device": lambda: jax.block_until_ready(move(drawn)),
    }
    calls: dict[tuple, Callable[[], Any]] = {
        ("augment", where): on[where] for where in config.augment_on
    }
    if not isinstance(source.inputs, np.ndarray):
        calls = {("decode", None): lambda: source.inputs[rows]} | calls
    for (what, where), call in calls.items():
        seconds = alternate(
            {what: call}, repeats=config.repeats, budget_seconds=config.budget_seconds
        )[what]
        yield _rate(source.name, what, where, None, size / np.array(seconds))

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
            bring = move if where == "device" else jax.device_put
            with contextlib.closing(batches):
                rates = _sustained(partial(_next, batches, bring), config, 8 * max(2, workers))
            yield _rate(source.name, "pipeline", where, workers, rates)


def _next(batches: Iterator[Batch], bring: Callable[[Any], Any]) -> int:
    """Bring the next batch to the device, and count its images."""
    batch = next(batches)
    jax.block_until_ready(bring(batch.inputs))
    return int(batch.mask.sum())


def _sustained(
    call: Callable[[], int],
    config: DataConfig,
    least: int,
    clock: Callable[[], float] = time.perf_counter,
) -> np.ndarray:
    """Images a second of rounds of calls without a break, after a few that do not count.

    What waits in the pipeline's buffers when it begins is used up by then, and so is the time that
    its workers take to start. A round is ``least`` calls or more, several times what buffers hold,
    for workers bring batches in bursts.
    """
    for _ in range(least):
        call()
    start, done = clock(), 0
    while not done or clock() - start < _WARM_UP:
        call()
        done += 1
    rounds = min(config.repeats, FEWEST_ROUNDS)
    in_round = max(least, round(config.budget_seconds / rounds * done / (clock() - start)))
    rates = []
    for _ in range(rounds):
        start = clock()
        images = sum(call() for _ in range(in_round))
        rates.append(images / (clock() - start))
    return np.array(rates)


def _rate(data: str, what: str, where: str | None, workers: int | None, rates: np.ndarray) -> Rate:
    lower, median, upper = np.quantile(rates, (0.25, 0.5, 0.75)).tolist()
    return Rate(data, what, where, workers, median, (lower, upper), len(rates))


def _line(rate: Rate) -> str:
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
