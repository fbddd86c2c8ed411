"""Hierarchical scores of codes and of vectors: a loop over queries, and each other."""

import numpy as np
import pytest

from jaxhash.ops.codes import binarize
from jaxhash.retrieval import vectors
from jaxhash.retrieval.score_hierarchy import (
    HIERARCHY_CONVENTIONS,
    embedding_similarity,
    score_hierarchy,
    score_hierarchy_of_vectors,
)

TABLE = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.0]])
RNG = np.random.default_rng(5)
QUERY, DATABASE = RNG.normal(size=(7, 4)), RNG.normal(size=(300, 4))
LABELS, OTHERS = np.arange(7) % 3, RNG.integers(3, size=300)
#: Of the queries and of the items; that of the last query is similar to nothing.
MEANINGS = RNG.normal(size=(307, 3)) * (np.arange(307) != 6)[:, None]


def naive_ahp(distance, similarity, k, form):
    """In expectation over ties: an item has the mean similarity of the items as far away."""
    ranked = np.concatenate(
        [
            np.full((distance == d).sum(), similarity[distance == d].mean())
            for d in np.unique(distance)
        ]
    )
    k = min(k, len(ranked))
    ideal = np.cumsum(np.sort(similarity)[::-1])[:k]
    hp = np.cumsum(ranked)[:k] / np.where(ideal > 0, ideal, 1)
    return (hp.sum() - (hp[0] + hp[-1]) / 2 * (form == "trapezoid")) / k


def naive_scores(distance, among, similarity, similarity_among):
    """All scores, from the distances and similarities of queries and items, and among queries."""
    queries = range(len(distance))
    return {
        "mahp_at_250": np.mean(
            [naive_ahp(distance[i], similarity[i], 250, "trapezoid") for i in queries]
        ),
        "mahp_at_250_among_queries": np.mean(
            [
                naive_ahp(
                    np.delete(among[i], i), np.delete(similarity_among[i], i), 250, "trapezoid"
                )
                for i in queries
            ]
        ),
        "mahp_at_2500": np.mean(
            [naive_ahp(distance[i], similarity[i], 2500, "mean") for i in queries]
        ),
    }


def hamming(rows, columns):
    return (binarize(rows)[:, None] != binarize(columns)).sum(axis=2)


def of_classes(rows, columns):
    return TABLE[rows][:, columns]


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr("jaxhash.retrieval.score_hierarchy._QUERIES", 3)
    monkeypatch.setattr(vectors, "_QUERIES", 3)


def test_scores_of_codes_are_naive_ones():
    found = score_hierarchy(QUERY, LABELS, DATABASE, OTHERS, TABLE)
    expected = naive_scores(
        hamming(QUERY, DATABASE),
        hamming(QUERY, QUERY),
        of_classes(LABELS, OTHERS),
        of_classes(LABELS, LABELS),
    )
    assert found == pytest.approx(expected)
    assert found.keys() == HIERARCHY_CONVENTIONS.keys()


def test_signs_rank_as_their_codes():
    """By inner products, of which many are the same."""
    sides = binarize(QUERY), LABELS, binarize(DATABASE), OTHERS
    expected = score_hierarchy(QUERY, LABELS, DATABASE, OTHERS, TABLE)
    assert score_hierarchy_of_vectors(*sides, of_classes) == pytest.approx(expected)


def test_scores_of_vectors_by_embeddings_are_naive_ones():
    unit = MEANINGS / np.maximum(np.linalg.norm(MEANINGS, axis=1, keepdims=True), 1e-9)
    queries, items = unit[:7], unit[7:]
    found = score_hierarchy_of_vectors(QUERY, queries, DATABASE, items, embedding_similarity)

    def cosine(rows, columns):
        size = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(columns, axis=1)
        return np.maximum(np.divide(rows @ columns.T, size, where=size > 0, out=size * 0), 0)

    expected = naive_scores(
        -QUERY @ DATABASE.T,
        -QUERY @ QUERY.T,
        cosine(queries, items),
        cosine(queries, queries),
    )
    assert found == pytest.approx(expected, rel=1e-5)
    assert found["mahp_at_250"] < 1


def test_one_query_has_nobody_to_search_among():
    for score, similarity in ((score_hierarchy, TABLE), (score_hierarchy_of_vectors, of_classes)):
        found = score(QUERY[:1], LABELS[:1], DATABASE, OTHERS, similarity)
        assert found.keys() == HIERARCHY_CONVENTIONS.keys() - {"mahp_at_250_among_queries"}
