"""A run that is stopped anywhere and started again ends with the bits of one that was not."""

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxhash import build as build_module
from jaxhash import cli, run
from jaxhash.build import build, initial_state
from jaxhash.errors import Stopped, UserError
from jaxhash.presets import digits_hashnet_hswd
from jaxhash.training import collapse, loop
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.speed import TIMES
from jaxhash.training.writers import read_metrics

#: 24 steps of 8 an epoch, with a checkpoint amid an epoch.
OPTIONS = dict(epochs=3, checkpoint_every=5, crop=1)

#: At this rate the first epoch is the best: the model chosen is neither the last nor among the
#: newest checkpoints. The training is the same for both rules.
CHOOSING = dict(learning_rate=0.3, evaluate_every=1, validation=0.1)
RULES = {rule: CHOOSING | {"choose": rule} for rule in ("validation", "best-on-test")}


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
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


def assert_same_training(one, other):
    state, same_state = final_state(one), final_state(other)
    jax.tree.map(
        np.testing.assert_array_equal,
        state.replace(key=jax.random.key_data(state.key)),
        same_state.replace(key=jax.random.key_data(same_state.key)),
    )
    first, second = (read_metrics(c.run_dir / "metrics.jsonl") for c in (one, other))
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
        with Checkpoints(c.run_dir / "checkpoints") as checkpoints:
            kept.append((checkpoints.steps, checkpoints.candidates))
    assert kept[0] == kept[1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    whole = config(tmp_path_factory.mktemp("whole") / "run")
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update(
        "jax_persistent_cache_min_compile_time_secs", 0.0
    )  # however fast this machine
    run.train(whole, Console(quiet=True))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    return whole


@pytest.fixture(scope="module", params=RULES)
def choosing(request, tmp_path_factory):
    """A run that chooses its model."""
    whole = config(tmp_path_factory.mktemp("choosing") / "run", **RULES[request.param])
    run.train(whole, Console(quiet=True))
    return whole


def results_of(config):
    return json.loads((config.run_dir / "results.json").read_text())


def train_with_an_interruption(config, console, monkeypatch, *, at):
    report = loop._report

    def interrupt(step, *rest):
        report(step, *rest)
        if step == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_report", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.train(config, console)
    assert not (config.run_dir / "results.json").exists()
    run.train(config, console)


def signal_a_training(config, flags, which, *, after):
    """A signal, from outside, as soon as the checkpoint of a step is there; what comes of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxhash", "train", "--run-dir", str(config.run_dir), *flags],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    checkpoints = config.run_dir / "checkpoints"
    while not (checkpoints / str(after)).exists() and time.monotonic() < deadline:
        assert process.poll() is None or checkpoints.exists()
        time.sleep(0.005)
    process.send_signal(which)
    _, said = process.communicate()
    return process.returncode, said


def train_with_a_kill(config, flags, console, *, after):
    signal_a_training(config, flags, signal.SIGKILL, after=after)
    run.train(config, console)


FLAGS = ["--epochs", "3", "--checkpoint-every", "5", "--crop", "1"]


# Before the first checkpoint, and amid an epoch.
@pytest.mark.parametrize("at", [pytest.param(3, marks=pytest.mark.slow), 13])
def test_interrupted_and_started_again(undisturbed, tmp_path, console, monkeypatch, at):
    again = config(tmp_path / "run")
    train_with_an_interruption(again, console, monkeypatch, at=at)
    assert_same_run(undisturbed, again)


def test_killed_and_started_again(undisturbed, tmp_path, console):
    again = config(tmp_path / "run")
    train_with_a_kill(again, FLAGS, console, after=5)
    assert_same_run(undisturbed, again)


def test_terminated_and_started_again(undisturbed, tmp_path, console):
    """SIGTERM leaves a checkpoint of the step under way, and a status that asks for another start."""
    again = config(tmp_path / "run", checkpoint_every=1000)
    with pytest.MonkeyPatch.context() as patched:  # the first checkpoint comes by the signal alone
        patched.setattr("jaxhash.training.loop._report", terminate_at(13))
        with pytest.raises(Stopped, match="step 14 is saved, and the same command goes on"):
            run.train(again, console)
    with Checkpoints(again.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.steps == [14]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    run.train(again, console)
    assert_same_training(undisturbed, again)
    assert results_of(undisturbed)["map"] == results_of(again)["map"]

    endless = config(tmp_path / "endless")
    flags = ["--epochs", "5000", "--checkpoint-every", "5"]
    status, said = signal_a_training(endless, flags, signal.SIGTERM, after=5)
    assert status == cli.RESUME_ME == 75
    assert said.splitlines()[-1].startswith("jaxhash: stopped by SIGTERM; step ")


def terminate_at(at):
    report = loop._report

    def terminate(step, *rest):
        report(step, *rest)
        if step == at:
            signal.raise_signal(signal.SIGTERM)

    return terminate


def test_a_signal_at_the_last_step_changes_nothing(undisturbed, tmp_path, console, monkeypatch):
    again = config(tmp_path / "run")
    monkeypatch.setattr(loop, "_report", terminate_at(24))
    run.train(again, console)
    assert_same_run(undisturbed, again)


# Damaged checkpoints


def truncate(folder):
    """Cut each file of the state in half, as a disk that was full leaves them."""
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert files


def other_model(folder, run_dir):
    """The checkpoint of a run with longer codes."""
    other = config(run_dir, bits=48)
    run.train(other, Console(quiet=True))
    shutil.rmtree(folder)
    shutil.copytree(run_dir / "checkpoints" / "20", folder)


DAMAGES = {
    "truncated": lambda folder, _: truncate(folder),
    "no data": lambda folder, _: shutil.rmtree(folder / "data"),
    "no state": lambda folder, _: shutil.rmtree(folder / "state"),
    "broken candidates": lambda folder, _: [
        path.write_text("{") for path in (folder / "candidates").iterdir()
    ],
    "foreign": other_model,
}


@pytest.fixture
def stopped(undisturbed, tmp_path):
    """A run as a kill after step 20 leaves it, with checkpoints of steps 15 and 20."""
    again = config(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "_report", terminate_at(19))
        with pytest.raises(Stopped):
            run.train(again, Console(quiet=True))
    return again


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(damage, id=name, marks=() if name == "truncated" else pytest.mark.slow)
        for name, damage in DAMAGES.items()
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    undisturbed, stopped, tmp_path, capsys, damage
):
    folder = stopped.run_dir / "checkpoints" / "20"
    damage(folder, tmp_path / "other")
    before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    capsys.readouterr()
    run.train(stopped, Console(width=200))
    said = capsys.readouterr().out
    assert f"warning: the checkpoint {folder} cannot be read (" in said
    assert "going on from step 15 of 24" in said
    assert_same_run(undisturbed, stopped)
    (aside,) = (stopped.run_dir / "broken_checkpoints").iterdir()
    assert aside.name.startswith("20-")
    after = {p.relative_to(aside): p.read_bytes() for p in aside.rglob("*") if p.is_file()}
    assert after == before


def test_where_no_checkpoint_can_be_read_nothing_is_touched(stopped, console):
    folders = [stopped.run_dir / "checkpoints" / step for step in ("15", "20")]
    for folder in folders:
        truncate(folder)
    records = read_metrics(stopped.run_dir / "metrics.jsonl")
    with pytest.raises(UserError) as caught:
        run.train(stopped, console)
    assert all(f"the checkpoint {folder} cannot be read" in str(caught.value) for folder in folders)
    assert all(folder.is_dir() for folder in folders)
    assert read_metrics(stopped.run_dir / "metrics.jsonl") == records


def test_evaluating_a_damaged_checkpoint(undisturbed, tmp_path, console):
    shutil.copytree(undisturbed.run_dir, tmp_path / "run")
    truncate(tmp_path / "run" / "checkpoints" / "24")
    with pytest.raises(UserError, match="checkpoints/24 cannot be read"):
        run.evaluate(tmp_path / "run", console)


# How it is computed


@pytest.mark.parametrize("options", [{"augment_on": "device"}, {"workers": 2}], ids=str)
def test_where_batches_are_made_changes_no_bit(undisturbed, tmp_path, console, options):
    """A run may go on with other workers, and with images that are cropped elsewhere."""
    again = config(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "_report", terminate_at(9))
        with pytest.raises(Stopped):
            run.train(again, console)
    run.train(dataclasses.replace(again, **options), console)
    assert_same_training(undisturbed, again)


def test_times_are_logged_programs_kept_and_steps_traced(undisturbed, tmp_path, capsys):
    records = read_metrics(undisturbed.run_dir / "metrics.jsonl")
    assert records[0]["compile_seconds"] > 0
    assert all(0 <= r["wait_share"] <= 1 and r["step_seconds"] > 0 for r in records)
    assert list((undisturbed.run_dir / "cache").iterdir())
    found = results_of(undisturbed)["speed"]
    assert found["examples_per_second"] > 0 and found["peak_bytes"] > 2**20
    again = config(tmp_path / "run", compilation_cache=False)
    run.train(again, Console(width=200), profile=True)
    said = capsys.readouterr().out
    assert "examples/s" in said and "of a step; the trace is in" in said
    assert not (again.run_dir / "cache").exists()
    assert list((again.run_dir / "profile").rglob("*.xplane.pb"))
    timed = json.loads((again.run_dir / "profile" / "loss.json").read_text())
    assert timed["loss_share"] == timed["loss_seconds"] / timed["step_seconds"]
    assert_same_training(undisturbed, again)


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 32 MB; a checkpoint takes half of one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_leaves_what_was_there(undisturbed, small_disk, console):
    """With room again the same command ends with the bits of a run that had it from the start."""
    again = config(small_disk / "run", checkpoint_every=1, keep_newest=10**6)
    (small_disk / "something").write_bytes(bytes(28 * 2**20))
    with pytest.raises(UserError) as caught:
        run.train(again, console)
    said = str(caught.value)
    assert "checkpoints (No space left on device); that of step " in said
    step = int(said.split("step ")[1].split()[0])
    with Checkpoints(again.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == step
    (small_disk / "something").unlink()
    run.train(again, console)
    assert_same_training(undisturbed, again)


# Choosing a model


def test_the_best_model_is_evaluated_and_its_checkpoint_kept(choosing):
    results = results_of(choosing)
    choice = results["model_choice"]
    assert [c["step"] for c in choice["candidates"]] == [8, 16, 24]
    assert [c["epoch"] for c in choice["candidates"]] == [1, 2, 3]
    first, *others = (c["map"] for c in choice["candidates"])
    assert first > max(others)  # of the options above
    assert (choice["rule"], choice["epoch"], choice["step"]) == (choosing.choose, 1, 8)
    with Checkpoints(choosing.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.steps == [8, 20, 24]
    assert (results["map"] == first) == (choosing.choose == "best-on-test")
    assert results["items"] == {"train": 720, "validation": 80, "query": 200, "database": 797}


@pytest.mark.slow
def test_choosing_interrupted_and_started_again(choosing, tmp_path, console, monkeypatch):
    """Right after a candidate that left no checkpoint, as it was no better."""
    again = config(tmp_path / "run", **RULES[choosing.choose])
    train_with_an_interruption(again, console, monkeypatch, at=17)
    assert_same_run(choosing, again)


only_validation = pytest.mark.parametrize("choosing", ["validation"], indirect=True)


@only_validation
@pytest.mark.slow
def test_choosing_killed_and_started_again(choosing, tmp_path, console):
    """As soon as the best candidate is there."""
    again = config(tmp_path / "run", **RULES[choosing.choose])
    flags = [*FLAGS, "--learning-rate", "0.3", "--evaluate-every", "1", "--choose", again.choose]
    flags += ["--validation", str(again.validation)]
    train_with_a_kill(again, flags, console, after=8)
    assert_same_run(choosing, again)


@only_validation
@pytest.mark.slow
def test_choosing_does_not_change_the_training(choosing, tmp_path, console):
    last = config(tmp_path / "run", **RULES[choosing.choose] | {"choose": "last"})
    run.train(last, console)
    assert_same_training(choosing, last)
    results, chosen = results_of(last), results_of(choosing)
    assert results["model_choice"]["step"] == 24 and results["model_choice"]["candidates"] == []
    assert results["map"] != chosen["map"]
    assert results["items"] == chosen["items"]


def test_evaluate_takes_the_model_that_was_chosen(choosing, capsys):
    results = run.evaluate(choosing.run_dir, Console(width=200))
    said = capsys.readouterr().out
    assert "to the last digit" in said and results["model_choice"]["says"] in said
    assert results["model_choice"]["step"] == 8


@only_validation
def test_evaluate_without_the_checkpoint_that_was_chosen(choosing, tmp_path, console):
    shutil.copytree(choosing.run_dir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "8")
    with pytest.raises(UserError, match="no checkpoint of the model chosen, of step 8"):
        run.evaluate(tmp_path / "run", console)


def test_validation_items_that_are_not_looked_at_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "_fit", interrupted)
    for options in ({}, {"choose": "best-on-test", "evaluate_every": 1}, RULES["validation"]):
        unused = config(tmp_path / "run", **{"validation": 0.1} | options)
        with pytest.raises(KeyboardInterrupt):
            run.train(unused, Console(width=200))
        said = capsys.readouterr().out
        assert "720 training items, 80 validation items, 200 queries" in said
        named = f"the validation items are not looked at: --choose is {unused.choose}" in said
        assert named == (unused.choose != "validation")
        shutil.rmtree(unused.run_dir)


def interrupted(*_, **__):
    raise KeyboardInterrupt


# Collapse


@pytest.mark.slow
def test_a_collapse_is_said_once_also_over_an_interruption(tmp_path, monkeypatch):
    """At a rate like this the bits die within a few steps."""
    monkeypatch.setattr(collapse, "STEPS", 3)
    again = config(tmp_path / "run", learning_rate=3.0, on_collapse="warn")
    console = Console(file=io.StringIO(), width=200)
    train_with_an_interruption(again, console, monkeypatch, at=15)
    dead = [record["dead_bits"] for record in read_metrics(again.run_dir / "metrics.jsonl")]
    streak = [min(dead[i : i + 3]) > 16 for i in range(len(dead) - 2)]
    first = streak.index(True) + 3
    assert first < 10  # before the checkpoint that the run goes on from
    assert results_of(again)["collapsed_at_step"] == first
    said = [line for line in console.file.getvalue().splitlines() if "warning: step" in line]
    begun = [i + 3 for i in range(len(streak)) if streak[i] and not (i and streak[i - 1])]
    assert [int(line.split()[2].strip(":")) for line in said] == begun
    run.evaluate(again.run_dir, Console(quiet=True))


def test_a_collapse_stops_the_run_and_the_same_run_may_go_on(tmp_path, monkeypatch):
    """The error says since when and what; --on-collapse warn goes on from the checkpoint before."""
    monkeypatch.setattr(collapse, "STEPS", 3)
    again = config(tmp_path / "run", learning_rate=3.0)
    with pytest.raises(UserError, match=r"stopped at step \d+: \d+ of 32 bits are the same.*warn"):
        run.train(again, Console(quiet=True))
    records = read_metrics(again.run_dir / "metrics.jsonl")
    stopped = len(records) + 1
    with Checkpoints(again.run_dir / "checkpoints") as checkpoints:
        assert (checkpoints.latest_step or 0) < stopped < 24
    console = Console(file=io.StringIO(), width=200)
    run.train(dataclasses.replace(again, on_collapse="warn"), console)
    assert f"warning: step {stopped}: " in console.file.getvalue()
    assert results_of(again)["collapsed_at_step"] == stopped


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


def test_evaluate_names_what_an_older_version_did_not_write(undisturbed, tmp_path, capsys):
    """Neither a new number nor a new entry of a table is a difference; an old one that is gone is."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.run_dir, folder)
    results = results_of(undisturbed)
    for key in ("model_choice", "health"):
        del results[key]
    del results["items"]["validation"]
    (folder / "results.json").write_text(json.dumps(results))
    run.evaluate(folder, Console(width=200))
    said = capsys.readouterr().out
    assert "to the last digit (but for " in said
    assert all(name in said for name in ("model_choice", "health", "items: validation"))
    results["items"]["colour"] = 3
    results["baselines"]["random hyperplanes"]["map"] += 1e-15
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError) as caught:
        run.evaluate(folder, Console(quiet=True))
    assert "items: colour is gone" in str(caught.value)
    assert "baselines: random hyperplanes: map " in str(caught.value)


def test_results_and_report(undisturbed):
    results = json.loads((undisturbed.run_dir / "results.json").read_text())
    promised = (
        "map map_best_ties map_worst_ties precision_at_radius_2 bit_balance quantization_error "
        "bits seed split_sha256 objective seconds hardware versions "
        "model_choice leaks collapsed_at_step health flip_rate"
    )
    assert set(promised.split()) <= set(results)
    assert results["map_worst_ties"] <= results["map"] <= results["map_best_ties"]
    assert results["leaks"] == [] and results["collapsed_at_step"] is None
    assert results["model_choice"]["step"] == 24 and 0 < results["flip_rate"] < 1
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


def poisoned(monkeypatch, begin, end):
    """From step ``begin`` on, and before ``end``, the loss is no number."""
    make = build_module.objective_of

    def objective_of(*args):
        objective = make(*args)

        def loss(variables, codes, batch, context):
            part = objective.loss(variables, codes, batch, context)
            step = jnp.round(context.progress * 24)
            broken = (step >= begin) & (step < end)
            return part._replace(value=part.value * jnp.where(broken, jnp.nan, 1.0))

        return objective._replace(loss=loss)

    monkeypatch.setattr(build_module, "objective_of", objective_of)


def test_a_broken_update_is_skipped_and_counted(tmp_path, monkeypatch):
    """Steps 12 and 13, told in the log, null in the records, and by the same bits after a kill."""
    poisoned(monkeypatch, 11, 13)
    console = Console(file=io.StringIO(), width=200)
    whole = config(tmp_path / "whole", on_nan="skip")
    run.train(whole, console)
    said = console.file.getvalue()
    for step in (12, 13):
        assert f"warning: step {step}: the update is skipped: loss is nan" in said
    records = read_metrics(whole.run_dir / "metrics.jsonl")
    assert [record["step"] for record in records if record["skipped"]] == [12, 13]
    assert records[11]["loss"] is None and "NaN" not in json.dumps(records)
    assert results_of(whole)["skipped_steps"] == 2
    again = config(tmp_path / "again", on_nan="skip")
    train_with_an_interruption(again, console, monkeypatch, at=13)
    assert_same_run(whole, again)
    run.evaluate(whole.run_dir, Console(quiet=True))


def test_a_run_that_skips_everything_ends(tmp_path, console, monkeypatch):
    monkeypatch.setattr(loop, "MOST_SKIPS", 4)
    poisoned(monkeypatch, 11, 24)
    broken = config(tmp_path / "run", on_nan="skip")
    with pytest.raises(UserError, match="stopped at step 15: 4 updates in a row were skipped, at"):
        run.train(broken, console)
    with Checkpoints(broken.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == 10


def test_a_batch_smaller_than_the_devices_is_refused(tmp_path, console):
    with pytest.raises(UserError, match="--batch-size 7 is smaller than the 8 devices"):
        run.train(config(tmp_path / "run", batch_size=7), console)
    assert not (tmp_path / "run").exists()
