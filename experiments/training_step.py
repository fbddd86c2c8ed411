"""Measures what HSWD adds to a training step: the Fashion-MNIST preset with and without it.

    python experiments/training_step.py --data-dir TFDS_FOLDER

The steps are those of `jaxhash train`, called in alternation on one real batch in memory. The ratio of
their medians is written to experiments/results/training_step.json. It takes
about half a minute on 2 CPU cores.
"""

import shlex
import sys
from pathlib import Path

import jax
import numpy as np
import tyro

from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import fashion_mnist_hashnet_hswd
from jaxhash.training.devices import hardware
from jaxhash.training.timing import time_alternately
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "training_step.json"


def main(data_dir: Path, repeats: int = 200) -> None:
    """Times both steps in alternation and writes the ratio.

    Args:
        data_dir: folder of the TFDS data.
        repeats: greatest number of rounds.
    """
    preset = fashion_mnist_hashnet_hswd().replace(data_dir=data_dir)
    calls = {
        quantizer: _call(preset.replace(quantizer=quantizer)) for quantizer in ("none", "hswd")
    }
    seconds = time_alternately(calls, repeats=repeats, budget_seconds=300)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    write_json(
        PATH,
        {
            "command": shlex.join(["python", "experiments/training_step.py", "--data-dir", "DIR"]),
            "preset": "fashion-mnist-hashnet-hswd",
            "hardware": hardware(),
            "versions": versions(["jax", "jaxlib", "flax", "jaxhash"]),
            "seconds": {
                name: dict(zip(("lower", "median", "upper"), quartiles(values), strict=True))
                for name, values in seconds.items()
            },
            "repeats": len(seconds["hswd"]),
            "ratio": medians["hswd"] / medians["none"],
        },
    )
    print(f"with HSWD {medians['hswd']:.4f} s, without {medians['none']:.4f} s a step: ", end="")
    print(f"{100 * (medians['hswd'] / medians['none'] - 1):+.2f} %")


def quartiles(values):
    """The quartiles of seconds, as numbers that JSON knows."""
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist()


def _call(config):
    """A function that makes one step from the last one's state."""
    experiment = Experiment.open(config)
    parallel_step = experiment.make_step()
    batch = parallel_step.shard_batch(next(experiment.batches()))
    held = [parallel_step.to_local(parallel_step.replicate(experiment.initial_state()))]

    def call():
        held[0], metrics = parallel_step(held[0], batch)
        jax.block_until_ready((held[0], metrics))

    return call


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
