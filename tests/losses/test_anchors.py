"""Class Anchor Margin and proto-triplet against values by hand, and against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import (
    anchor_attraction,
    anchor_norm_shortfall,
    anchor_repulsion,
    proto_triplet,
)

ANCHORS = jnp.array([[1.0, 1.0], [0.0, 0.5], [0.2, 0.0]])
RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(9, 5)).astype(np.float32)
CENTERS = RNG.normal(size=(4, 5)).astype(np.float32)
LABELS = np.eye(4, dtype=bool)[[0, 1, 0, 2, 1, 0, 3, 2, 1]]
SEVERAL = LABELS | (np.arange(9)[:, None] % 4 == 0) & (np.arange(4)[None, :] == 2)


def test_attraction_by_hand():
    codes = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    labels = jnp.eye(3)[:2]
    assert anchor_attraction(codes, ANCHORS, labels) == pytest.approx(0.8125)
    assert anchor_attraction(codes[:1], ANCHORS, labels[:1]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("ordered-sum", 3.43130), ("unordered-sum", 1.71565), ("mean", 0.57188)],
)
def test_repulsion_by_hand(reduction, expected):
    found = anchor_repulsion(ANCHORS, margin=1.0, reduction=reduction)
    assert found == pytest.approx(expected, rel=1e-5)


def test_norm_shortfall_by_hand():
    assert anchor_norm_shortfall(ANCHORS) == pytest.approx(0.44500, rel=1e-5)


def test_a_margin_is_met_by_codes_whose_distance_is_its_square():
    """Codes of -1 and +1 that differ in 4 of 8 bits are 2 sqrt 4 apart."""
    codes = jnp.array([[1.0] * 8, [1.0] * 4 + [-1.0] * 4])
    assert anchor_repulsion(codes, margin=2.0) == pytest.approx(0, abs=1e-10)
    assert anchor_repulsion(codes, margin=2.1) > 0.01


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one", "several"])
def test_attraction_is_the_loop(labels):
    each = [
        np.mean([0.5 * np.sum((code - CENTERS[c]) ** 2) for c in np.flatnonzero(row)])
        for code, row in zip(CODES.astype(float), labels, strict=True)
    ]
    found = anchor_attraction(jnp.asarray(CODES), jnp.asarray(CENTERS), labels)
    assert found == pytest.approx(np.mean(each), rel=1e-5)


def proto_triplet_loop(codes, labels, margin):
    def distance(a, b):
        return np.sqrt(np.sum((a - b) ** 2) + 1e-6)

    values = []
    for i, c in np.ndindex(labels.shape):
        others = labels[:, c] & (np.arange(len(codes)) != i)
        rivals = [k for k in np.flatnonzero(labels.any(axis=0)) if not labels[i, k]]
        if labels[i, c] and others.any() and rivals:
            own = distance(codes[i], codes[others].mean(axis=0))
            nearest = min(distance(codes[i], codes[labels[:, k]].mean(axis=0)) for k in rivals)
            values.append(max(0, own - nearest + margin))
    return np.mean(values)


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize("margin", [0.0, 0.5, 3.0])
def test_proto_triplet_is_the_loop(labels, margin):
    found = proto_triplet(jnp.asarray(CODES), labels, margin=margin)
    assert found == pytest.approx(proto_triplet_loop(CODES.astype(float), labels, margin), rel=1e-4)


def test_proto_triplet_without_a_rival_or_company_costs_nothing():
    codes = jnp.asarray(CODES[:4])
    assert proto_triplet(codes, np.ones((4, 1), bool)) == 0
    assert proto_triplet(codes, np.eye(4, dtype=bool)) == 0


def test_equal_anchors_and_an_anchor_of_zeros_have_no_gradient():
    slope = jax.grad(lambda a: anchor_repulsion(a) + anchor_norm_shortfall(a))(jnp.zeros((3, 4)))
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize(
    ("loss", "options", "name"),
    [
        (anchor_repulsion, {"margin": 0.0}, "margin"),
        (anchor_repulsion, {"reduction": "sum"}, "reduction"),
        (anchor_norm_shortfall, {"least_norm": -1.0}, "least_norm"),
    ],
)
def test_wrong_options_are_refused(unchecked, loss, options, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        loss(ANCHORS, **options)


def test_a_margin_below_zero_is_refused(unchecked):
    with pytest.raises(ValueError, match="^margin must be"):
        proto_triplet(jnp.asarray(CODES), LABELS, margin=-0.1)
