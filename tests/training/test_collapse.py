"""Collapse of the codes: metrics of the step, and warnings in the log."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import metrics
from jaxhash.ops.codes import binarize
from jaxhash.training.collapse import MIN_ROWS, MIN_STEPS, CollapseAlarm, code_metrics

RNG = np.random.default_rng(0)


# Metrics of the step


def expected(codes):
    signs = binarize(codes)
    dead = [len(set(column.tolist())) == 1 for column in signs.T]
    return {"bit_balance": metrics.bit_balance(signs), "dead_bits": sum(dead)}


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0, 9.0])
@pytest.mark.parametrize("rows", [1, 2, 7, 40])
def test_metrics_ignore_padding(shift, rows):
    codes = RNG.normal(size=(rows + 3, 6)).astype(np.float32)
    codes[:rows] += shift * RNG.choice([-1, 1], 6)
    mask = np.arange(rows + 3) < rows
    found = code_metrics(jnp.asarray(codes), mask)
    assert found["dead_bits"] == expected(codes[:rows])["dead_bits"]
    np.testing.assert_allclose(
        found["bit_balance"], expected(codes[:rows])["bit_balance"], atol=1e-6
    )


def test_zero_counts_as_plus_one():
    codes = jnp.array([[0.0, -0.0, 0.0], [1.0, 2.0, -1.0]])
    found = code_metrics(codes, np.ones(2, bool))
    assert (found["dead_bits"], found["bit_balance"]) == (2, pytest.approx(1 / 3))


def test_metrics_of_a_sharded_batch_are_those_of_the_batch():
    """A bit that is constant on each device need not be dead; the last devices hold padding."""
    codes = np.repeat([[1.0, -1.0], [-1.0, -1.0]], 12, axis=0).astype(np.float32)
    codes[20:] *= -1
    mask = np.arange(24) < 20
    sharded = jax.pmap(lambda c, m: code_metrics(c, m, axis_name="i"), axis_name="i")(
        codes.reshape(8, 3, 2), mask.reshape(8, 3)
    )
    whole = code_metrics(jnp.asarray(codes), mask)
    assert whole == {"bit_balance": pytest.approx(0.4), "dead_bits": 1}
    for name, values in sharded.items():
        assert set(np.asarray(values).tolist()) == {whole[name].item()}


def test_metrics_have_no_gradient():
    gradient = jax.grad(lambda c: code_metrics(c, np.ones(4, bool))["bit_balance"])
    assert not gradient(jnp.asarray(RNG.normal(size=(4, 3)).astype(np.float32))).any()


@pytest.mark.parametrize("codes", [{"a": jnp.ones((4, 2)), "b": jnp.ones((4, 2))}, jnp.ones(4)])
def test_other_outputs_have_no_metrics(codes):
    assert code_metrics(codes, np.ones(4, bool)) == {}


# Warnings


def records(dead, first=1):
    return [{"step": first + i, "dead_bits": count} for i, count in enumerate(dead)]


def warned(dead, *, bits=8, rows=100):
    """Returns the steps that warn, if step i + 1 has dead[i] dead bits."""
    alarm = CollapseAlarm(bits=bits, rows=rows)
    lines = {r["step"]: alarm.update(r["step"], r) for r in records(dead)}
    steps = [step for step, line in lines.items() if line is not None]
    assert steps == alarm.steps
    return steps


@pytest.mark.parametrize(
    ("dead", "steps"),
    [
        ([8] * (MIN_STEPS - 1), []),
        ([8] * MIN_STEPS, [MIN_STEPS]),
        ([8] * (5 * MIN_STEPS), [MIN_STEPS]),  # once
        ([5] * MIN_STEPS, [MIN_STEPS]),
        ([4] * (5 * MIN_STEPS), []),  # half is not more than half
        (([8] * (MIN_STEPS - 1) + [0]) * 5, []),  # not in a row
        (
            [0] * 7 + [8] * MIN_STEPS + [4] + [8] * MIN_STEPS,
            [7 + MIN_STEPS, 8 + 2 * MIN_STEPS],
        ),  # and again
    ],
)
def test_one_warning_per_collapse(dead, steps):
    assert metrics.COLLAPSE_DEAD_SHARE == 0.5
    assert warned(dead) == steps


def test_warning_names_bits_and_remedies():
    alarm = CollapseAlarm(bits=32, rows=100, records=records([30] * (MIN_STEPS - 1)))
    line = alarm.update(MIN_STEPS, {"dead_bits": 30})
    assert line.startswith("30 of 32 bits")
    assert all(hint in line for hint in ("`learning_rate`", "`quantizer`", "`quantizer_weight`"))
    assert "\n" not in line


def test_small_batches_do_not_warn():
    assert warned([8] * 100, rows=MIN_ROWS - 1) == []
    assert warned([8] * 100, rows=MIN_ROWS) == [MIN_STEPS]


def test_records_without_dead_bits_do_not_warn():
    alarm = CollapseAlarm(bits=8, rows=100, records=[{"step": 1, "loss": 1.0}])
    assert alarm.steps == []


def test_an_alarm_from_records_equals_one_that_saw_them():
    dead = [0] * 3 + [8] * (MIN_STEPS + 5) + [0] + [8] * (MIN_STEPS + 5)
    whole = warned(dead)
    assert len(whole) == 2
    for cut in range(len(dead)):
        alarm = CollapseAlarm(bits=8, rows=100, records=records(dead[:cut]))
        warnings = [r["step"] for r in records(dead[cut:], cut + 1) if alarm.update(r["step"], r)]
        assert alarm.steps == whole
        assert warnings == [step for step in whole if step > cut]  # a warning is not repeated


@pytest.mark.parametrize("seed", range(20))
def test_records_without_a_change_may_be_missing(seed):
    rng = np.random.default_rng(seed)
    dead = np.repeat(rng.choice([0, 3, 8], 30), rng.integers(1, 2 * MIN_STEPS, 30))
    whole, kept = CollapseAlarm(bits=8, rows=100), []
    for record in records(dead.tolist()):
        if record["step"] % 50 == 1:
            again = CollapseAlarm(bits=8, rows=100, records=kept)
            following = records(dead[record["step"] - 1 :].tolist(), record["step"])
            for later in following:
                again.update(later["step"], later)
            assert again.steps == warned(dead.tolist())
        whole.update(record["step"], record)
        if whole.changed or record["step"] % 7 == 0:
            kept.append(record)
    assert len(kept) < len(dead)
