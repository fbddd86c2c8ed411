"""A training on a user's own data, model and objective, resumed and evaluated again."""

from functools import partial

import flax.linen as nn
import jax
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
    """A model with all that the training passes."""

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


@pytest.mark.usefixtures("plotless")
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


class Plain(nn.Module):
    """A model as a Flax user writes one first, with layers in ``setup``."""

    def setup(self):
        self.hidden, self.head = nn.Dense(12), nn.Dense(8)

    def __call__(self, inputs):
        return self.head(nn.tanh(self.hidden(inputs)))


class Dropout(nn.Module):
    """A model with a positional argument ``train``."""

    @nn.compact
    def __call__(self, inputs, train):
        return nn.Dense(8)(nn.Dropout(0.5, deterministic=not train)(inputs))


class Normalized(nn.Module):
    """A model that updates batch statistics and has no ``mask`` and no ``axis_name``."""

    @nn.compact
    def __call__(self, inputs, train):
        return nn.Dense(8)(nn.BatchNorm(use_running_average=not train)(inputs))


class Deterministic(nn.Module):
    """A model whose dropout would never run."""

    @nn.compact
    def __call__(self, inputs, deterministic=True):
        return nn.Dense(8)(nn.Dropout(0.5, deterministic=deterministic)(inputs))


def opened(folder, **parts):
    return Experiment.open(config(folder), **own() | parts)


@pytest.mark.parametrize("model", [Plain(), nn.Dense(8), nn.Sequential([nn.Dense(9), nn.Dense(8)])])
def test_a_plain_module_keeps_the_names_of_its_variables(tmp_path, model):
    adapted = opened(tmp_path, model=model).model
    key, inputs = jax.random.key(0), VECTORS[:3]
    variables = adapted.init(key, inputs)
    assert jax.tree.structure(variables) == jax.tree.structure(model.init(key, inputs))
    codes = adapted.apply(variables, (inputs, inputs + 1), train=True, mask=np.ones(3, bool))
    for view, shift in zip(codes, (0, 1), strict=True):
        np.testing.assert_allclose(view, model.apply(variables, inputs + shift), rtol=1e-6)


def test_a_module_is_called_with_train_where_it_takes_it(tmp_path):
    model = opened(tmp_path, model=Dropout()).model
    variables, rngs = model.init(jax.random.key(0), VECTORS), {"dropout": jax.random.key(1)}
    evaluated, trained = (
        model.apply(variables, VECTORS, train=train, rngs=rngs) for train in (False, True)
    )
    np.testing.assert_array_equal(evaluated, Dropout().apply(variables, VECTORS, train=False))
    assert np.abs(evaluated - trained).max() > 0.1


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Net(7), "bits|codes of shape"),
        (nn.Dense(7), "bits|codes of shape"),
        (Normalized(), "`model`.* mask and axis_name"),
        (Deterministic(), "`model`.* deterministic"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(tmp_path, model, said):
    with pytest.raises(UserError, match=said):
        opened(tmp_path, model=model)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source("mine", VECTORS[1:], CLASSES, tuple("abcd")), "199 inputs and 200 labels"),
        (Source("mine", VECTORS.astype("f8"), CLASSES, tuple("abcd")), "float32"),
        (Source("mine", VECTORS, CLASSES, tuple("abc")), "3 class_names"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(tmp_path, source, said):
    with pytest.raises(UserError, match=f"`source`.*{said}"):
        opened(tmp_path, source=source)
