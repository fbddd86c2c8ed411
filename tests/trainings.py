"""Small trainings on digits, what becomes of them when they are disturbed, and what is compared."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

import jax
import numpy as np
import pytest

from jaxhash.runs import train_run as run
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.training import loop
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.speed import TIMING_FIELDS

#: 24 steps of 8 an epoch, with a checkpoint amid an epoch.
OPTIONS = dict(epochs=3, checkpoint_every=5, crop=1)


#: At this rate the first epoch is the best: the model chosen is neither the last nor among the
#: newest checkpoints. The training is the same for both rules.
CHOOSING = dict(learning_rate=0.3, evaluate_every=1, validation=0.1)


RULES = {rule: CHOOSING | {"choose": rule} for rule in ("validation", "best-on-test")}


FLAGS = ["--epochs", "3", "--checkpoint-every", "5", "--crop", "1"]


def config(folder, **options):
    return digits_hashnet_hswd().replace(**(OPTIONS | {"run_dir": folder} | options))


@contextmanager
def without_plots():
    """Trainings that draw nothing, which takes a third of their time and has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("save_plots", "draw_training"):
            patch.setattr(run, name, lambda *_: None)
        yield


def final_state(config):
    experiment = Experiment.open(config)
    with Checkpoints(config.run.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == experiment.total_steps
        return checkpoints.restore(experiment.initial_state())


def without_seconds(records):
    return [{k: v for k, v in record.items() if k not in TIMING_FIELDS} for record in records]


def assert_same_training(one, other):
    state, same_state = final_state(one), final_state(other)
    jax.tree.map(
        np.testing.assert_array_equal,
        state.replace(key=jax.random.key_data(state.key)),
        same_state.replace(key=jax.random.key_data(same_state.key)),
    )
    first, second = (read_metrics(c.run.run_dir / "metrics.jsonl") for c in (one, other))
    assert without_seconds(first) == without_seconds(second)
    assert [record["step"] for record in first] == list(range(1, 25))


def assert_same_run(one, other):
    assert_same_training(one, other)
    results = [results_of(c) for c in (one, other)]
    for result in results:
        del result["seconds"], result["speed"]
    assert results[0] == results[1]
    kept = []
    for c in (one, other):
        with Checkpoints(c.run.run_dir / "checkpoints") as checkpoints:
            kept.append((checkpoints.steps, checkpoints.candidates))
    assert kept[0] == kept[1]


def results_of(config):
    return json.loads((config.run.run_dir / "results.json").read_text())


def train_with_an_interruption(config, console, monkeypatch, *, at):
    start_with_an_interruption(
        config.run.run_dir, partial(run.train, config, console), monkeypatch, at
    )


def start_with_an_interruption(folder, start, monkeypatch, at):
    """Interrupts a training after a step, starts it again, and returns its results."""
    report = loop._report

    def interrupt(step, *rest, **options):
        report(step, *rest, **options)
        if step == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_report", interrupt)
        with pytest.raises(KeyboardInterrupt):
            start()
    assert not (folder / "results.json").exists()
    return start()


def signal_a_training(config, flags, which, *, after):
    """A signal, from outside, as soon as the checkpoint of a step is there; what comes of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxhash", "train", "--run-dir", str(config.run.run_dir), *flags],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    checkpoints = config.run.run_dir / "checkpoints"
    while not (checkpoints / str(after)).exists() and time.monotonic() < deadline:
        assert process.poll() is None or checkpoints.exists()
        time.sleep(0.005)
    process.send_signal(which)
    _, said = process.communicate()
    return process.returncode, said


def train_with_a_kill(config, flags, console, *, after):
    signal_a_training(config, flags, signal.SIGKILL, after=after)
    run.train(config, console)


def terminate_at(at):
    report = loop._report

    def terminate(step, *rest, **options):
        report(step, *rest, **options)
        if step == at:
            signal.raise_signal(signal.SIGTERM)

    return terminate
