"""RMSH in our reading: a naive loop over modalities and pseudo-codes, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.objectives import Batch, Context, Setup, robust_multilevel
from jaxhash.objectives._multilevel import fuse_codes
from jaxhash.ops.code_bounds import guaranteed_distance

ROWS, BITS, CLASSES, RADIUS = 6, 5, 4, 2.0
RANDOM = np.random.default_rng(1)
CODES = tuple(jnp.asarray(RANDOM.normal(size=(2, ROWS, BITS)), jnp.float32))
LABELS = np.eye(CLASSES, dtype=bool)[[0, 1, 0, 1, 2, 3]]
LABELS[2, 1] = LABELS[3, 2] = True
MASK = np.arange(ROWS) != 5
CONTEXT = Context(jax.random.key(0), jnp.float32(0), jnp.bool_(False), None, None, None)


def loss_of(codes, labels=LABELS, **options):
    objective = robust_multilevel(**options)
    setup = Setup(BITS, 20, CLASSES, labels.ndim == 2, {}, {})
    variables = objective.init(jax.random.key(0), setup)
    batch = Batch(None, jnp.asarray(labels), jnp.arange(ROWS), jnp.asarray(MASK))
    return objective.loss(variables, codes, batch, CONTEXT)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def naive_fused():
    """The pseudo-code of the labels of each valid row."""
    both = sum(np.tanh(np.asarray(codes)) for codes in CODES)
    rows = range(ROWS - 1)
    sums = [sum(both[i] for i in rows if not (LABELS[i] & ~LABELS[p]).any()) for p in rows]
    return [np.where(each >= 0, 1.0, -1.0) for each in sums]


def naive_triplets(*, pseudo_codes):
    terms = []
    for x in range(2):
        for y in range(2):
            found, h = [], [np.tanh(np.asarray(codes)) for codes in CODES]
            for i in range(ROWS - 1):
                columns = [(LABELS[j], h[y][j]) for j in range(ROWS - 1) if x != y or i != j]
                if pseudo_codes:
                    columns += zip(LABELS[: ROWS - 1], naive_fused(), strict=True)
                pairs = [
                    (iou(LABELS[i], labels), (BITS - h[x][i] @ c) / 2) for labels, c in columns
                ]
                found += [
                    max(0, near - far + RADIUS * (s - t))
                    for s, near in pairs
                    for t, far in pairs
                    if s > t + 1e-9
                ]
            terms.append(np.mean(found))
    return np.mean(terms)


@pytest.mark.parametrize("pseudo_codes", [True, False])
def test_triplets_of_all_pairs_of_modalities(pseudo_codes):
    options = {"form": "triplets", "radius": RADIUS, "penalty": 0.0, "pseudo_codes": pseudo_codes}
    found = loss_of(CODES, **options)
    np.testing.assert_allclose(found.value, naive_triplets(pseudo_codes=pseudo_codes), rtol=1e-5)


def test_one_modality_is_both():
    options = {"penalty": 0.0, "pseudo_codes": False, "radius": RADIUS}
    alone = loss_of(CODES[0], **options).value
    assert float(alone) > 0 and np.isfinite(alone)


def test_pseudo_codes_are_constants_and_padding_is_in_none():
    fused = fuse_codes(sum(map(jnp.tanh, CODES)), jnp.asarray(LABELS), jnp.asarray(MASK))
    np.testing.assert_array_equal(fused[: ROWS - 1], naive_fused())
    slope = jax.grad(lambda codes: fuse_codes(codes, jnp.asarray(LABELS), jnp.asarray(MASK)).sum())
    assert not slope(CODES[0]).any()


def test_the_default_radius_is_what_codes_can_reach():
    objective = robust_multilevel(penalty=0.0)
    state = objective.init(jax.random.key(0), Setup(32, 20, 24, True, {}, {})).state
    assert state == guaranteed_distance(32, 24) == 11
