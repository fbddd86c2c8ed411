"""A run that is stopped anywhere and started again ends with the bits of one that was not."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxhash import run
from jaxhash.build import build, initial_state
from jaxhash.errors import UserError
from jaxhash.presets import digits_hashnet_hswd
from jaxhash.training import loop
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.writers import read_metrics

#: 24 steps of 8 an epoch, with a checkpoint amid an epoch.
OPTIONS = dict(epochs=3, checkpoint_every=5, crop=1)


@pytest.fixture
def console():
    return Console(quiet=True)


def config(folder, **options):
    return dataclasses.replace(digits_hashnet_hswd(), **(OPTIONS | {"run_dir": folder} | options))


def final_state(config):
    parts = build(config)
    with Checkpoints(config.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == parts.total_steps
        return checkpoints.restore(initial_state(config, parts))


def without_seconds(records):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def assert_same_run(one, other):
    (state, data), (same_state, same_data) = final_state(one), final_state(other)
    assert data == same_data
    jax.tree.map(
        np.testing.assert_array_equal,
        state.replace(key=jax.random.key_data(state.key)),
        same_state.replace(key=jax.random.key_data(same_state.key)),
    )
    first, second = (read_metrics(c.run_dir / "metrics.jsonl") for c in (one, other))
    assert without_seconds(first) == without_seconds(second)
    assert [record["step"] for record in first] == list(range(1, 25))
    results = [json.loads((c.run_dir / "results.json").read_text()) for c in (one, other)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    whole = config(tmp_path_factory.mktemp("whole") / "run")
    run.train(whole, Console(quiet=True))
    return whole


@pytest.mark.parametrize("at", [3, 13])  # before the first checkpoint, and amid an epoch
def test_interrupted_and_started_again(undisturbed, tmp_path, console, monkeypatch, at):
    again = config(tmp_path / "run")
    report = loop._report

    def interrupt(step, *rest):
        report(step, *rest)
        if step == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_report", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.train(again, console)
    assert not (again.run_dir / "results.json").exists()
    run.train(again, console)
    assert_same_run(undisturbed, again)


def test_killed_and_started_again(undisturbed, tmp_path, console):
    """SIGKILL, from outside, as soon as a checkpoint is there."""
    again = config(tmp_path / "run")
    flags = ["--epochs", "3", "--checkpoint-every", "5", "--crop", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxhash", "train", "--run-dir", str(again.run_dir), *flags],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (again.run_dir / "checkpoints" / "5").exists() and time.monotonic() < deadline:
        assert process.poll() is None or (again.run_dir / "checkpoints").exists()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run.train(again, console)
    assert_same_run(undisturbed, again)


def test_a_finished_run_says_so_and_does_nothing(undisturbed, capsys):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.run_dir.rglob("*")}
    results = run.train(undisturbed, Console(width=200))
    assert "is finished" in capsys.readouterr().out
    assert results == json.loads((undisturbed.run_dir / "results.json").read_text())
    assert before == {p: p.stat().st_mtime_ns for p in undisturbed.run_dir.rglob("*")}


def test_another_configuration_is_refused_with_the_difference(undisturbed, console):
    with pytest.raises(UserError, match="--bits is 32 there and 16 here"):
        run.train(config(undisturbed.run_dir, bits=16), console)


def test_evaluate_gets_the_same_numbers(undisturbed, capsys):
    run.evaluate(undisturbed.run_dir, Console(width=200))
    assert "to the last digit" in capsys.readouterr().out


def test_evaluate_notices_another_number(undisturbed, tmp_path, console):
    path = undisturbed.run_dir / "results.json"
    kept = path.read_text()
    results = json.loads(kept)
    path.write_text(json.dumps(results | {"map": results["map"] + 1e-15}))
    try:
        with pytest.raises(UserError, match="map"):
            run.evaluate(undisturbed.run_dir, console)
    finally:
        path.write_text(kept)


def test_results_and_report(undisturbed):
    results = json.loads((undisturbed.run_dir / "results.json").read_text())
    promised = (
        "map map_best_ties map_worst_ties precision_at_radius_2 bit_balance quantization_error "
        "bits seed split_sha256 objective seconds hardware versions"
    )
    assert set(promised.split()) <= set(results)
    assert results["map_worst_ties"] <= results["map"] <= results["map_best_ties"]
    assert set(results["baselines"]) == {"random hyperplanes", "PCA + random rotation"}
    drawn = {path.name for path in (undisturbed.run_dir / "report").iterdir()}
    assert drawn == {"losses.png", "code_values.png", "precision_recall.png", "neighbours.png"}


@pytest.mark.parametrize("option", [{"learning_rate": 1e30}, {"quantizer_weight": 3e38}])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, console, option):
    """The message names step and term; no checkpoint of the broken state is written."""
    broken = config(tmp_path / "run", clip_norm=1e30, **option)
    with pytest.raises(UserError, match=r"stopped at step \d+: .*(nan|inf)"):
        run.train(broken, console)
    assert (broken.run_dir / "config.json").exists()
    assert not (broken.run_dir / "results.json").exists()
    steps = [record["step"] for record in read_metrics(broken.run_dir / "metrics.jsonl")]
    with Checkpoints(broken.run_dir / "checkpoints") as checkpoints:
        assert (checkpoints.latest_step or 0) <= max(steps, default=0)


def test_a_batch_smaller_than_the_devices_is_refused(tmp_path, console):
    with pytest.raises(UserError, match="--batch-size 7 is smaller than the 8 devices"):
        run.train(config(tmp_path / "run", batch_size=7), console)
    assert not (tmp_path / "run").exists()
