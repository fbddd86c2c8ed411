"""A method, its own penalty and a quantizer: what each way to ask for them is made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.objectives import Batch, Context, Setup, dpsh, hashnet, hswd
from jaxhash.objectives.config import ObjectiveConfig, read_options
from jaxhash.utils.errors import UserError

ROWS, BITS = 12, 4


def value(objective):
    rng = np.random.default_rng(0)
    codes = jnp.asarray(rng.normal(size=(ROWS, BITS)), jnp.float32)
    labels = rng.integers(0, 3, ROWS).astype(np.int32)
    batch = Batch(None, *map(jnp.asarray, (labels, np.arange(ROWS), np.ones(ROWS, bool))))
    context = Context(jax.random.key(0), jnp.float32(0), jnp.bool_(False), None, None, None)
    variables = objective.init(jax.random.key(1), Setup(BITS, ROWS, 3, False, None, None))
    loss = objective.loss(variables, codes, batch, context)
    return loss.value, loss.terms


def config(**changes):
    return ObjectiveConfig(**{"objective": "dpsh"} | changes)


@pytest.mark.parametrize(
    ("changes", "parts", "words"),
    [
        ({"quantizer": "own"}, {"likelihood": 1, "own": 0.1}, "dpsh"),
        ({"quantizer": "none"}, {"likelihood": 1}, "dpsh(penalty=0)"),
        ({"quantizer": "own", "quantizer_weight": 2.0}, {"likelihood": 1, "own": 2}, "dpsh(penalty=2)"),
        ({}, {"likelihood": 1, "hswd": 0.1}, "dpsh(penalty=0) + 0.1 hswd"),
        (
            {"keep_own": True, "quantizer_weight": 3.0},
            {"likelihood": 1, "own": 0.1, "hswd": 3},
            "dpsh + 3 hswd",
        ),
        (
            {"quantizer_options": ("target=balanced",)},
            {"likelihood": 1, "balanced": 0.1},
            "dpsh(penalty=0) + 0.1 hswd(target=balanced)",
        ),
    ],
)  # fmt: skip
def test_replace_and_add(changes, parts, words):
    """The values of the parts are those of the losses alone; HSWD's draw depends on its place."""
    asked = config(**changes)
    found, terms = value(asked.make())
    assert asked.describe() == words
    likelihood, own_terms = value(dpsh())
    alone = {"likelihood": value(dpsh(penalty=0.0))[0], "own": own_terms["dpsh_penalty"]}
    for name in ("hswd", "balanced"):
        if name in parts:
            alone[name] = terms["hswd"]
    np.testing.assert_allclose(found, sum(w * alone[name] for name, w in parts.items()), rtol=1e-6)
    assert ("dpsh_penalty" in terms) == ("own" in parts)
    assert ("hswd" in terms) == bool({"hswd", "balanced"} & parts.keys())
    if "balanced" in parts:
        np.testing.assert_allclose(terms["hswd"], value(hswd(target="balanced"))[0], rtol=1e-6)


def test_the_weight_may_be_another():
    for changes in ({"quantizer": "own"}, {}, {"keep_own": True}):
        asked = config(**changes)
        jitted = jax.jit(lambda weight, asked=asked: value(asked.make(weight))[0])
        expected = value(dataclasses.replace(asked, quantizer_weight=0.7).make())[0]
        np.testing.assert_allclose(jitted(0.7), expected, rtol=1e-6)


def test_published_weights():
    assert config().weight == 0.1  # HSWD's, not the method's
    assert config(objective="dtsh", quantizer="own").weight == 1.0
    assert config(quantizer="none").weight is None


def test_words_of_a_sweep_leave_out_the_weight():
    assert config().describe(with_weight=False) == "dpsh(penalty=0) + hswd"
    assert config(quantizer="own").describe(with_weight=False) == "dpsh"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"objective": "hashnet", "quantizer": "own"}, "`quantizer=own`: hashnet has no quantization"),
        ({"objective": "hashnet", "keep_own": True}, "`keep_own`: hashnet has no quantization"),
        ({"keep_own": True, "quantizer": "none"}, "`keep_own` is beside a quantizer, and `quantizer` is none"),
        ({"keep_own": True, "quantizer": "own"}, "`keep_own` is beside a quantizer, and `quantizer` is own"),
        ({"quantizer": "none", "quantizer_weight": 1.0}, "`quantizer_weight` needs a quantizer"),
        ({"quantizer": "own", "quantizer_options": ("a=1",)}, "`quantizer_options` needs a quantizer"),
        ({"quantizer_options": ("target=ballanced",)}, "`quantizer_options=target=ballanced`: expected sampled or"),
        ({"objective_options": ("penalty=1",)}, "`objective_options=penalty=1`: dpsh has no option penalty; the options are pairs"),
        ({"objective_options": ("pairs",)}, "`objective_options=pairs`: expected NAME=VALUE"),
        ({"objective_options": ("pairs=batch", "pairs=bank")}, "`objective_options` has pairs twice"),
        ({"objective": "hashnet", "objective_options": ("stages=0",)}, "`objective_options`: stages must be at least 1, got 0"),
        ({"objective": "hashnet", "objective_options": ("stages=2.5",)}, "`objective_options=stages=2.5`: expected a whole number"),
        ({"objective": "hashnet", "objective_options": ("scale=x",)}, "`objective_options=scale=x`: expected a number"),
        ({"objective": "hashnet", "objective_options": ("scale=true",)}, "`objective_options=scale=true`: expected a number"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(changes, line):
    with pytest.raises(UserError) as caught:
        config(**changes).check()
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_a_dash_is_as_good_as_an_underscore():
    def method(*, margin_type: str, wide: bool = False):
        return hashnet()

    with pytest.raises(UserError, match="expected true or false"):
        read_options("x", method, ["wide=1"])
    assert read_options("x", method, ["wide=true"]) == {"wide": True}
    with pytest.raises(UserError, match="expected a number"):
        read_options("x", method, ["margin-type=arc"])


@pytest.mark.parametrize("objective", ["hashnet", "dch", "csq", "cross-entropy"])
def test_where_few_labels_are_known_rows_without_one_are_padding(objective):
    """For the method; the quantizer takes every row, and so does a method that sees no labels."""
    rng = np.random.default_rng(0)
    codes = jnp.asarray(rng.normal(size=(ROWS, BITS)), jnp.float32)
    known = np.arange(ROWS) % 3 > 0
    labels = np.where(known, np.arange(ROWS) % 2, -1).astype(np.int32)

    def terms(few_labels, mask, name=objective):
        made = ObjectiveConfig(objective=name, quantizer="l2").make(few_labels=few_labels)
        batch = Batch(codes, *map(jnp.asarray, (labels, np.arange(ROWS), mask)))
        context = Context(jax.random.key(0), jnp.float32(0), jnp.bool_(False), None, None, None)
        variables = made.init(jax.random.key(1), Setup(BITS, ROWS, 2, False, codes, None))
        return made.loss(variables, codes, batch, context).terms

    everyone = np.ones(ROWS, bool)
    few, subset, plain = terms(True, everyone), terms(False, known), terms(False, everyone)
    name = objective.replace("-", "_")
    np.testing.assert_allclose(few[name], subset[name], rtol=1e-6)
    assert few["l2"] == plain["l2"] != subset["l2"]
    unseen = "greedyhash-u"
    assert terms(True, everyone, unseen) == terms(False, everyone, unseen)
