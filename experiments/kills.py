"""Kill one training at random moments, again and again, and compare it with one left in peace.

    python experiments/kills.py --kills 20

Each process is killed by SIGKILL after a random number of checkpoints and a random time; every third
one as soon as the next checkpoint has begun to be written. The two trainings must end with the same
bits: states, metrics of all steps, and results.
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
from jaxhash.runs.experiment import build, initial_state
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.devices import hardware
from jaxhash.training.speed import TIMING_FIELDS
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "kills.json"

#: Batch normalization, cropped images, a bank, and a model to choose.
FLAGS = (
    "--crop 1 --validation 0.1 --choose validation --evaluate-every 4 --epochs {epochs} "
    "--checkpoint-every 5"
)


def main(kills: int = 20, epochs: int = 40, seed: int = 0, output: Path = PATH) -> None:
    """Train twice, once with kills, and write what happened.

    Args:
        kills: processes that are killed.
        epochs: length of the training, in epochs of 6 steps.
        seed: seed of the moments.
        output: the result file.
    """
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        peace, war = Path(scratch, "peace"), Path(scratch, "war")
        assert run(peace, epochs).wait() == 0
        log = []
        while len(log) < kills:
            log.append(killed(war, epochs, rng, during_save=len(log) % 3 == 2))
            print(log[-1], flush=True)
        assert run(war, epochs).wait() == 0
        ends = {name: digests(folder) for name, folder in (("peace", peace), ("war", war))}
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


def run(folder: Path, epochs: int) -> subprocess.Popen:
    """Start a training, or go on with it."""
    command = [sys.executable, "-m", "jaxhash", "train", "--run-dir", str(folder)]
    return subprocess.Popen(
        command + FLAGS.format(epochs=epochs).split(),
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
        stdout=subprocess.DEVNULL,
    )


def killed(folder: Path, epochs: int, rng: random.Random, *, during_save: bool) -> dict:
    """Start a process and kill it; what was there when it died."""
    before, stale = checkpoints(folder)[-1:], unfinished(folder)
    process = run(folder, epochs)
    # A checkpoint or two are let through, so that the training comes on a little between two kills.
    wanted, delay = rng.choice([0, 1, 1]), rng.uniform(0.0, 0.2)
    began = time.monotonic()
    while time.monotonic() - began < 300:
        if process.poll() is not None:
            raise RuntimeError("the training ended before all kills; give it more --epochs")
        new = [step for step in checkpoints(folder) if [step] > before]
        if during_save and new and unfinished(folder) - stale:
            break
        if not during_save and len(new) >= wanted and [metrics(folder)] > before:
            time.sleep(delay)
            break
        time.sleep(0.0005)
    process.kill()
    process.wait()
    return {
        "seconds": round(time.monotonic() - began, 2),
        "during_save": bool(unfinished(folder) - stale),
        "newest_checkpoint": (checkpoints(folder) or [None])[-1],
        "last_record": metrics(folder),
    }


def checkpoints(folder: Path) -> list[int]:
    """Steps whose checkpoints are whole, in order."""
    there = (folder / "checkpoints").glob("*")
    return sorted(int(path.name) for path in there if path.name.isdigit())


def unfinished(folder: Path) -> set[str]:
    """Checkpoints that are being written, or were when their process died."""
    return {path.name for path in (folder / "checkpoints").glob("*tmp*")}


def metrics(folder: Path) -> int:
    """The last step that is in metrics.jsonl."""
    return max((record["step"] for record in read_metrics(folder / "metrics.jsonl")), default=0)


def digests(folder: Path) -> dict:
    """What two trainings that are the same have in common, as hashes."""
    config = Config.from_json(json.loads((folder / "config.json").read_text()))
    parts = build(config)
    with Checkpoints(folder / "checkpoints") as kept:
        steps = kept.steps
        state = kept.restore(initial_state(config, parts))
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
    """The first half of a SHA-256."""
    return hashlib.sha256(content).hexdigest()[:32]


if __name__ == "__main__":
    tyro.cli(main)
