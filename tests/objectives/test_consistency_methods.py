"""CIMON against loops over the pairs of a batch, and its clusters against k-means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.cluster import KMeans

from jaxhash import losses
from jaxhash.objectives import Batch, Context, Setup, cimon
from jaxhash.objectives._base import uniform_by_item
from jaxhash.objectives._consistency import (
    Clusters,
    count_members,
    end_epoch,
    fill,
    nearest_center,
)

BITS, ROWS, ENTRIES, ITEMS, CLUSTERS, THRESHOLD = 4, 16, 5, 20, 3, 0.7
KEPT = np.isin(np.arange(ROWS), [2, 3, 8], invert=True)
METHOD = cimon(threshold=THRESHOLD, clusters=CLUSTERS, eta=0.4, temperature=0.6)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def context(new_epoch=False, seed=0, encode=None):
    return Context(jax.random.key(seed), jnp.float32(0.0), jnp.bool_(new_epoch), None, encode, None)


def views(*shape, seed):
    made = (normal(ROWS, *shape, seed=seed + number) + 0.3 for number in range(2))
    mask = KEPT.reshape(-1, *(1 for _ in shape))
    return tuple(jnp.where(mask, view, jnp.nan) for view in made)


def batch(inputs=None, seed=0):
    """Padding is NaN."""
    inputs = views(ENTRIES, seed=10 + 2 * seed) if inputs is None else inputs
    index = np.random.default_rng(seed).permutation(ITEMS)[:ROWS].astype(np.int32)
    labels = np.arange(ROWS, dtype=np.int32) % 3
    return jax.tree.map(jnp.asarray, Batch(inputs, labels, index, KEPT))


def begin(rows, items=ITEMS, encode=None, variables=None):
    first = jax.tree.map(lambda view: view[:1], rows.inputs)
    setup = Setup(BITS, items, 3, False, first, variables, encode=encode)
    return METHOD.init(jax.random.key(1), setup)


@jax.jit
def loss_of(variables, codes, rows, new_epoch, seed):
    return METHOD.loss(variables, codes, rows, context(new_epoch, seed))


# The method in loops


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def law(distances):
    """Mode and deviations, by the bins of all distances so far."""
    bins = np.floor(np.array(distances) / 0.01).astype(int)
    peak = np.bincount(bins).argmax()
    halves = []
    for side in (-1, 1):
        weights = np.where(bins == peak, 0.5, side * (bins - peak) > 0)
        halves.append(np.sqrt(np.sum(weights * (0.01 * (bins - peak)) ** 2) / np.sum(weights)))
    return 0.01 * (peak + 0.5), *halves


def confidence(d, mode, left, right):
    if d <= THRESHOLD:
        whole = norm.cdf(THRESHOLD, mode, left)
        return (whole - norm.cdf(d, mode, left)) / whole
    whole = 1 - norm.cdf(THRESHOLD, mode, right)
    return (norm.cdf(d, mode, right) - norm.cdf(THRESHOLD, mode, right)) / whole


def loop(codes, features, distances, ids):
    """The mean over pairs, summed over codes of one view and pseudo-similarities of another."""
    total, fitted, n = 0.0, law(distances), len(codes[0])
    for x, of_view in zip(features, ids, strict=True):
        for i, j in np.ndindex(n, n):
            d = 1 - x[i] @ x[j]
            similar = d <= THRESHOLD
            if similar != (of_view[i] == of_view[j]):
                continue
            for u in codes:
                h = np.tanh(np.stack([u[i], u[j]]))
                error = (h[0] @ h[1] / BITS - (1 if similar else -1)) ** 2
                total += confidence(d, *fitted) * error / n**2
    return total


def test_is_the_formula_over_two_epochs():
    """The distances and the members of clusters are those of both views and of all steps."""
    variables, distances, centers = begin(batch()), [], None
    for step in range(3):
        rows, codes = batch(seed=step), views(BITS, seed=30 + 2 * step)
        result = loss_of(variables, codes, rows, step == 2, step)
        u, x = jax.tree.map(lambda a: np.asarray(a, float)[KEPT], (list(codes), list(rows.inputs)))
        x = [unit(view) for view in x]
        if centers is None:
            noise = uniform_by_item(jax.random.key(0), rows.index, 1)[KEPT, 0]
            centers, members = x[0][np.argsort(noise)[:CLUSTERS]], []
        if step == 2:
            chosen = np.array([np.argmin(np.sum((centers - y) ** 2, 1)) for y in members])
            moved = [np.mean(np.array(members)[chosen == c], 0) for c in range(CLUSTERS)]
            assert np.abs(np.array(moved) - centers).max() > 0.1
            centers, members = np.array(moved), []
        ids = [[np.argmin(np.sum((centers - y) ** 2, 1)) for y in view] for view in x]
        members += [*x[0], *x[1]]
        for view in x:
            n = len(view)
            distances += [1 - view[i] @ view[j] for i, j in np.ndindex(n, n) if i != j]
        expected = loop(u, x, distances, ids)
        np.testing.assert_allclose(result.terms["cimon"], expected, rtol=1e-4)
        contrast = losses.nt_xent(*map(jnp.tanh, jnp.array(u, jnp.float32)), temperature=0.6)
        np.testing.assert_allclose(result.terms["cimon_contrast"], contrast, rtol=1e-5)
        np.testing.assert_allclose(result.value, expected + 0.4 * float(contrast), rtol=1e-4)
        np.testing.assert_allclose(result.state.clusters.centers, centers, rtol=1e-4, atol=1e-6)
        variables = variables._replace(state=result.state)


def test_contrast_by_hand():
    value = losses.nt_xent(jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 0.0]]), temperature=0.5)
    np.testing.assert_allclose(value, 1.34362, rtol=1e-5)


# Clusters


def test_an_epoch_of_batches_is_a_step_of_k_means():
    x = normal(40, 3)
    start = x[:4]
    nothing = Clusters(jnp.zeros((4, 3)), jnp.int32(0), jnp.zeros((4, 3)), jnp.zeros(4))
    found = fill(nothing, jnp.asarray(start), jnp.ones(4, bool), jnp.arange(4.0))
    np.testing.assert_array_equal(found.centers, start)
    for rows in np.split(x, 5):
        rows = jnp.asarray(rows)
        ids = nearest_center(found, rows)
        found = count_members(found, rows, ids, jnp.ones(8, bool))
    found = end_epoch(found, jnp.bool_(True))
    assert not found.sums.any() and not found.counts.any()
    exact = KMeans(4, init=start, n_init=1, max_iter=1, algorithm="lloyd").fit(x)
    np.testing.assert_array_equal(nearest_center(found, jnp.asarray(x)), exact.predict(x))
    np.testing.assert_allclose(found.centers, exact.cluster_centers_, rtol=1e-5, atol=1e-6)


def test_centers_are_drawn_until_all_are_there():
    """Five of two batches of three rows, padding not; a center without members stays."""
    clusters = Clusters(jnp.zeros((5, 2)), jnp.int32(0), jnp.zeros((5, 2)), jnp.zeros(5))
    rows, mask = jnp.asarray(normal(4, 2)), jnp.array([True, False, True, True])
    clusters = fill(clusters, rows, mask, jnp.array([0.5, 0.0, 0.1, 0.2]))
    np.testing.assert_array_equal(clusters.centers[:3], rows[jnp.array([2, 3, 0])])
    assert clusters.filled == 3
    far = jnp.full((1, 2), 1e3)
    assert nearest_center(clusters, -far)[0] < 3 and nearest_center(clusters, 0 * far)[0] < 3
    clusters = fill(clusters, 10 + rows, mask, jnp.array([0.5, 0.0, 0.1, 0.2]))
    np.testing.assert_array_equal(clusters.centers[3:], 10 + rows[jnp.array([2, 3])])
    assert clusters.filled == 5
    full = fill(clusters, 20 + rows, mask, jnp.zeros(4))
    jax.tree.map(np.testing.assert_array_equal, full, clusters)
    jax.tree.map(np.testing.assert_array_equal, end_epoch(full, jnp.bool_(True)), clusters)


# State


def test_memory_does_not_grow_with_the_images():
    few, many = (begin(batch(), items=items) for items in (ITEMS, 10**6))
    sizes = [[leaf.shape for leaf in jax.tree.leaves(each)] for each in (few, many)]
    assert sizes[0] == sizes[1]


def test_images_have_the_features_of_the_initial_model():
    """The features, given as vectors, make the same loss."""
    matrix = {"w": normal(6, 3, seed=5)}

    def encode(variables, inputs, *, return_features=False):
        assert return_features
        return inputs.reshape(len(inputs), -1) @ variables["w"]

    images = views(2, 3, 1, seed=40)
    vectors = tuple(encode(matrix, view, return_features=True) for view in images)
    codes = views(BITS, seed=50)
    rows = batch(images)
    begun = begin(rows, encode=encode, variables=matrix)
    found = jax.jit(lambda: METHOD.loss(begun, codes, rows, context(encode=encode)))()
    expected = loss_of(begin(batch(vectors)), codes, batch(vectors), False, 0)
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-5)
    np.testing.assert_array_equal(found.state.encoder["w"], matrix["w"])


def test_clusters_are_counted(unchecked):
    with pytest.raises(ValueError, match="clusters"):
        cimon(clusters=0)
