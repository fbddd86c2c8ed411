"""DTSH, MIHash and TALR as objectives: what they relax, pair, weigh and log."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses
from jaxhash.objectives import Batch, Context, Setup, dtsh, mihash, tie_aware_ap
from jaxhash.similarity import shares_label

BITS, CLASSES = 4, 3
LABELS = np.array([0, 1, 0, 1, 2, 0, -1], np.int32)
MASK = np.array([True, True, True, True, True, False, True])
CONTEXT = Context(jax.random.key(0), jnp.float32(0), jnp.bool_(False), None, None, None)


def codes():
    values = np.random.default_rng(0).normal(size=(len(LABELS), BITS)).astype(np.float32)
    values[5] = np.nan  # padding
    return jnp.asarray(values)


def run(objective, labels=LABELS, u=None):
    setup = Setup(BITS, 20, CLASSES, labels.ndim == 2, None, None)
    rows = np.arange(len(labels), dtype=np.int32)
    batch = Batch(None, *map(jnp.asarray, (labels, rows, MASK)))
    start = objective.init(jax.random.key(0), setup)
    assert not jax.tree.leaves(start)  # nothing kept, nothing trained
    return objective.loss(start, codes() if u is None else u, batch, CONTEXT)


def of_the_batch(loss, relaxed, **options):
    """The loss of the valid rows, none paired with itself."""
    rows, labels = relaxed[MASK], jnp.asarray(LABELS[MASK])
    where = ~jnp.eye(len(rows), dtype=bool)
    return loss(rows, rows, shares_label(labels, labels), where=where, **options)


def test_dtsh_is_the_loss_of_raw_codes_and_its_penalty():
    result, u = run(dtsh()), codes()
    expected = of_the_batch(losses.dtsh, u, margin=BITS / 2)
    penalty = losses.l2_quantization(u, where=jnp.asarray(MASK))
    np.testing.assert_allclose(result.terms["dtsh"], expected, rtol=1e-5)
    np.testing.assert_allclose(result.terms["dtsh_penalty"], penalty, rtol=1e-5)
    np.testing.assert_allclose(result.value, expected + penalty, rtol=1e-5)


def test_dtsh_with_other_numbers():
    result = run(dtsh(margin=1.5, penalty=0.0))
    assert list(result.terms) == ["dtsh"]
    expected = of_the_batch(losses.dtsh, codes(), margin=1.5)
    np.testing.assert_allclose(result.value, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "loss"), [(mihash, losses.mihash), (tie_aware_ap, losses.tie_aware_ap)]
)
@pytest.mark.parametrize("options", [{}, {"beta": 2.0}])
def test_histograms_are_of_relaxed_codes(make, loss, options):
    result = run(make(**options))
    expected = of_the_batch(loss, jnp.tanh(options.get("beta", 0.5) * codes()))
    np.testing.assert_allclose(result.value, expected, rtol=1e-5)
    assert result.terms == {make.__name__: result.value}
    assert result.value < 0


@pytest.mark.parametrize("make", [dtsh, mihash, tie_aware_ap])
def test_a_label_in_common_is_enough(make):
    """With one label each, multi-hot rows equal ids; a second label makes more pairs similar."""
    one_hot = np.eye(CLASSES, dtype=np.uint8)[LABELS] * (LABELS >= 0)[:, None].astype(np.uint8)
    by_id = run(make()).value
    assert run(make(), labels=one_hot).value == by_id
    one_hot[1, 0] = 1
    assert run(make(), labels=one_hot).value != by_id
