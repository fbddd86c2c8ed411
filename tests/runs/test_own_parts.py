"""A training on a user's own data, model and objective, resumed and evaluated again."""

from functools import partial

import flax.linen as nn
import numpy as np
import pytest
from rich.console import Console
from trainings import start_with_an_interruption

from jaxhash.data.sources import Source
from jaxhash.objectives import combine, hswd, weighted
from jaxhash.objectives import dpsh as make_dpsh
from jaxhash.runs import Config, evaluate, train
from jaxhash.runs.experiment import Experiment
from jaxhash.utils.errors import UserError

CLASSES = np.arange(200, dtype=np.int32) % 4
VECTORS = (np.random.default_rng(0).normal(size=(200, 8)) + 3 * np.eye(4, 8)[CLASSES]).astype("f4")
QUIET = Console(quiet=True)


class Net(nn.Module):
    """A model of nobody's table."""

    bits: int = 8
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs, *, train=False, mask=None):
        return nn.Dense(self.bits)(nn.tanh(nn.Dense(12)(inputs)))


def own(bits=8):
    return {
        "source": Source("mine", VECTORS, CLASSES, tuple("abcd")),
        "model": Net(bits),
        "objective": combine(make_dpsh(penalty=0.0), weighted(0.2, hswd())),
    }


def config(folder):
    return Config().replace(
        bits=8, epochs=3, batch_size=20, checkpoint_every=5, queries_per_class=5, train_per_class=40,
        baselines="none", run_dir=folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    whole = config(tmp_path_factory.mktemp("own") / "run")
    return whole, train(whole, QUIET, **own())


def test_own_parts_are_trained_and_evaluated_to_the_last_digit(trained, capsys):
    whole, results = trained
    assert (results["dataset"], results["objective"]) == ("mine", "own objective")
    assert results["items"]["train"] == 160 and results["map"] > 0.5
    assert evaluate(whole.run.run_dir, Console(width=200), **own())["map"] == results["map"]
    assert "to the last digit" in capsys.readouterr().out
    assert train(whole, QUIET, **own()) == results  # it is finished


def test_own_parts_interrupted_and_started_again(trained, tmp_path, monkeypatch):
    whole, results = trained
    again = config(tmp_path / "run")
    start = partial(train, again, QUIET, **own())
    found = start_with_an_interruption(again.run.run_dir, start, monkeypatch, 13)
    times = ("seconds", "speed")
    assert {k: v for k, v in found.items() if k not in times} == {
        k: v for k, v in results.items() if k not in times
    }


@pytest.mark.parametrize("missing", ["source", "model", "objective"])
def test_another_set_of_own_parts_is_refused(trained, missing):
    whole, _ = trained
    parts = {name: part for name, part in own().items() if name != missing}
    with pytest.raises(UserError, match="own.*source, model, objective"):
        evaluate(whole.run.run_dir, QUIET, **parts)
    with pytest.raises(UserError, match="own parts are source, model, objective there"):
        train(whole, QUIET, **parts)


def test_the_command_needs_the_own_parts(trained, refusal):
    line = refusal("evaluate", str(trained[0].run.run_dir))
    assert "jaxhash.runs.evaluate(folder, source=..., model=..., objective=...)" in line


@pytest.mark.parametrize(
    ("model", "said"), [(Net(7), "bits|codes of shape"), (nn.Dense(8), "axis_name")]
)
def test_a_model_that_does_not_fit_is_refused(tmp_path, model, said):
    with pytest.raises(UserError, match=said):
        Experiment.open(config(tmp_path), **own() | {"model": model})
