"""Processes of a command share a sweep: a signal ends one alone, and it goes on by its own command."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from trainings import without_seconds

from jaxhash.runs.metrics_file import read_metrics

#: Four members; a checkpoint amid the training of 8 steps.
FLAGS = [
    "--seeds",
    "4",
    "--model",
    "mlp",
    "--epochs",
    "4",
    "--bits",
    "8",
    "--train-per-class",
    "20",
]
FLAGS += ["--baselines", "none", "--checkpoint-every", "3"]

#: Code of a process that receives SIGTERM, as from a scheduler, after its fifth step.
TERMINATED = """
from jaxhash.training import guard
guard.supervise()
import os, signal
from jaxhash.training import loop
report = loop._report
def report_and(step, *rest, **options):
    report(step, *rest, **options)
    if step == 5:
        os.kill(os.getppid(), signal.SIGTERM)
loop._report = report_and
from jaxhash.__main__ import main
main()
"""


def start(folder, process, *, devices=2, code=None):
    """Starts a process of two that share a sweep; of one with twice the devices if it has no number."""
    command = [sys.executable, *(("-c", code) if code else ("-m", "jaxhash")), "train", *FLAGS]
    command += ["--run-dir", str(folder)]
    if process is not None:
        command += ["--distributed", "--processes", "2", "--process", str(process)]
    return subprocess.Popen(
        command,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process):
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


@pytest.mark.slow
def test_two_processes_have_the_bits_of_one_with_all_devices(tmp_path):
    """A member on each device, in either case; the second process is stopped, and started again."""
    one, shared = tmp_path / "one", tmp_path / "shared"
    running = start(shared, 0), start(shared, 1, code=TERMINATED), start(one, None, devices=4)
    first, second, whole = map(outcome, running)
    assert whole[0] == 0 and "4 members: 4 seeds from 0; 1 on each of 4 devices" in whole[1], whole
    assert first[0] == 0 and "those of process 1 are not" in first[1], first
    assert "trains 2 of them; 1 on each of 2 devices" in first[1]
    assert second[0] == 75 and "is saved, and the same command goes on" in second[2], second
    assert not (shared / "results.json").exists()

    status, out, err = outcome(start(shared, 1))
    assert (status, err) == (0, "") and "going on from step" in out and "over 4 seeds" in out, (
        out,
        err,
    )
    results = [json.loads((folder / "results.json").read_text()) for folder in (one, shared)]
    for found in results:
        del found["seconds"], found["hardware"]  # half the devices
    assert results[0] == results[1] and results[0]["seeds"] == [0, 1, 2, 3]
    records = [without_seconds(read_metrics(f / "metrics.jsonl", 4)) for f in (one, shared)]
    assert records[0] == records[1] and len(records[0]) == 8
    for seed in range(4):
        codes = (dict(np.load(f / f"seed{seed}" / "codes.npz")) for f in (one, shared))
        jax.tree.map(np.testing.assert_array_equal, *codes)
