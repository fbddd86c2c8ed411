"""Distributed training gives the parameters, bank and metrics of a single process."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.training.checkpoint import Checkpoints

#: 14 steps; the last batch of an epoch is short; HashNet's bank is sharded over the devices.
FLAGS = [
    "cifar10-features-hashnet-hswd",
    "--dataset",
    "features:made.npz",
    "--queries-per-class",
    "20",
    "--train-per-class",
    "200",
    "--epochs",
    "2",
    "--warmup-epochs",
    "0",
    "--batch-size",
    "128",
    "--bits",
    "16",
    "--checkpoint-every",
    "4",
    "--spread-banks",
    "always",
]

#: Number of processes, and of devices per process.
TOPOLOGIES = {"2x4": (2, 4), "1x8": (1, 8), "1x1": (1, 1)}

#: Sums over devices have another order of rounding.
TOLERANCE = dict(rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def start(tmp_path_factory, reserve_port):
    """Returns a function that starts the processes of a training on this machine.

    The data are vectors in four clusters without zero entries, so no gradient is mere rounding.
    """
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    labels = np.arange(1200) % 4
    features = rng.normal(size=(4, 24))[labels] + rng.normal(size=(1200, 24))
    np.savez(data / "made.npz", features=features.astype(np.float32), labels=labels)

    def start(folder, topology, *flags, code=None):
        count, devices = TOPOLOGIES[topology]
        command = [
            sys.executable,
            *(("-c", code) if code else ("-m", "jaxhash")),
            "train",
            *FLAGS,
            "--data-dir",
            str(data),
            *flags,
        ]
        command += ["--run-dir", str(folder)]
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
        if count > 1:
            command.append("--distributed")
            environment["JAX_COORDINATOR_ADDRESS"] = f"localhost:{reserve_port()}"
            environment["JAX_NUM_PROCESSES"] = str(count)
        return start_all(command, environment, count)

    return start


def start_all(command, environment, count):
    """Starts a command in each process of a job."""
    return [
        subprocess.Popen(
            command,
            env=environment | {"JAX_PROCESS_ID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def wait_for(processes):
    """Returns the exit statuses, and the output and errors of each process."""
    outputs = [process.communicate(timeout=400) for process in processes]
    return [process.returncode for process in processes], outputs


@pytest.fixture(scope="module")
def train(start):
    """Returns a function that runs a training and returns its output."""

    def train(folder, topology, *flags):
        status, outputs = wait_for(start(folder, topology, *flags))
        assert status == [0] * len(status), outputs
        # Only process 0 prints; a library may also print in the others.
        assert ["training items" in out for out, _ in outputs] == [True] + [False] * (
            len(outputs) - 1
        )
        return outputs[0][0]

    return train


@pytest.fixture(scope="module")
def folders(tmp_path_factory, start, train):
    """Returns finished runs of each topology and mapping; single processes run in parallel."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "2x4", "2x4")
    flags = {"1x8": ["--parallel", "shard_map"], "1x1": []}
    running = {name: start(folder / name, name, *flags[name]) for name in flags}
    for processes in running.values():
        status, outputs = wait_for(processes)
        assert status == [0], outputs
    return folder


def final_state(folder):
    fields = json.loads((folder / "config.json").read_text())
    config = Config.from_json(fields)
    experiment = Experiment.open(config)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        assert checkpoints.steps[-1] == experiment.total_steps
        state = checkpoints.restore(experiment.initial_state())
    return jax.device_get(state.replace(key=jax.random.key_data(state.key)))


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("topology", ["2x4", "1x8"])
def test_equal_to_one_process_with_one_device(folders, topology):
    one, many = final_state(folders / "1x1"), final_state(folders / topology)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), one, many)
    logs = [read_metrics(folders / name / "metrics.jsonl") for name in ("1x1", topology)]
    assert [record["step"] for record in logs[1]] == list(range(1, 15))
    for first, second in zip(*logs, strict=True):
        for name in ("loss", "hashnet", "hswd", "grad_norm", "bit_balance"):
            np.testing.assert_allclose(first[name], second[name], rtol=1e-3, err_msg=name)
    found = [results(folders / name) for name in ("1x1", topology)]
    assert found[0]["items"] == found[1]["items"] and found[0]["baselines"] == found[1]["baselines"]
    assert abs(found[0]["map"] - found[1]["map"]) < 5e-3
    with (
        np.load(folders / "1x1" / "codes.npz") as a,
        np.load(folders / topology / "codes.npz") as b,
    ):
        for name in a.files:
            assert a[name].shape == b[name].shape and (a[name] != b[name]).mean() < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "topology, flags",
    [
        ("1x8", ["--parallel", "shard_map"]),
        pytest.param("2x4", ["--parallel", "jit", "--shard-params"], marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_of_two_processes_resumes_elsewhere(folders, tmp_path, train, topology, flags):
    """In one process with the other mapping, or with parameters spread over both."""
    again = tmp_path / "run"
    again.mkdir()
    for name in ("config.json", "metrics.jsonl", "inputs.json"):
        (again / name).write_bytes((folders / "2x4" / name).read_bytes())
    (again / "checkpoints").mkdir()
    shutil.copytree(folders / "2x4" / "checkpoints" / "12", again / "checkpoints" / "12")
    assert "going on from step 12 of 14" in train(again, topology, *flags)
    one, other = final_state(folders / "2x4"), final_state(again)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), one, other)


@pytest.mark.slow
def test_all_processes_move_a_damaged_checkpoint(folders, tmp_path, train):
    """The newest cannot be read: both resume from the previous one, with identical bits."""
    again = tmp_path / "run"
    shutil.copytree(folders / "2x4", again)
    (again / "results.json").unlink()
    damaged = max((again / "checkpoints" / "14").rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate(damaged, damaged.stat().st_size // 2)
    output = train(again, "2x4")
    assert "it is put aside as" in output and "going on from step 12 of 14" in output
    assert len(list((again / "broken_checkpoints").iterdir())) == 1
    jax.tree.map(np.testing.assert_array_equal, final_state(folders / "2x4"), final_state(again))


#: Code of a process with a fault after its 9th step.
FAULT = """
import os, signal, sys, time
from jaxhash.training import guard
guard.supervise()
import jax
from jaxhash.utils.errors import UserError
from jaxhash.training import loop
report = loop._report
def report_and(step, *rest, **options):
    report(step, *rest, **options)
    if step == 9 and jax.process_index() == {process}:
        {fault}
loop._report = report_and
from jaxhash.__main__ import main
main()
"""


@pytest.mark.slow
def test_a_terminated_training_resumes(tmp_path, start, train):
    """A signal to one process stops both after the same step; resuming gives identical bits."""
    whole, again = tmp_path / "whole", tmp_path / "again"
    longer = "--epochs", "6", "--checkpoint-every", "8"  # it must not end before the signal
    train(whole, "2x4", *longer)
    terminate = "os.kill(os.getppid(), signal.SIGTERM)"
    processes = start(again, "2x4", *longer, code=FAULT.format(process=1, fault=terminate))
    status, outputs = wait_for(processes)
    assert status == [75, 75], outputs
    (step,) = {err.split("step ")[-1].split(" ")[0] for _, err in outputs}
    assert (again / "checkpoints" / step).is_dir()
    assert f"going on from step {step} of 42" in train(again, "2x4", *longer)
    jax.tree.map(np.testing.assert_array_equal, final_state(whole), final_state(again))
    assert results(again)["map"] == results(whole)["map"]


#: Code of each fault, the exit status of the process, and a part of its output.
FAULTS = {
    "killed": ("os.kill(os.getppid(), signal.SIGKILL); signal.pause()", -signal.SIGKILL, ""),
    "out of memory": ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL, "SIGKILL"),
    "a bug": ("raise ZeroDivisionError", 1, "ZeroDivisionError"),
    "its own files": ("raise UserError('mine alone')", 2, "mine alone"),
    "a second signal": (
        "while True: os.kill(os.getppid(), signal.SIGINT), time.sleep(0.05)",
        130,
        "interrupted",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "process"),  # process 0 is the coordinator; how either ends is in the status alone
    [
        ("killed", 0),
        ("killed", 1),
        ("out of memory", 1),
        ("a bug", 0),
        ("its own files", 1),
        ("a second signal", 0),
    ],
)
def test_the_other_process_names_the_lost_one(start, tmp_path, fault, process):
    """In one line, with the exit status for a restart, and without waiting forever."""
    code, status, message = FAULTS[fault]
    processes = start(
        tmp_path / "run",
        "2x4",
        *("--epochs", "1000", "--heartbeat", "10"),  # a machine may be too busy for 5
        code=FAULT.format(process=process, fault=code),
    )
    statuses, texts = wait_for(processes)
    assert statuses[process] == status and message in texts[process][1], texts
    assert statuses[1 - process] == 75, texts
    line = f"jaxhash: process {process} is gone; start all again\n"
    assert texts[1 - process][1] == line, texts


@pytest.mark.slow
def test_two_processes_evaluate_a_run(folders, reserve_port):
    """Each encodes and counts its share; the numbers are those that eight devices of one process had."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "JAX_NUM_PROCESSES": "2"}
    environment["JAX_COORDINATOR_ADDRESS"] = f"localhost:{reserve_port()}"
    command = [sys.executable, "-m", "jaxhash", "evaluate", str(folders / "1x8"), "--distributed"]
    running = start_all(command, environment, 2)
    status, [(first, _), (second, _)] = wait_for(running)
    assert status == [0, 0] and "every number equals" in first
    assert "every number" not in second and "evaluating" not in second  # only process 0 prints


@pytest.mark.slow
def test_a_profile_of_two_processes(tmp_path, train):
    """Both call the timed steps equally often; otherwise they would wait forever."""
    train(tmp_path / "run", "2x4", "--profile")
    assert (tmp_path / "run" / "profile" / "loss.json").exists()
