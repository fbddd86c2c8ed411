"""Finds the learning rate of each supervised method's preset: the best of four, at 32 bits.

    python experiments/learning_rates.py --data-dir FEATURE_FOLDER

Each method trains by its preset, with its own penalty, at four rates and two seeds, on nine tenths of
the training items of the CIFAR-10 features. The other tenth selects the rate; the queries are not used.
A cell is a sweep under runs/learning_rates, so an interrupted search goes on where it stopped.
"""

import shlex
import sys
from pathlib import Path

import jax
import tyro
from methods import SUPERVISED  # selection by labels would supervise the other methods
from rich.console import Console

from jaxhash.runs.config import Config
from jaxhash.runs.presets import PRESETS, preset_of_method
from jaxhash.runs.train_sweep import sweep
from jaxhash.utils.files import write_json

PATH = Path(__file__).parent / "results" / "learning_rates.json"

#: Keys of the results that are the same for all methods.
SHARED = (
    "bits",
    "dataset",
    "split",
    "split_sha256",
    "items",
    "epochs",
    "seeds",
    "hardware",
    "versions",
)


def main(
    data_dir: Path,
    methods: tuple[str, ...] = SUPERVISED,
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2),
    seeds: int = 2,
    output: Path = PATH,
) -> None:
    """Tries every rate on every method and collects the validation mAP.

    Args:
        data_dir: folder of the feature file.
        methods: names of methods.
        rates: learning rates to try.
        seeds: number of seeds, from 0.
        output: path of the result file.
    """
    words = ["DIR" if word == str(data_dir) else word for word in sys.argv[1:]]
    content = {
        "command": shlex.join(["python", "experiments/learning_rates.py", *words]),
        "methods": {},
    }
    console = Console(width=120)
    for number, method in enumerate(methods, 1):
        console.rule(f"{number} of {len(methods)}: {method}")
        config = PRESETS[
            preset_of_method(method)
        ]().replace(
            data_dir=data_dir,
            bits=32,
            learning_rate=Config().optimizer.learning_rate,  # swept below, so the preset's rate does not matter
            run_dir=Path("runs") / "learning_rates" / method,
        )
        results = sweep(config, {"learning_rate": rates}, console, seeds=seeds)
        content |= {key: results[key] for key in SHARED}
        content["methods"][method] = {
            "best": results["settings"][results["best"]]["values"]["learning_rate"],
            "validation_map": {
                str(setting["values"]["learning_rate"]): setting["scores"]["validation_map"]
                for setting in results["settings"]
                if setting["scores"]
            },
        }
        write_json(output, content)
        jax.clear_caches()  # the next cell cannot reuse the compiled programs


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
