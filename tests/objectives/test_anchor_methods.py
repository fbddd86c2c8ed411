"""CAM, ICNN, proto-triplet, RCDH and DSAH against sums and loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_cases import BITS, CLASSES, ITEMS, ROWS

from jaxhash import losses
from jaxhash.objectives import (
    Batch,
    Context,
    Setup,
    class_anchor_margin,
    dsah,
    icnn,
    proto_triplet,
    rcdh,
)
from jaxhash.ops.codebooks import codebook

RNG = np.random.default_rng(0)
CODES = jnp.asarray(RNG.normal(size=(ROWS, BITS)), jnp.float32)
IDS = np.array([0, 1, 2, 0, 1, 0, 0, 2], np.int32)
RELAXED = np.tanh(np.asarray(CODES, float))


def setup(classes=CLASSES, bits=BITS):
    return Setup(bits, ITEMS, classes, False, jnp.zeros((1, 3)), {})


def batch(labels=IDS, index=None):
    index = np.arange(ROWS, dtype=np.int32) if index is None else index
    return Batch(jnp.zeros((ROWS, 3)), jnp.asarray(labels), jnp.asarray(index), np.ones(ROWS, bool))


def run(objective, labels=IDS, *, new_epoch=False, variables=None):
    """The variables before, and the loss."""
    if variables is None:
        variables = objective.init(jax.random.key(0), setup())
    context = Context(jax.random.key(1), jnp.float32(0), jnp.bool_(new_epoch), None, None, None)
    return variables, jax.jit(lambda v, c, b: objective.loss(v, c, b, context))(
        variables, CODES, batch(labels)
    )


def means_of(codes, ids):
    return np.array([codes[ids == c].mean(axis=0) for c in range(CLASSES)])


def test_anchors_attract_their_class_and_repel_each_other():
    (anchors, margin), found = run(class_anchor_margin(reduction="mean"))
    assert margin == pytest.approx(np.sqrt(codebook(CLASSES, BITS).distance))
    a = np.asarray(anchors, float)
    attraction = np.mean(np.sum((RELAXED - a[IDS]) ** 2, axis=1)) / 2
    gaps = [np.linalg.norm(a[i] - a[j]) for i in range(3) for j in range(3) if i != j]
    repulsion = np.mean([max(0, 2 * margin - gap) ** 2 for gap in gaps]) / 2
    assert found.terms["class_anchor_margin_attraction"] == pytest.approx(attraction, rel=1e-5)
    assert found.terms["class_anchor_margin_repulsion"] == pytest.approx(repulsion, rel=1e-5)
    assert found.value == pytest.approx(attraction + repulsion, rel=1e-5)


def test_anchors_begin_as_multiples_of_unit_vectors():
    """Those along different directions are 2m apart or more."""
    anchors = class_anchor_margin(margin=3.0, start="base").init(jax.random.key(0), setup(7, 4))
    gaps = np.linalg.norm(anchors.params[:, None] - anchors.params[None], axis=2)
    other = np.arange(7)[:, None] % 4 != np.arange(7)[None] % 4
    assert gaps[other].min() == pytest.approx(6.0)
    assert (gaps[~np.eye(7, dtype=bool)] > 0).all()


@pytest.mark.parametrize("drop", [False, True])
def test_neighbors_among_prototypes_are_means_of_classes(drop):
    _, found = run(icnn(neighbors=1, targets="prototypes", drop_nearest=drop))
    means = jnp.asarray(means_of(RELAXED, IDS), jnp.float32)
    own = IDS[:, None] == np.arange(CLASSES)
    expected = losses.icnn(jnp.tanh(CODES), means, own, neighbors=1, drop_nearest=drop)
    assert found.value == pytest.approx(float(expected), rel=1e-5)


def test_classes_that_are_not_in_the_batch_have_no_prototype():
    few = np.where(IDS == 2, 0, IDS)
    _, found = run(icnn(neighbors=1, targets="prototypes"), few)
    means = jnp.asarray([RELAXED[few == c].mean(axis=0) for c in (0, 1)], jnp.float32)
    expected = losses.icnn(jnp.tanh(CODES), means, few[:, None] == np.arange(2), neighbors=1)
    assert found.value == pytest.approx(float(expected), rel=1e-5)
    assert run(proto_triplet(), few)[1].value > 0
    assert run(proto_triplet(), np.zeros(ROWS, np.int32))[1].value == 0


def test_ranks_are_those_of_the_number_of_shared_labels():
    labels = RNG.random((ROWS, CLASSES)) < 0.6
    objective = rcdh(levels=3, margin=0.1, penalty=0.0)
    variables, found = run(objective, labels.astype(np.uint8))
    shared = labels.astype(int) @ labels.T.astype(int)
    rank = losses.rank_consistency(
        jnp.tanh(CODES),
        jnp.tanh(CODES),
        shared,
        levels=3,
        margin=0.1,
        where=~np.eye(ROWS, dtype=bool),
    )
    assert found.terms["rcdh"] == pytest.approx(float(rank), rel=1e-5)
    centers = np.asarray(variables.params["centers"], float)
    clustering = np.mean(
        [
            np.mean([np.sum((code - centers[c]) ** 2) / BITS for c in np.flatnonzero(row)])
            for code, row in zip(RELAXED, labels, strict=True)
            if row.any()
        ]
    )
    assert found.terms["rcdh_clustering"] == pytest.approx(clustering, rel=1e-5)


def test_class_means_approach_the_codes_of_their_images():
    variables, found = run(dsah(similarity=0.5))
    own = means_of(RELAXED, IDS)[IDS]
    bits = np.asarray(variables.state.codes.rows, float)[:ROWS]
    quantization, scatter = np.mean((bits - own) ** 2), np.mean((RELAXED - own) ** 2)
    assert found.terms["dsah"] == pytest.approx(quantization, rel=1e-5)
    assert found.value == pytest.approx(quantization + 0.5 * scatter, rel=1e-5)


def test_codes_of_an_epoch_are_those_of_coordinate_descent():
    objective, mu, nu, eta = dsah(mu=0.3, nu=2.0, eta=0.05), 0.3, 2.0, 0.05
    variables, first = run(objective)
    variables = variables._replace(state=first.state)
    _, found = run(objective, variables=variables, new_epoch=True)
    b = np.asarray(variables.state.codes.rows, float).copy()
    y, ubar = np.eye(CLASSES)[IDS], means_of(RELAXED, IDS)[IDS]
    rows = b[:ROWS]
    one, two = (
        np.linalg.solve(rows.T @ rows + ridge * np.eye(BITS), rows.T @ target)
        for ridge, target in ((nu, y), (nu / mu, 1 - y))
    )

    def cost(rows):
        return (
            np.sum((y - rows @ one) ** 2, axis=1)
            + mu * np.sum((1 - y - rows @ two) ** 2, axis=1)
            + eta * np.sum((rows - ubar) ** 2, axis=1)
        )

    for k in range(BITS):
        up, down = rows.copy(), rows.copy()
        up[:, k], down[:, k] = 1, -1
        rows[:, k] = np.where(cost(up) <= cost(down), 1, -1)
    np.testing.assert_array_equal(found.state.codes.rows[:ROWS], rows)
    np.testing.assert_array_equal(found.state.codes.rows[ROWS:], b[ROWS:])  # not seen yet
