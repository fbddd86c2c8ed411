"""The interface carries every kind of method with no special case in the training step.

Each toy objective below stands for a kind that real methods need; `train_step` runs them unchanged.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhash.models import MLP, Encoder
from jaxhash.objectives import (
    Batch,
    Context,
    Loss,
    Objective,
    Setup,
    Variables,
    combine,
    hswd,
    weighted,
)
from jaxhash.objectives._base import add_penalty, from_loss
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

BITS, CLASSES, ITEMS, ROWS = 4, 3, 12, 6
CONTEXT = Context(jax.random.key(0), None, None, None, None, None)


def batch_of(inputs):
    rows = np.arange(ROWS)
    return Batch(inputs, (rows % CLASSES).astype(np.int32), rows.astype(np.int32), rows < ROWS)


def run(objective, *, model=None, inputs=None, steps=1, steps_per_epoch=2):
    model = Encoder(MLP, BITS) if model is None else model
    inputs = (
        np.linspace(-1, 1, ROWS * 5).reshape(ROWS, 5).astype(np.float32)
        if inputs is None
        else inputs
    )
    optimizer = optax.sgd(0.1)
    states = [
        create_state(
            jax.random.key(0),
            inputs,
            model=model,
            objective=objective,
            optimizer=optimizer,
            items=ITEMS,
            classes=CLASSES,
        )
    ]
    for _ in range(steps):
        state, metrics = train_step(
            states[-1],
            batch_of(inputs),
            model=model,
            objective=objective,
            optimizer=optimizer,
            steps_per_epoch=steps_per_epoch,
            total_steps=10,
        )
        states.append(state)
    return states, metrics


def test_trained_parameters_of_the_loss():
    def init(key, setup):
        return Variables(params=jax.random.normal(key, (setup.bits, setup.classes)))

    def loss(variables, codes, batch, context):
        losses = optax.softmax_cross_entropy_with_integer_labels(
            codes @ variables.params, batch.labels
        )
        return Loss(losses.mean(), (), {"classifier": losses.mean()})

    (before, after), _ = run(Objective(init, loss))
    assert not np.allclose(before.params["objective"], after.params["objective"])


def test_alternating_optimisation_once_an_epoch():
    def init(key, setup):
        return Variables(state=jnp.int32(0))

    def loss(variables, codes, batch, context):
        count = jax.lax.cond(context.new_epoch, lambda n: n + 1, lambda n: n, variables.state)
        return Loss(codes.mean(), count, {})

    states, _ = run(Objective(init, loss), steps=5, steps_per_epoch=2)
    assert [int(state.objective_state) for state in states] == [0, 0, 0, 1, 1, 2]


def test_averaged_teacher():
    def init(key, setup):
        return Variables(state=setup.variables)

    def loss(variables, codes, batch, context):
        teacher = jax.tree.map(
            lambda old, new: 0.5 * old + 0.5 * jax.lax.stop_gradient(new),
            variables.state,
            context.variables,
        )
        target = jax.lax.stop_gradient(context.encode(teacher, batch.inputs))
        value = jnp.mean((codes - target - 1.0) ** 2)
        return Loss(value, teacher, {"teacher": value})

    states, _ = run(Objective(init, loss), steps=3)
    kernel = [state.params["model"]["head"]["kernel"] for state in states]
    averaged = states[2].objective_state["params"]["head"]["kernel"]
    np.testing.assert_allclose(averaged, 0.5 * kernel[0] + 0.5 * kernel[1], rtol=1e-6)


@pytest.mark.parametrize("kind", ["two views", "two modalities"])
def test_a_tree_of_inputs_gives_a_tree_of_codes(kind):
    class Towers(nn.Module):
        axis_name: str | None = None

        @nn.compact
        def __call__(self, inputs, *, train=False, mask=None):
            shared = nn.Dense(BITS)
            return {
                name: (shared if kind == "two views" else nn.Dense(BITS))(x)
                for name, x in inputs.items()
            }

    def loss(variables, codes, batch, context):
        value = jnp.mean((codes["a"] - codes["b"]) ** 2)
        return Loss(value, (), {"agree": value})

    inputs = {"a": np.ones((ROWS, 5), np.float32), "b": np.zeros((ROWS, 5), np.float32)}
    objective = Objective(lambda key, setup: Variables(), loss)
    _, first = run(objective, model=Towers(), inputs=inputs, steps=1)
    _, later = run(objective, model=Towers(), inputs=inputs, steps=5)
    assert later["agree"] < first["agree"]
    assert set(later) == {"loss", "agree", "grad_norm"}  # whose bits would it be?


def test_progress_and_key_change_from_step_to_step():
    def loss(variables, codes, batch, context):
        seen = jnp.stack([context.progress, jax.random.uniform(context.key)])
        return Loss(codes.mean(), seen, {})

    objective = Objective(lambda key, setup: Variables(state=jnp.zeros(2)), loss)
    states, _ = run(objective, steps=3)
    progress, noise = np.stack([state.objective_state for state in states[1:]]).T
    np.testing.assert_allclose(progress, [0.0, 0.1, 0.2], rtol=1e-6)
    assert len(set(noise.tolist())) == 3


def constant(name, value):
    def loss(variables, codes, batch, context):
        term = jnp.float32(value)
        return Loss(term, variables.state + 1, {name: term})

    return Objective(lambda key, setup: Variables(state=jnp.int32(0)), loss)


def test_combine_sums_values_and_keeps_terms_unweighted():
    objective = combine(constant("a", 2.0), weighted(0.5, constant("b", 3.0)))
    states, metrics = run(objective, steps=2)
    assert metrics["loss"] == 2.0 + 0.5 * 3.0
    assert (metrics["a"], metrics["b"]) == (2.0, 3.0)
    assert jax.tree.leaves(states[-1].objective_state) == [2, 2]


def test_combine_gives_each_objective_its_own_key():
    def loss(variables, codes, batch, context):
        return Loss(codes.mean(), jax.random.uniform(context.key), {})

    noisy = Objective(lambda key, setup: Variables(state=jnp.float32(0)), loss)
    states, _ = run(combine(noisy, noisy))
    first, second = states[-1].objective_state
    assert first != second


@pytest.mark.parametrize("name", ["loss", "grad_norm", "dead_bits"])
def test_a_term_does_not_hide_what_the_step_logs(name):
    with pytest.raises(ValueError, match=name):
        run(constant(name, 1.0))


def test_combine_refuses_two_terms_of_one_name():
    with pytest.raises(ValueError, match="same term"):
        run(combine(constant("a", 1.0), constant("a", 2.0)))


def test_each_view_has_a_key_of_its_own():
    def draw(codes, *, key, where, axis_name):
        return jax.random.uniform(key)

    quantizer = from_loss("draw", draw, random=True)
    codes = jnp.ones((2, 3))
    batch = Batch(None, None, None, jnp.ones(2, bool))
    one = quantizer.loss(Variables(), codes, batch, CONTEXT).value
    assert one == jax.random.uniform(jax.random.key(0))
    two = quantizer.loss(Variables(), (codes, codes), batch, CONTEXT).value
    other = 2 * two - one
    assert 0 <= other <= 1 and abs(other - one) > 1e-3


def test_next_to_one_of_two_views_an_objective_of_one_sees_the_first():
    """So does a sum of such objectives; a quantizer beside them sees both views."""

    def seen(name, views):
        """Logs the sum of all codes and inputs that it sees, and keeps how many views there were."""

        def total(*trees):
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(trees))

        def loss(variables, codes, batch, context):
            value = total(codes, batch.inputs)
            return Loss(value, (), {name: value})

        return Objective(
            lambda key, setup: Variables(params=len(jax.tree.leaves(setup.inputs))), loss, views
        )

    codes, inputs = (
        (jnp.full((2, 3), a), jnp.full((2, 3), b)) for a, b in ((1.0, 2.0), (10.0, 20.0))
    )
    quantizer = from_loss("mean", lambda codes, where, axis_name: jnp.mean(codes))
    within = combine(seen("one", 1), weighted(0.5, quantizer))
    objective = combine(seen("two", 2), within)
    assert objective.views == 2 and within.views == 1
    made = objective.init(jax.random.key(0), Setup(3, 2, 1, False, inputs, None))
    assert made.params == (2, (1, ()))
    batch = Batch(inputs, None, None, jnp.ones(2, bool))
    terms = objective.loss(made, codes, batch, CONTEXT).terms
    assert terms == {"two": 6 * (1 + 2 + 10 + 20), "one": 6 * (1 + 10), "mean": 1.0}
    beside = combine(seen("two", 2), combine(quantizer))
    made = beside.init(jax.random.key(0), Setup(3, 2, 1, False, inputs, None))
    assert beside.loss(made, codes, batch, CONTEXT).terms["mean"] == 1.5


def test_a_penalty_of_zero_is_not_there_and_changes_no_other_draw():
    def init(key, setup):
        return Variables(params=jax.random.uniform(key))

    def loss(variables, codes, batch, context):
        return Loss(jnp.float32(1), (), {"a": jnp.float32(1)})

    method = Objective(init, loss)
    penalty = from_loss("b", lambda codes, where, axis_name: jnp.float32(5))
    without, beside = (add_penalty(method, weight, penalty) for weight in (0.0, 2.0))
    key, setup = jax.random.key(3), Setup(3, 2, 1, False, None, None)
    assert without.init(key, setup).params == beside.init(key, setup).params[0]
    batch = Batch(None, None, None, jnp.ones(2, bool))
    context = Context(key, None, None, None, None, None)
    results = [
        each.loss(each.init(key, setup), jnp.ones((2, 3)), batch, context)
        for each in (without, beside)
    ]
    assert [float(result.value) for result in results] == [1, 11]
    assert "b" not in results[0].terms and "b" in results[1].terms


@pytest.mark.parametrize("weight", [-1.0, float("nan"), -1])
def test_a_penalty_below_zero_is_refused(weight):
    with pytest.raises(ValueError, match="penalty must be at least 0, got"):
        add_penalty(hswd(), weight, hswd())
