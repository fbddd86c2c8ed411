"""Graphs of nearest neighbors and propagated labels, beside dense matrices of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.ops import affinity
from jaxhash.ops.affinity import (
    Affinity,
    affinity_product,
    certainty,
    knn_affinity,
    nearest_rows,
    propagate_labels,
)

#: A chain of four rows with weights 1, 1/2, 1, whose first and last row are labeled.
CHAIN = Affinity(jnp.array([[1], [2], [3], [3]]), jnp.array([[1.0], [0.5], [1.0], [0.0]]))
ENDS = jnp.eye(4)[:, jnp.array([0, 3])]


def dense(graph):
    """The matrix W = A + A^T."""
    found, weights = map(np.asarray, graph)
    matrix = np.zeros((len(found), len(found)))
    for row, (columns, values) in enumerate(zip(found, weights, strict=True)):
        for column, value in zip(columns, values, strict=True):
            matrix[row, column] += value
    return matrix + matrix.T


def solution(matrix, seeds, alpha):
    degree = matrix.sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
    system = np.eye(len(matrix)) - alpha * scale[:, None] * matrix * scale
    return np.linalg.solve(system, np.asarray(seeds, float))


def shares(scores):
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("alpha", "rows"),
    [
        (0.5, [(0.96667, 0.03333), (0.83333, 0.16667)]),
        (0.99, [(0.52435, 0.47565), (0.51227, 0.48773)]),
    ],
)
def test_a_chain_by_hand(alpha, rows):
    found = shares(propagate_labels(CHAIN, ENDS, alpha=alpha))
    np.testing.assert_allclose(found[:2], rows, atol=1e-5)
    np.testing.assert_allclose(found[2:], found[1::-1, ::-1], atol=1e-6)  # the chain reversed


def random_graph(rows=30, neighbors=4):
    x = np.random.default_rng(0).normal(size=(rows, 6)).astype(np.float32)
    found = nearest_rows(
        jnp.asarray(x), jnp.asarray(x), jnp.arange(rows), jnp.ones(rows, bool), neighbors=neighbors
    )
    return x, found, knn_affinity(*found)


def test_neighbors_are_those_of_a_loop(monkeypatch):
    monkeypatch.setattr(affinity, "_BLOCK_SIZE", 70)  # two rows of thirty at a time
    x, (found, cosines), graph = random_graph()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for row in range(len(x)):
        own = unit @ unit[row]
        own[row] = -np.inf
        nearest = np.argsort(-own)[:4]
        np.testing.assert_array_equal(found[row], nearest)
        np.testing.assert_allclose(cosines[row], own[nearest], rtol=1e-5)
        np.testing.assert_allclose(graph.weights[row], own[nearest].clip(0) ** 3, rtol=1e-4)


def test_products_and_propagation_are_those_of_the_matrix():
    _, _, graph = random_graph()
    values = np.random.default_rng(1).normal(size=30).astype(np.float32)
    found = affinity_product(graph, jnp.asarray(values))
    np.testing.assert_allclose(found, dense(graph) @ values, rtol=1e-4)
    seeds = np.zeros((30, 3), np.float32)
    seeds[[0, 5, 9], [0, 1, 2]] = 1
    found = propagate_labels(graph, jnp.asarray(seeds), alpha=0.9, iterations=60)
    expected = solution(dense(graph), seeds, 0.9).clip(0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_masked_rows_are_nobodys_neighbors_and_lonely_rows_keep_their_seed():
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    where = np.arange(9) < 6
    found, cosines = nearest_rows(
        jnp.asarray(x), jnp.asarray(np.where(where[:, None], x, np.nan)), jnp.arange(9),
        jnp.asarray(where), neighbors=7,
    )  # fmt: skip
    valid = np.isfinite(cosines)
    assert valid[:6].sum(axis=1).tolist() == [5] * 6  # five others
    assert (np.asarray(found)[valid] < 6).all()
    graph = Affinity(jnp.zeros((3, 2), int), jnp.zeros((3, 2)))
    np.testing.assert_array_equal(propagate_labels(graph, jnp.eye(3)), np.eye(3))


def test_a_permutation_of_the_rows_permutes_the_scores():
    x, _, graph = random_graph()
    order = np.random.default_rng(2).permutation(30)
    seeds = np.eye(3, dtype=np.float32)[np.arange(30) % 3] * (np.arange(30)[:, None] < 6)
    moved = jnp.asarray(x[order])
    found = nearest_rows(moved, moved, jnp.arange(30), jnp.ones(30, bool), neighbors=4)
    expected = propagate_labels(graph, jnp.asarray(seeds))[order]
    again = propagate_labels(knn_affinity(*found), jnp.asarray(seeds[order]))
    np.testing.assert_allclose(again, expected, rtol=1e-3, atol=1e-5)


def test_certainty_is_one_less_the_relative_entropy():
    scores = jnp.array([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [0.0, 5.0, 0.0]])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    expected = [1 - entropy / np.log(3), 0, 0, 1]
    np.testing.assert_allclose(certainty(scores), expected, atol=1e-6)
    assert np.isfinite(jax.jit(certainty)(jnp.zeros((2, 1)))).all()


def test_rows_that_point_away_are_not_similar():
    graph = knn_affinity(jnp.array([[1], [0]]), jnp.array([[-0.5], [0.5]]))
    np.testing.assert_array_equal(graph.weights, [[0.0], [0.125]])
