"""The batch that an objective is given, in every form that people have it, or refused by name."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxhash import objectives
from jaxhash.objectives import Batch, Context, Setup

ROWS, BITS, CLASSES = 6, 4, 3
INDEX = np.arange(ROWS)
IDS = INDEX % CLASSES
ONE_HOT = np.eye(CLASSES, dtype=bool)[IDS]
MASK = INDEX != 4
CODES = jnp.asarray(np.random.default_rng(0).normal(size=(ROWS, BITS)), jnp.float32)

#: One that pairs, one that looks up classes, one that remembers items, and one of codes alone.
OBJECTIVES = {
    "hashnet": objectives.hashnet,
    "csq": functools.partial(objectives.csq, penalty=0.0),
    "dch": functools.partial(objectives.dch, pairs="bank", penalty=0.0),
    "l2": objectives.l2,
}
each = pytest.mark.parametrize("name", OBJECTIVES)


def value(name, labels=IDS, index=INDEX, mask=MASK):
    objective, multi_label = OBJECTIVES[name](), np.ndim(labels) == 2
    setup = Setup(BITS, ROWS, CLASSES, multi_label, np.zeros((ROWS, 2), np.float32), {})
    context = Context(jax.random.key(1), jnp.float32(0.5), jnp.bool_(False), None, None, None)
    variables = objective.init(jax.random.key(0), setup)
    return objective.loss(variables, CODES, Batch(None, labels, index, mask), context).value


@each
def test_batches_of_every_dtype(name):
    expected, of_rows = value(name), value(name, ONE_HOT)
    np.testing.assert_allclose(of_rows, expected, rtol=1e-6)
    for kind in (np.asarray, jnp.asarray):
        assert value(name, mask=kind(MASK.astype(ml_dtypes.bfloat16))) == expected
        assert value(name, kind(IDS, np.uint8), kind(INDEX, np.uint8)) == expected
        assert value(name, kind(ONE_HOT, np.float32), mask=kind(MASK, np.int32)) == of_rows


@each
@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, "mask must be 0 or 1, got 2", {"mask": 2 * MASK}),
        (TypeError, "mask must be bool", {"mask": MASK.astype(str)}),
        (ValueError, "mask must have shape", {"mask": MASK[:, None]}),
        (ValueError, "index must have shape", {"index": np.arange(ROWS + 1)}),
        (TypeError, "index must be integers", {"index": MASK}),
        (ValueError, "index must be 0 or more in rows", {"index": INDEX - 1}),
        (ValueError, "labels must be integers", {"labels": IDS + 0.5}),
        (ValueError, "labels must be -1 or more", {"labels": IDS - 2}),
        (ValueError, "labels must be 0 or 1, got 3", {"labels": 3 * ONE_HOT}),
        (ValueError, "labels must have shape", {"labels": ONE_HOT[1:]}),
        (TypeError, "labels must be integers, got bool", {"labels": MASK}),
        (ValueError, "labels must be class ids", {"labels": ONE_HOT[..., None]}),
    ],
)
def test_batches_that_mean_nothing_are_refused(unchecked, name, error, words, change):
    with pytest.raises(error, match=words):
        value(name, **change)


def test_items_that_a_bank_does_not_have_are_refused():
    """They would be dropped, and with all of them the loss would be 0; padding may be anywhere."""
    with pytest.raises(ValueError, match="^index must be below 6, got 6"):
        value("hashnet", index=INDEX + 1)
    assert value("hashnet", index=np.where(MASK, INDEX, 99)) == value("hashnet")
