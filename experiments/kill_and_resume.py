"""Kills a training at random moments, many times, and compares it with an undisturbed one.

    python experiments/kill_and_resume.py --kills 20

Each process is killed by SIGKILL after a random number of checkpoints and a random time; every third
process as soon as it starts to write its next checkpoint. Both trainings must end with the same bits:
states, metrics of all steps, and results.
"""

import hashlib
import json
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import tyro

from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.devices import hardware
from jaxhash.training.speed import TIMING_FIELDS
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "kill_and_resume.json"

#: Flags of a training with batch normalization, cropped images, a memory bank and model selection.
FLAGS = (
    "--crop 1 --validation 0.1 --choose validation --evaluate-every 4 --epochs {epochs} "
    "--checkpoint-every 5"
)


def main(kills: int = 20, epochs: int = 40, seed: int = 0, output: Path = PATH) -> None:
    """Trains twice, once with kills, and writes the comparison.

    Args:
        kills: number of processes that are killed.
        epochs: number of epochs of the training; an epoch has 6 steps.
        seed: seed of the moments of the kills.
        output: path of the result file.
    """
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed, disturbed = Path(scratch, "undisturbed"), Path(scratch, "disturbed")
        assert start_training(undisturbed, epochs).wait() == 0
        log = []
        while len(log) < kills:
            log.append(start_and_kill(disturbed, epochs, rng, during_save=len(log) % 3 == 2))
            print(log[-1], flush=True)
        assert start_training(disturbed, epochs).wait() == 0
        ends = {"peace": digests(undisturbed), "war": digests(disturbed)}
        result = {
            "command": shlex.join(["python", *sys.argv]),
            "training": f"jaxhash train {FLAGS.format(epochs=epochs)}",
            "hardware": hardware(),
            "versions": versions(["jax", "jaxlib", "orbax-checkpoint", "jaxhash"]),
            "kills": log,
            "ends": ends,
            "identical": ends["peace"] == ends["war"],
        }
    write_json(output, result)
    saves = sum(kill["during_save"] for kill in log)
    print(f"{len(log)} kills, {saves} during a save; identical: {result['identical']}")
    sys.exit(not result["identical"])


def start_training(folder: Path, epochs: int) -> subprocess.Popen:
    """Starts a training, or resumes it."""
    command = [sys.executable, "-m", "jaxhash", "train", "--run-dir", str(folder)]
    return subprocess.Popen(
        command + FLAGS.format(epochs=epochs).split(),
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
        stdout=subprocess.DEVNULL,
    )


def start_and_kill(folder: Path, epochs: int, rng: random.Random, *, during_save: bool) -> dict:
    """Starts a process, kills it, and returns the state of the folder at its death."""
    before, stale = checkpoints(folder)[-1:], unfinished(folder)
    process = start_training(folder, epochs)
    # Waits for up to one checkpoint, so that the training progresses between two kills.
    wanted, delay = rng.choice([0, 1, 1]), rng.uniform(0.0, 0.2)
    began = time.monotonic()
    while time.monotonic() - began < 300:
        if process.poll() is not None:
            raise RuntimeError("the training ended before all kills; give it more --epochs")
        new = [step for step in checkpoints(folder) if [step] > before]
        if during_save and new and unfinished(folder) - stale:
            break
        if not during_save and len(new) >= wanted and [last_step(folder)] > before:
            time.sleep(delay)
            break
        time.sleep(0.0005)
    process.kill()
    process.wait()
    return {
        "seconds": round(time.monotonic() - began, 2),
        "during_save": bool(unfinished(folder) - stale),
        "newest_checkpoint": (checkpoints(folder) or [None])[-1],
        "last_record": last_step(folder),
    }


def checkpoints(folder: Path) -> list[int]:
    """Returns the steps of complete checkpoints, in order."""
    paths = (folder / "checkpoints").glob("*")
    return sorted(int(path.name) for path in paths if path.name.isdigit())


def unfinished(folder: Path) -> set[str]:
    """Returns the names of checkpoints that are incomplete."""
    return {path.name for path in (folder / "checkpoints").glob("*tmp*")}


def last_step(folder: Path) -> int:
    """Returns the last step in metrics.jsonl."""
    return max((record["step"] for record in read_metrics(folder / "metrics.jsonl")), default=0)


def digests(folder: Path) -> dict:
    """Returns hashes of everything that equal trainings have in common."""
    config = Config.from_json(json.loads((folder / "config.json").read_text()))
    experiment = Experiment.open(config)
    with Checkpoints(folder / "checkpoints") as saved:
        steps = saved.steps
        state = saved.restore(experiment.initial_state())
    leaves = jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
    records = read_metrics(folder / "metrics.jsonl")
    records = [{k: v for k, v in record.items() if k not in TIMING_FIELDS} for record in records]
    results = json.loads((folder / "results.json").read_text())
    del results["seconds"], results["speed"]
    return {
        "state": digest(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)),
        "steps": len(records),
        "metrics": digest(json.dumps(records).encode()),
        "results": digest(json.dumps(results).encode()),
        "checkpoints": steps,
        "map": results["map"],
    }


def digest(content: bytes) -> str:
    """Returns the first half of a SHA-256, as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:32]


if __name__ == "__main__":
    tyro.cli(main)
