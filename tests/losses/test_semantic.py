"""Semantic similarity against its formula, by hand, and over devices."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import _nearest_neighbors, semantic_similarity

STATIC = ("gamma", "rho", "normalizer", "scale_gradient", "axis_name")

loss = jax.jit(semantic_similarity, static_argnames=STATIC)
loss_and_gradient = jax.jit(jax.value_and_grad(semantic_similarity), static_argnames=STATIC)

each_normalizer = pytest.mark.parametrize("normalizer", ["pairs", "weights"])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def semantic(n, seed=5):
    """Symmetric distances in [0, 1], 0 from a row to itself."""
    points = np.random.default_rng(seed).random((n, 2))
    return jnp.asarray(np.abs(points[:, None] - points[None]).mean(axis=2), jnp.float32)


# Values


def formula(codes, distances, gamma=0.1, rho=2.0, normalizer="pairs"):
    """By loops, in float64."""
    codes, distances = np.asarray(codes, float), np.asarray(distances, float)
    n = len(codes)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    apart = {(i, j): np.abs(codes[i] - codes[j]).sum() for i, j in pairs}
    tau_z = np.mean([apart[pair] for pair in pairs])
    tau_d = np.mean([distances[pair] for pair in pairs])
    weight = {pair: gamma**rho / (gamma + distances[pair]) ** rho for pair in pairs}
    total = sum(weight[p] * abs(apart[p] / tau_z - distances[p] / tau_d) for p in pairs)
    return total / (n**2 if normalizer == "pairs" else sum(weight.values()))


@pytest.mark.parametrize(
    ("n", "gamma", "rho", "normalizer"),
    [
        (2, 0.1, 2.0, "pairs"),
        (40, 0.1, 2.0, "weights"),
        (40, 0.5, 0.0, "pairs"),
        (40, 1.0, 3.0, "weights"),
    ],
)
def test_is_the_formula(n, gamma, rho, normalizer):
    codes, distances = normal(n, 4), semantic(n)
    given = {"gamma": gamma, "rho": rho, "normalizer": normalizer}
    value = loss(codes, distances, **given)
    expected = formula(codes, distances, gamma, rho, normalizer)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


CORNER = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # 1, 1 and 2 apart
TABLE = jnp.array([[0.0, 0.5, 1.0], [0.5, 0.0, 1.0], [1.0, 1.0, 0.0]])


def test_by_hand():
    """Means 4/3 and 5/6: ratios 3/4, 3/4, 3/2 for 3/5, 6/5, 6/5."""
    near, far = (0.1 / 0.6) ** 2, (0.1 / 1.1) ** 2
    total = near * 0.15 + far * 0.45 + far * 0.3
    assert loss(CORNER, TABLE) == pytest.approx(2 * total / 9, rel=1e-5)
    assert loss(CORNER, TABLE) == pytest.approx(0.0023033, abs=5e-8)
    by_weights = loss(CORNER, TABLE, normalizer="weights")
    assert by_weights == pytest.approx(total / (near + 2 * far), rel=1e-5)


def test_labels_index_a_table():
    codes, labels = normal(9, 4), jnp.array([0, 2, 1, 1, 0, 2, 2, 0, 1])
    value, slope = loss_and_gradient(codes, TABLE, labels)
    expected, expected_slope = loss_and_gradient(codes, TABLE[labels[:, None], labels[None, :]])
    assert value == expected
    np.testing.assert_array_equal(slope, expected_slope)


def test_a_row_without_a_label_is_left_out():
    codes, labels = normal(6, 4), jnp.array([0, -1, 2, 1, -1, 0])
    labelled = labels != -1
    where = jnp.arange(6) != 5
    value, slope = loss_and_gradient(codes, TABLE, labels)
    expected, expected_slope = loss_and_gradient(codes[labelled], TABLE, labels[labelled])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope[labelled], expected_slope, rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(slope[~labelled], 0.0)
    both = labelled & where
    value = loss(codes, TABLE, labels, where=where)
    np.testing.assert_allclose(value, loss(codes[both], TABLE, labels[both]), rtol=1e-5)


@pytest.mark.parametrize("unknown", [3, -2])
def test_a_label_outside_the_table_shows(unknown):
    assert jnp.isnan(loss(CORNER, TABLE, jnp.array([0, 1, unknown])))


def test_matching_distances_cost_nothing():
    """The loss ignores the scale: codes whose distances are a multiple of the semantic ones."""
    distances = jnp.sum(jnp.abs(CORNER[:, None] - CORNER[None]), axis=2)
    for codes in (CORNER, 3 * CORNER + 1):
        assert loss(codes, distances / 2) == pytest.approx(0, abs=1e-8)


def test_diagonal_is_not_read():
    codes, distances = normal(5, 4), semantic(5)
    broken = jnp.where(jnp.eye(5, dtype=bool), jnp.nan, distances)
    for normalizer in ("pairs", "weights"):
        value = loss(codes, broken, normalizer=normalizer)
        assert value == loss(codes, distances, normalizer=normalizer)


# The gradient


def test_scale_gradient():
    """With it no step changes the scale; without, the scale is a constant of the formula."""
    codes, distances = normal(6, 3), semantic(6)
    _, slope = loss_and_gradient(codes, distances)
    assert jnp.sum(slope * codes) == pytest.approx(0, abs=1e-6)
    value, slope = loss_and_gradient(codes, distances, scale_gradient=False)
    assert value == loss(codes, distances)
    assert abs(jnp.sum(slope * codes)) > 1e-3

    apart = np.abs(np.asarray(codes)[:, None] - np.asarray(codes)[None])
    off = ~np.eye(6, dtype=bool)
    tau_z, tau_d = apart.sum(axis=2)[off].mean(), np.asarray(distances)[off].mean()
    sides = np.sign(apart.sum(axis=2) / tau_z - distances / tau_d)
    pull = np.where(off, (0.1 / (0.1 + distances)) ** 2 * sides, 0.0) / tau_z / 36
    directions = np.sign(np.asarray(codes)[:, None] - np.asarray(codes)[None])
    expected = 2 * np.einsum("ij,ijk->ik", pull, directions)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-7)


@each_normalizer
@pytest.mark.parametrize("scale_gradient", [True, False])
@pytest.mark.parametrize("valid", [0, 1, 2, 6])
@pytest.mark.parametrize("filling", [0.0, 1.0, "bits", "random"])
def test_gradient_is_finite(normalizer, scale_gradient, valid, filling):
    """With distances of codes, semantic ones, or both that are all 0."""
    fillings = {"bits": jnp.sign(normal(6, 4)), "random": normal(6, 4)}
    codes = fillings.get(filling, jnp.full((6, 4), filling if filling not in fillings else 0.0))
    for distances in (semantic(6), jnp.zeros((6, 6))):
        value, slope = loss_and_gradient(
            codes,
            distances,
            normalizer=normalizer,
            scale_gradient=scale_gradient,
            where=jnp.arange(6) < valid,
        )
        assert jnp.isfinite(value) and jnp.isfinite(slope).all()
        if valid < 2 or (filling in (0.0, 1.0) and not distances.any()):
            assert value == 0 and not slope.any()


@each_normalizer
def test_single_row_costs_nothing(normalizer):
    value, slope = loss_and_gradient(normal(1, 4), jnp.ones((1, 1)), normalizer=normalizer)
    assert value == 0 and not slope.any()


# Invariances


@pytest.mark.parametrize("at_once", [1, 60])
def test_blocks_do_not_matter(monkeypatch, at_once):
    codes, distances = normal(23, 4), semantic(23)
    value, slope = loss_and_gradient(codes, distances)
    monkeypatch.setattr(_nearest_neighbors, "_BLOCK_SIZE", at_once)
    blocked = jax.jit(jax.value_and_grad(partial(semantic_similarity)))  # nothing compiled before
    blocked_value, blocked_slope = blocked(codes, distances)
    np.testing.assert_allclose(blocked_value, value, rtol=1e-5)
    np.testing.assert_allclose(blocked_slope, slope, rtol=1e-4, atol=1e-7)


def test_memory_does_not_grow_with_pairs_and_bits():
    """2,048 codes of 64 bits: a matrix of pairs takes 16 MiB, and one with the bits 1 GiB."""
    step = jax.jit(jax.value_and_grad(semantic_similarity))
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2048, 64), (2048, 2048)))
    assert step.lower(*shapes).compile().memory_analysis().temp_size_in_bytes < 10 * 2**24


def test_order_of_the_batch_and_of_the_bits_does_not_matter():
    codes, distances = normal(9, 4), semantic(9)
    rows, bits = np.random.default_rng(2).permutation(9), np.array([2, 0, 3, 1])
    value = loss(codes, distances)
    shuffled = loss(codes[rows], distances[rows][:, rows])
    np.testing.assert_allclose(shuffled, value, rtol=1e-5)
    np.testing.assert_allclose(loss(5 - 2 * codes[:, bits], 3 * distances, gamma=0.3), value, 1e-4)


@each_normalizer
@pytest.mark.parametrize("valid", [0, 1])
def test_batch_without_a_pair_costs_nothing(normalizer, valid):
    where = jnp.arange(5) < valid
    codes = jnp.where(where[:, None], normal(5, 4), jnp.nan)
    value, slope = loss_and_gradient(codes, semantic(5), where=where, normalizer=normalizer)
    assert value == 0
    np.testing.assert_array_equal(slope, 0.0)


# Several devices


def cost_and_gradients(
    weights, images, where, distances, labels, *, options, by_label, axis_name=None
):
    def cost(weights, images):
        given = (TABLE, labels) if by_label else (distances,)
        return semantic_similarity(
            images @ weights, *given, where=where, axis_name=axis_name, **dict(options)
        )

    value, (of_weights, of_images) = jax.value_and_grad(cost, argnums=(0, 1))(weights, images)
    if axis_name is not None:
        of_weights = jax.lax.psum(of_weights, axis_name)
    return value, of_weights, of_images


@cache
def over_devices(mapping, options, by_label):
    mapped = jax.pmap if mapping == "pmap" else lambda f, **axes: jax.jit(jax.vmap(f, **axes))
    step = partial(cost_and_gradients, options=options, by_label=by_label, axis_name="device")
    return mapped(step, axis_name="device", in_axes=(None, 0, 0, 0, 0))


@cache
def on_one(options, by_label):
    return jax.jit(partial(cost_and_gradients, options=options, by_label=by_label))


@pytest.mark.parametrize(
    ("mapping", "options", "by_label"),
    [
        ("pmap", (), False),
        ("vmap", (), True),
        ("vmap", (("normalizer", "weights"),), False),
        ("vmap", (("scale_gradient", False),), False),
    ],
)
@pytest.mark.parametrize("valid", [16, 11])
def test_eight_devices_are_one(mapping, options, by_label, valid):
    """Two rows a device; with 11 valid rows one device is half padding and two are nothing else."""
    images, weights, where = normal(16, 3), normal(3, 4, seed=1), jnp.arange(16) < valid
    labels = jnp.asarray(np.random.default_rng(0).integers(-1, 3, size=16), jnp.int32)
    arrays = images, where, semantic(16), labels
    value, of_weights, of_images = over_devices(mapping, options, by_label)(
        weights, *(each.reshape(8, 2, *each.shape[1:]) for each in arrays)
    )
    whole = on_one(options, by_label)(weights, *arrays)
    assert len(set(np.asarray(value).tolist())) == 1
    np.testing.assert_allclose(value[0], whole[0], rtol=1e-5, atol=1e-6)
    for each in of_weights:
        np.testing.assert_allclose(each, whole[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of_images.reshape(16, 3), whole[2], rtol=1e-4, atol=1e-6)


# Errors


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "distances", {"distances": jnp.ones((4, 4), int)}),
        (ValueError, "distances", {"distances": jnp.ones((4, 5))}),
        (ValueError, "distances", {"distances": jnp.ones(4)}),
        (ValueError, "distances", {"distances": jnp.ones((3, 2)), "labels": jnp.arange(4)}),
        (ValueError, "labels", {"labels": jnp.arange(3)}),
        (ValueError, "where", {"where": jnp.ones(3, bool), "labels": jnp.arange(4)}),
        (ValueError, "gamma", {"gamma": 0.0}),
        (ValueError, "rho", {"rho": -1.0}),
        (ValueError, "normalizer", {"normalizer": "mean"}),
    ],
)
def test_errors_name_the_argument(unchecked, error, name, arguments):
    with pytest.raises(error, match=rf"\b{name}\b"):
        semantic_similarity(
            **{"codes": jnp.ones((4, 2)), "distances": jnp.ones((4, 4))} | arguments
        )
