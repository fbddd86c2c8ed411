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

#: A checkpoint amid the training of 8 steps.
FLAGS = ["--model", "mlp", "--epochs", "4", "--bits", "8", "--train-per-class", "20"]
FLAGS += ["--baselines", "none", "--checkpoint-every", "3"]

#: Code of a process whose devices JAX joins to those of the other before the command begins, as on a TPU
#: slice. That has no coordinator, whose end ends the others: here it is in the first, which waits for the test.
JOINED = """
from jaxhash.training import guard
guard.supervise()
import atexit, os, sys
import jax
jax.config.update("jax_enable_recoverability", True)
index = int(os.environ["JAX_PROCESS_ID"])
jax.distributed.initialize(num_processes=2, process_id=index, heartbeat_timeout_seconds=10)
assert jax.process_count() == 2 and jax.device_count() == 2 * jax.local_device_count()
if index == 0:
    atexit.register(sys.stdin.read)
"""

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
"""

COMMAND = """
from jaxhash.__main__ import main
main()
"""


def start(words, *, devices, process=None, code="", port=None):
    """Starts a command; as a process of two if it has a number, which are joined if they have a port."""
    environment = {"JAX_NUM_CPU_DEVICES": str(devices)}
    if process is not None:
        words = [*words, "--distributed"]
        environment |= {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(process)}
    if port is not None:
        environment["JAX_COORDINATOR_ADDRESS"] = f"localhost:{port}"
        code = JOINED + code
    return subprocess.Popen(
        [sys.executable, "-c", code + COMMAND, *words],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcomes_of(processes):
    """Waits for the processes, the last one first; returns status, output and errors of each."""
    outputs = [process.communicate(timeout=500) for process in reversed(processes)][::-1]
    return [(p.returncode, *output) for p, output in zip(processes, outputs, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("seeds, joined", [(4, False), (8, True)])
def test_two_processes_have_the_bits_of_one_with_all_devices(tmp_path, reserve_port, seeds, joined):
    """A member on each device, in either case; the second process is stopped, and started again.

    It ends as the first still works, or before; those that JAX joins wait for one another at the start alone.
    """
    one, shared, devices = tmp_path / "one", tmp_path / "shared", seeds // 2
    train = ["train", "--seeds", str(seeds), *FLAGS, "--run-dir"]

    def start_shared(codes):
        options = {"devices": devices, "port": reserve_port() if joined else None}
        words = [*train, str(shared)]
        return [start(words, process=p, code=code, **options) for p, code in codes.items()]

    running = [*start_shared({0: "", 1: TERMINATED}), start([*train, str(one)], devices=seeds)]
    first, second, whole = outcomes_of(running)
    said = f"{seeds} members: {seeds} seeds from 0; 1 on each of {seeds} devices"
    assert whole[0] == 0 and said in whole[1], whole
    assert first[0] == 0 and "those of process 1 are not" in first[1], first
    assert f"trains {devices} of them; 1 on each of {devices} devices" in first[1]
    assert second[0] == 75 and "is saved, and the same command goes on" in second[2], second
    assert not (shared / "results.json").exists()

    again = start_shared({0: "", 1: ""} if joined else {1: ""})
    outcomes = outcomes_of(again)
    assert [status for status, _, _ in outcomes] == [0] * len(again), outcomes
    out = outcomes[-1][1]
    assert "going on from step" in out and f"over {seeds} seeds" in out, outcomes
    results = [json.loads((folder / "results.json").read_text()) for folder in (one, shared)]
    for found in results:
        del found["seconds"], found["hardware"]  # half the devices
    assert results[0] == results[1] and results[0]["seeds"] == list(range(seeds))
    records = [without_seconds(read_metrics(f / "metrics.jsonl", seeds)) for f in (one, shared)]
    assert records[0] == records[1] and len(records[0]) == 8
    for seed in range(seeds):
        codes = (dict(np.load(f / f"seed{seed}" / "codes.npz")) for f in (one, shared))
        jax.tree.map(np.testing.assert_array_equal, *codes)
    if joined:  # these share the evaluation of each member
        words = ["evaluate", str(shared), "--coordinator", f"localhost:{reserve_port()}"]
        outcomes = outcomes_of([start(words, devices=devices, process=p) for p in (0, 1)])
        assert [status for status, _, _ in outcomes] == [0, 0], outcomes
        assert "every member's numbers equal" in outcomes[0][1], outcomes
