"""Re-ranked codes: the nearest by Hamming distance in the order of their cosines, the rest behind them."""

import numpy as np
import pytest

from jaxhash.retrieval.baselines import reranking
from jaxhash.retrieval.baselines.reranking import num_reranked, reranked_similarities

RNG = np.random.default_rng(0)
QUERY, DATABASE = (RNG.normal(size=(n, 6)).astype(np.float32) for n in (9, 200))
PROJECTION = RNG.normal(size=(6, 70)).astype(np.float32)  # codes of more than one word


@pytest.mark.parametrize("bits", [3, 70])
@pytest.mark.parametrize("memory_bytes", [2**30, 2**14])
def test_ranking_is_that_of_brute_force(bits, memory_bytes, monkeypatch):
    monkeypatch.setattr(reranking, "RERANKED", 15)

    def hash_function(rows):
        return rows @ PROJECTION[:, :bits]

    blocks = reranked_similarities(
        QUERY, DATABASE, hash_function=hash_function, memory_bytes=memory_bytes
    )
    rows, scores = (np.concatenate(each) for each in zip(*blocks, strict=True))
    assert rows.tolist() == list(range(9))
    for query, found in zip(QUERY, scores, strict=True):
        distances = ((hash_function(query) >= 0) != (hash_function(DATABASE) >= 0)).sum(axis=1)
        cosines = DATABASE @ query / np.linalg.norm(query) / np.linalg.norm(DATABASE, axis=1)
        near = distances <= np.sort(distances)[14]
        assert near.sum() >= 15
        np.testing.assert_allclose(found[near], cosines[near], atol=1e-6)
        assert found[~near].max() < -1
        np.testing.assert_array_equal(
            np.argsort(-found[~near], kind="stable"), np.argsort(distances[~near], kind="stable")
        )
        ties = distances[~near][:, None] == distances[~near]
        np.testing.assert_array_equal(found[~near][:, None] == found[~near], ties)


def test_number_of_items_that_are_ranked_again():
    assert [num_reranked(n) for n in (1, 9, 20, 9_999, 10**6)] == [1, 1, 2, 999, 1000]
