"""Measures what eight seeds cost compared with one: the training, and the whole command.

    python experiments/sweep_speed.py --data-dir FEATURE_FOLDER

Both run `jaxhash train` with the feature preset, in alternation, each time in a new process and a new
folder. The seconds of training come from the run's results and include compilation. The seconds of the
command also include the start of Python, the evaluation and, for one seed, baselines, float rankings
and plots. The medians and their ratios are written to experiments/results/sweep_speed.json. It takes about five minutes on 2 CPU
cores.
"""

import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "sweep_speed.json"
PRESET = "cifar10-features-hashnet-hswd"


def main(
    data_dir: Path, seeds: int = 8, turns: int = 3, epochs: int = 40, output: Path = PATH
) -> None:
    """Times one seed and several, and writes the ratios.

    Args:
        data_dir: folder of the feature file.
        seeds: number of seeds that are trained together.
        turns: number of runs of each.
        epochs: number of epochs of the training.
        output: path of the result file.
    """
    times = {1: [], seeds: []}
    for _ in range(turns):
        for count, found in times.items():
            found.append(_run(data_dir, count, epochs))
            print(f"{count} seeds: training {found[-1][0]:.1f} s, command {found[-1][1]:.1f} s")
    medians = {count: np.median(found, axis=0).tolist() for count, found in times.items()}
    kinds = ("training", "command")
    content = {
        "command": shlex.join(["python", "experiments/sweep_speed.py", "--data-dir", "DIR"]),
        "preset": PRESET,
        "epochs": epochs,
        "seeds": seeds,
        "turns": turns,
        "hardware": hardware(),
        "versions": versions(["jax", "jaxlib", "flax", "optax", "grain", "jaxhash"]),
        "seconds": {
            kind: {str(count): medians[count][i] for count in times} for i, kind in enumerate(kinds)
        },
        "ratios": {kind: medians[seeds][i] / medians[1][i] for i, kind in enumerate(kinds)},
    }
    write_json(output, content)
    for kind in kinds:
        print(f"{kind}: {seeds} seeds take {content['ratios'][kind]:.2f} times as long as one")


def _run(data_dir: Path, seeds: int, epochs: int) -> tuple[float, float]:
    """Returns the seconds of the training, and of the command around it."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = f"-m jaxhash train {PRESET} --seeds {seeds} --epochs {epochs}".split()
        places = ["--data-dir", str(data_dir.absolute()), "--run-dir", str(run_dir)]
        started = time.monotonic()
        subprocess.run(
            [sys.executable, *command, *places], check=True, stdout=subprocess.DEVNULL, cwd=folder
        )
        whole = time.monotonic() - started
        return json.loads((run_dir / "results.json").read_text())["seconds"], whole


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
