"""A training that goes wrong: its codes collapse, its loss is no number."""

import io
import json

import jax.numpy as jnp
import pytest
from rich.console import Console
from trainings import assert_same_run, config, results_of, train_with_an_interruption

from jaxhash.objectives.config import ObjectiveConfig
from jaxhash.runs import train_run as run
from jaxhash.runs.evaluate_run import evaluate
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.training import collapse, loop
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("plotless")


@pytest.mark.slow
def test_a_collapse_is_said_once_also_over_an_interruption(tmp_path, monkeypatch):
    """At a rate like this the bits die within a few steps."""
    monkeypatch.setattr(collapse, "MIN_STEPS", 3)
    again = config(tmp_path / "run", learning_rate=3.0, on_collapse="warn")
    console = Console(file=io.StringIO(), width=200)
    train_with_an_interruption(again, console, monkeypatch, at=15)
    dead = [record["dead_bits"] for record in read_metrics(again.run.run_dir / "metrics.jsonl")]
    streak = [min(dead[i : i + 3]) > 16 for i in range(len(dead) - 2)]
    first = streak.index(True) + 3
    assert first < 10  # before the checkpoint that the run goes on from
    assert results_of(again)["collapsed_at_step"] == first
    said = [line for line in console.file.getvalue().splitlines() if "warning: step" in line]
    begun = [i + 3 for i in range(len(streak)) if streak[i] and not (i and streak[i - 1])]
    assert [int(line.split()[2].strip(":")) for line in said] == begun
    evaluate(again.run.run_dir, Console(quiet=True))


@pytest.mark.slow
def test_a_collapse_stops_the_run_and_the_same_run_may_go_on(tmp_path, monkeypatch):
    """The error says since when and what; --on-collapse warn goes on from the checkpoint before."""
    monkeypatch.setattr(collapse, "MIN_STEPS", 3)
    again = config(tmp_path / "run", learning_rate=3.0)
    with pytest.raises(UserError, match=r"stopped at step \d+: \d+ of 32 bits are the same.*warn"):
        run.train(again, Console(quiet=True))
    records = read_metrics(again.run.run_dir / "metrics.jsonl")
    stopped = len(records) + 1
    with Checkpoints(again.run.run_dir / "checkpoints") as checkpoints:
        assert (checkpoints.latest_step or 0) < stopped < 24
    console = Console(file=io.StringIO(), width=200)
    run.train(again.replace(on_collapse="warn"), console)
    assert f"warning: step {stopped}: " in console.file.getvalue()
    assert results_of(again)["collapsed_at_step"] == stopped


@pytest.mark.parametrize("option", [{"learning_rate": 1e30}, {"quantizer_weight": 3e38}])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, console, option):
    """The message names step and term; no checkpoint of the broken state is written."""
    broken = config(tmp_path / "run", clip_norm=1e30, **option)
    with pytest.raises(UserError, match=r"stopped at step \d+: .*(nan|inf)"):
        run.train(broken, console)
    assert (broken.run.run_dir / "config.json").exists()
    assert not (broken.run.run_dir / "results.json").exists()
    steps = [record["step"] for record in read_metrics(broken.run.run_dir / "metrics.jsonl")]
    with Checkpoints(broken.run.run_dir / "checkpoints") as checkpoints:
        assert (checkpoints.latest_step or 0) <= max(steps, default=0)


def poisoned(monkeypatch, begin, end):
    """From step ``begin`` on, and before ``end``, the loss is no number."""
    make = ObjectiveConfig.make

    def make_poisoned(*args, **options):
        objective = make(*args, **options)

        def loss(variables, codes, batch, context):
            part = objective.loss(variables, codes, batch, context)
            step = jnp.round(context.progress * 24)
            broken = (step >= begin) & (step < end)
            return part._replace(value=part.value * jnp.where(broken, jnp.nan, 1.0))

        return objective._replace(loss=loss)

    monkeypatch.setattr(ObjectiveConfig, "make", make_poisoned)


def test_a_broken_update_is_skipped_and_counted(tmp_path, monkeypatch):
    """Steps 12 and 13, told in the log, null in the records, and by the same bits after a kill."""
    poisoned(monkeypatch, 11, 13)
    console = Console(file=io.StringIO(), width=200)
    whole = config(tmp_path / "whole", on_nan="skip")
    run.train(whole, console)
    said = console.file.getvalue()
    for step in (12, 13):
        assert f"warning: step {step}: the update is skipped: loss is nan" in said
    records = read_metrics(whole.run.run_dir / "metrics.jsonl")
    assert [record["step"] for record in records if record["skipped"]] == [12, 13]
    assert records[11]["loss"] is None and "NaN" not in json.dumps(records)
    assert results_of(whole)["skipped_steps"] == 2
    again = config(tmp_path / "again", on_nan="skip")
    train_with_an_interruption(again, console, monkeypatch, at=13)
    assert_same_run(whole, again)
    evaluate(whole.run.run_dir, Console(quiet=True))


def test_a_run_that_skips_everything_ends(tmp_path, console, monkeypatch):
    monkeypatch.setattr(loop, "MAX_CONSECUTIVE_SKIPS", 4)
    poisoned(monkeypatch, 11, 24)
    broken = config(tmp_path / "run", on_nan="skip")
    with pytest.raises(UserError, match="stopped at step 15: 4 updates in a row were skipped, at"):
        run.train(broken, console)
    with Checkpoints(broken.run.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == 10
