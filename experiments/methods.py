"""Compares every supervised method with no quantizer, its own, L2 and HSWD, on CIFAR-10 features.

    python experiments/methods.py --data-dir FEATURE_FOLDER

The protocol is the HSWD paper's: of each class 100 queries and 500 training images, the other 54,000
are the database, mAP over all of it. Each cell is a sweep over seeds under runs/methods, so an
interrupted comparison goes on where it stopped, and the results, experiments/results/methods.json,
are written after each. On a CPU core a cell of three seeds takes 10 to 30 seconds, all of it two hours.
"""

import itertools
import shlex
import sys
from pathlib import Path

import jax
import tyro
from rich.console import Console

from jaxhash.objectives import METHODS
from jaxhash.runs.presets import PRESETS, preset_of_method
from jaxhash.runs.train_sweep import sweep
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json

PATH = Path(__file__).parent / "results" / "methods.json"

#: Keys of the results that are the same for all cells.
SHARED = ("dataset", "split", "split_sha256", "items", "hardware", "versions", "conventions")

VARIANTS = ("none", "own", "l2", "hswd")

#: Supervised methods; those for a hierarchy of classes, documents or few labels have experiments of their
#: own.
SUPERVISED = tuple(
    name
    for name, method in METHODS.items()
    if method.kind not in ("hierarchy", "unsupervised", "few labels") and method.data == "cifar10"
)


def main(
    data_dir: Path,
    methods: tuple[str, ...] = SUPERVISED,
    variants: tuple[str, ...] = VARIANTS,
    bits: tuple[int, ...] = (16, 32, 64),
    seeds: int = 3,
    learning_rate: float | None = None,
    output: Path = PATH,
) -> None:
    """Trains every cell with all seeds and collects the results.

    Args:
        data_dir: folder of the feature file.
        methods: names of methods.
        variants: names of quantizers; ``own`` is skipped for methods without a penalty.
        bits: lengths of a code.
        seeds: number of seeds, from 0.
        learning_rate: learning rate of all cells; the rate of each method's preset if not given.
        output: path of the result file.
    """
    cells = [
        (method, variant, length)
        for length, method, variant in itertools.product(bits, methods, variants)
        if variant != "own" or METHODS[method].published_penalty is not None
    ]
    words = ["DIR" if word == str(data_dir) else word for word in sys.argv[1:]]
    command = shlex.join(["python", "experiments/methods.py", *words])
    console = Console(width=120)
    content = {"command": command, "rows": []}
    for number, (method, variant, length) in enumerate(cells, 1):
        console.rule(f"{number} of {len(cells)}: {method}, {variant}, {length} bits")
        preset = preset_of_method(method)
        default = PRESETS[preset]()
        config = default.replace(
            learning_rate=learning_rate or default.optimizer.learning_rate,
            data_dir=data_dir,
            quantizer=variant,
            bits=length,
            run_dir=Path("runs") / "methods" / f"{method}-{variant}-{length}",
        )
        row = {"method": method, "quantizer": variant, "bits": length, "preset": preset}
        row["objective"] = config.objective.describe()
        try:
            results = sweep(config, {}, console, seeds=seeds)
            content |= {key: results[key] for key in SHARED}
            row |= {key: results[key] for key in ("epochs", "seconds", "members")}
        except UserError as error:  # every seed diverged
            row["error"] = str(error)
        content["rows"].append(row)
        write_json(output, content)
        jax.clear_caches()  # the next cell cannot reuse the compiled programs


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
