"""A run that chooses its model, stopped or not."""

import shutil

import pytest
from rich.console import Console
from trainings import (
    FLAGS,
    RULES,
    assert_same_run,
    assert_same_training,
    config,
    results_of,
    train_with_a_kill,
    train_with_an_interruption,
    without_plots,
)

from jaxhash.runs import train_run as run
from jaxhash.runs.evaluate_run import evaluate
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("plotless")


@pytest.fixture(scope="module", params=RULES)
def choosing(request, tmp_path_factory):
    """A run that chooses its model."""
    whole = config(tmp_path_factory.mktemp("choosing") / "run", **RULES[request.param])
    with without_plots():
        run.train(whole, Console(quiet=True))
    return whole


@pytest.mark.slow
def test_the_best_model_is_evaluated_and_its_checkpoint_kept(choosing):
    results = results_of(choosing)
    choice = results["model_choice"]
    assert [c["step"] for c in choice["candidates"]] == [8, 16, 24]
    assert [c["epoch"] for c in choice["candidates"]] == [1, 2, 3]
    first, *others = (c["map"] for c in choice["candidates"])
    assert first > max(others)  # of the options above
    assert (choice["rule"], choice["epoch"], choice["step"]) == (choosing.run.choose, 1, 8)
    with Checkpoints(choosing.run.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.steps == [8, 20, 24]
    assert (results["map"] == first) == (choosing.run.choose == "best-on-test")
    assert results["items"] == {"train": 720, "validation": 80, "query": 200, "database": 797}


@pytest.mark.slow
def test_choosing_interrupted_and_started_again(choosing, tmp_path, console, monkeypatch):
    """Right after a candidate that left no checkpoint, as it was no better."""
    again = config(tmp_path / "run", **RULES[choosing.run.choose])
    train_with_an_interruption(again, console, monkeypatch, at=17)
    assert_same_run(choosing, again)


only_validation = pytest.mark.parametrize("choosing", ["validation"], indirect=True)


@only_validation
@pytest.mark.slow
def test_choosing_killed_and_started_again(choosing, tmp_path, console):
    """As soon as the best candidate is there."""
    again = config(tmp_path / "run", **RULES[choosing.run.choose])
    flags = [
        *FLAGS,
        "--learning-rate",
        "0.3",
        "--evaluate-every",
        "1",
        "--choose",
        again.run.choose,
    ]
    flags += ["--validation", str(again.data.validation)]
    train_with_a_kill(again, flags, console, after=8)
    assert_same_run(choosing, again)


@only_validation
@pytest.mark.slow
def test_choosing_does_not_change_the_training(choosing, tmp_path, console):
    last = config(tmp_path / "run", **RULES[choosing.run.choose] | {"choose": "last"})
    run.train(last, console)
    assert_same_training(choosing, last)
    results, chosen = results_of(last), results_of(choosing)
    assert results["model_choice"]["step"] == 24 and results["model_choice"]["candidates"] == []
    assert results["map"] != chosen["map"]
    assert results["items"] == chosen["items"]


def test_evaluate_takes_the_model_that_was_chosen(choosing, capsys):
    results = evaluate(choosing.run.run_dir, Console(width=200))
    said = capsys.readouterr().out
    assert "to the last digit" in said and results["model_choice"]["says"] in said
    assert results["model_choice"]["step"] == 8


@only_validation
def test_evaluate_without_the_checkpoint_that_was_chosen(choosing, tmp_path, console):
    shutil.copytree(choosing.run.run_dir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "8")
    with pytest.raises(UserError, match="no checkpoint of the model chosen, of step 8"):
        evaluate(tmp_path / "run", console)


def test_validation_items_that_are_not_looked_at_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "_fit_run", interrupted)
    for options in ({}, {"choose": "best-on-test", "evaluate_every": 1}, RULES["validation"]):
        unused = config(tmp_path / "run", **{"validation": 0.1} | options)
        with pytest.raises(KeyboardInterrupt):
            run.train(unused, Console(width=200))
        said = capsys.readouterr().out
        assert "720 training items, 80 validation items, 200 queries" in said
        named = f"the validation items are not looked at: `choose` is {unused.run.choose}" in said
        assert named == (unused.run.choose != "validation")
        shutil.rmtree(unused.run.run_dir)


def interrupted(*_, **__):
    raise KeyboardInterrupt
