"""Compares HashNet with HashNet + HSWD, with sampled and balanced targets, at several rates.

    python experiments/hashnet_hswd.py fashion-mnist --data-dir TFDS_FOLDER
    python experiments/hashnet_hswd.py cifar10-features --data-dir FEATURE_FOLDER

Each of the 15 runs is a run folder under runs/hashnet_hswd, so an interrupted comparison goes on
where it stopped. The results land in experiments/results/hashnet_hswd_SET.json, from which
`tables.py` draws the README's tables. On 2 CPU cores a run takes about a minute for Fashion-MNIST
and half a minute for the features; mAP to expect is 0.8 and 0.75.
"""

import itertools
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxhash.runs import train_run as run
from jaxhash.runs.presets import PRESETS
from jaxhash.utils.files import write_json

HERE = Path(__file__).parent

#: Options of each variant.
VARIANTS = {
    "hashnet": {"quantizer": "none"},
    "hashnet-hswd-sampled": {"quantizer": "hswd", "quantizer_options": ()},
    "hashnet-hswd-balanced": {"quantizer": "hswd", "quantizer_options": ("target=balanced",)},
}

#: Suffix of a run's folder, and factor of the preset's learning rate. Without HSWD the codes grow
#: without bound at a high rate, so one rate for all variants would favor one of them.
FACTORS = {"": 1, "-third": 1 / 3}


def main(
    name: Annotated[Literal["fashion-mnist", "cifar10-features"], tyro.conf.Positional],
    data_dir: Path,
    seeds: int = 3,
) -> None:
    """Trains every variant with every seed and collects the results.

    Args:
        name: name of the data set.
        data_dir: folder of the data.
        seeds: number of seeds, from 0.
    """
    preset = PRESETS[f"{name}-hashnet-hswd"]()
    runs = []
    for (variant, options), (suffix, factor), seed in itertools.product(
        VARIANTS.items(), FACTORS.items(), range(seeds)
    ):
        if factor < 1 and options.get("quantizer_options"):
            continue  # equals the sampled target within the deviation over seeds
        config = preset.replace(
            data_dir=data_dir,
            run_dir=Path("runs") / "hashnet_hswd" / name / f"{variant}{suffix}-seed{seed}",
            seed=seed,
            learning_rate=preset.optimizer.learning_rate * factor,
            **options,
        )
        results = run.train(config, Console(width=120))
        for scores in (results, *results["baselines"].values()):
            for key in ("precision_recall", "health"):  # large; they stay in the run folder
                scores.pop(key, None)
        runs.append(
            {"variant": variant, "learning_rate": config.optimizer.learning_rate, **results}
        )
    command = shlex.join(["python", "experiments/hashnet_hswd.py", name, "--data-dir", "DIR"])
    path = HERE / "results" / f"hashnet_hswd_{name.replace('-', '_')}.json"
    write_json(path, {"command": command, "preset": f"{name}-hashnet-hswd", "runs": runs})


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
