"""The likelihood of words and the pairs of documents, against loops straight from the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash import losses

RNG = np.random.default_rng(0)
CODES = jnp.asarray(RNG.random((9, 4)), jnp.float32)
IDS = np.array([0, 1, 2, 0, 1, 0, 2, 2, 0])
ONE_HOT = np.eye(3, dtype=np.uint8)[IDS]
SEVERAL = np.maximum(ONE_HOT, (RNG.random((9, 3)) < 0.3).astype(np.uint8))


def loop_over_pairs(codes, labels, rows):
    total = 0.0
    for i in rows:
        for j in rows:
            cosine = labels[i] @ labels[j] / np.sqrt(labels[i].sum() * labels[j].sum())
            total += (2 * cosine - 1) * ((codes[i] - codes[j]) ** 2).sum()
    return total / len(rows) ** 2


@pytest.mark.parametrize("labels", [ONE_HOT, SEVERAL], ids=["one label", "several"])
def test_pairs_against_a_loop(labels):
    labels = labels.astype(float)
    rows = range(len(CODES))
    expected = loop_over_pairs(np.asarray(CODES, float), labels, rows)
    np.testing.assert_allclose(losses.psh_pairs(CODES, labels), expected, rtol=1e-5)
    where = np.arange(9) % 3 != 1
    expected = loop_over_pairs(np.asarray(CODES, float), labels, np.flatnonzero(where))
    found = losses.psh_pairs(CODES, labels, where=where)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pairs_by_hand():
    """Two documents of one class at distance 4, and a third at distances 1 and 1 of another."""
    codes = jnp.array([[0.0], [2.0], [1.0]])
    labels = np.eye(2)[[0, 0, 1]]
    assert losses.psh_pairs(codes, labels) == pytest.approx(2 * (4 - 1 - 1) / 9)


def test_labels_of_the_paper_not_of_its_code():
    """Other labels of the same frequencies have another value; in the released code they do not."""
    order = np.roll(np.arange(9), 1)
    assert losses.psh_pairs(CODES, ONE_HOT) != pytest.approx(
        float(losses.psh_pairs(CODES, ONE_HOT[order])), rel=1e-3
    )


def test_documents_without_a_label_are_in_no_pair():
    labels = ONE_HOT.copy()
    labels[[2, 5]] = 0
    kept = np.delete(np.arange(9), [2, 5])
    expected = losses.psh_pairs(CODES[kept], labels[kept])
    np.testing.assert_allclose(losses.psh_pairs(CODES, labels), expected, rtol=1e-5)


def test_pairs_far_from_the_origin():
    """Distances do not depend on the origin, nor may their rounding."""
    far = losses.psh_pairs(CODES + 1000.0, ONE_HOT)
    np.testing.assert_allclose(far, losses.psh_pairs(CODES, ONE_HOT), rtol=1e-3)


def test_words_against_a_loop():
    logits, counts = RNG.normal(size=(5, 7)), RNG.poisson(0.7, (5, 7)).astype(float)
    counts[3] = 0
    expected = 0.0
    for row, words in zip(logits, counts, strict=True):
        for word, count in enumerate(words):
            expected -= count * np.log(np.exp(row[word]) / np.exp(row).sum()) / 5
    found = losses.word_nll(jnp.asarray(logits, jnp.float32), counts.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients():
    counts = RNG.poisson(0.7, (9, 4)).astype(np.float32)
    check_grads(lambda x: losses.word_nll(jnp.asarray(x), counts), (CODES,), 1, ["rev"])
    check_grads(lambda x: losses.psh_pairs(jnp.asarray(x), SEVERAL), (CODES,), 1, ["rev"])


@pytest.mark.parametrize("loss", ["words", "pairs"])
def test_order_of_the_batch_does_not_matter(loss):
    order = RNG.permutation(9)
    if loss == "words":
        counts = RNG.poisson(0.7, (9, 4)).astype(np.float32)
        values = [losses.word_nll(CODES[o], counts[o]) for o in (slice(None), order)]
    else:
        values = [losses.psh_pairs(CODES[o], SEVERAL[o]) for o in (slice(None), order)]
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_negative_counts_are_refused(unchecked):
    with pytest.raises(ValueError, match="counts"):
        losses.word_nll(jnp.zeros((1, 2)), np.array([[1.0, -1.0]], np.float32))
    with pytest.raises(TypeError, match="counts"):
        losses.word_nll(jnp.zeros((1, 2)), np.array([[1, 1]]))
    assert jax.jit(losses.word_nll)(jnp.zeros((1, 2)), jnp.ones((1, 2))) > 0
