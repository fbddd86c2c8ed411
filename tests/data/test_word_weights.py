"""Weights of words: scikit-learn's numbers, the training documents alone, and what is stored."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import TfidfTransformer

from jaxhash.data.input_form import InputForm, measure_inputs
from jaxhash.data.inputs.prepare import prepare_vectors
from jaxhash.data.readers.counts import CountRows
from jaxhash.data.word_weights import WordWeights
from jaxhash.utils.errors import UserError

WORDS = tuple(f"w{number}" for number in range(30))
COUNTS = np.random.default_rng(0).poisson(0.3, (40, 30)).astype(np.float32)
COUNTS[3] = 0
ROWS = CountRows(scipy.sparse.csr_matrix(COUNTS), WORDS)
TRAIN = np.arange(0, 40, 2)


def sklearn_rows():
    transformer = TfidfTransformer(sublinear_tf=True).fit(COUNTS[TRAIN])
    return transformer.transform(COUNTS).toarray()


def test_weights_are_those_of_scikit_learn_by_the_training_documents():
    weights = ROWS.weights(TRAIN)
    np.testing.assert_allclose(weights.apply(COUNTS), sklearn_rows(), rtol=1e-6, atol=0)
    np.testing.assert_allclose(weights.apply(jnp.asarray(COUNTS)), sklearn_rows(), rtol=2e-6)
    assert not weights.apply(COUNTS)[3].any()


def test_a_model_takes_tfidf_rows_of_root_mean_square_1():
    form = measure_inputs(ROWS, TRAIN)
    prepared = form.prepare(ROWS)
    size = np.sqrt(np.square(sklearn_rows()[TRAIN]).mean())
    np.testing.assert_allclose(prepared[np.arange(40)], sklearn_rows() / size, rtol=2e-6)
    np.testing.assert_allclose(prepared[5], sklearn_rows()[5] / size, rtol=2e-6)
    assert form.most == COUNTS[TRAIN].max()


def test_what_is_stored_gives_the_same_rows():
    form = measure_inputs(ROWS, TRAIN)
    stored = InputForm.from_json(json.loads(json.dumps(form.to_json())))
    assert stored == form
    np.testing.assert_array_equal(stored.prepare(ROWS)[:4], form.prepare(ROWS)[:4])


def test_the_form_of_vectors_is_stored_as_before():
    form = measure_inputs(COUNTS, TRAIN)
    assert "words" not in form.to_json() and InputForm.from_json(form.to_json()) == form


@pytest.mark.parametrize(
    "change",
    [
        {"documents": 1.5},
        {"documents": 1},
        {"frequencies": [1]},
        {"frequencies": "many"},
        {"vocabulary": ["a"]},
        {"vocabulary": None},
        {"more": 1},
    ],
)
def test_damaged_weights_are_refused(change):
    content = measure_inputs(ROWS, TRAIN).to_json()
    content["words"] = content["words"] | change
    with pytest.raises(ValueError, match="word weights"):
        InputForm.from_json(content)


def test_weights_of_another_number_of_words_are_refused():
    content = measure_inputs(ROWS, TRAIN).to_json()
    content["words"] = WordWeights(2, (1, 2), ("a", "b")).to_json()
    with pytest.raises(ValueError, match="shape"):
        InputForm.from_json(content)


def test_counts_of_other_words_are_refused():
    form = measure_inputs(ROWS, TRAIN)
    form.check(ROWS, "these", {})
    form.check(COUNTS, "these", {})
    swapped = CountRows(ROWS.matrix, (*WORDS[:-2], "w29", "w28"))
    with pytest.raises(UserError, match="'w28' in column 28"):
        form.check(swapped, "these", {})
    with pytest.raises(UserError, match="3 dimensions"):
        form.check(CountRows(ROWS.matrix[:, :3], WORDS[:3]), "these", {})
    with pytest.raises(UserError, match="word counts"):
        dataclasses.replace(form, words=None).check(ROWS, "these", {})


def test_negative_counts_are_refused():
    form = measure_inputs(ROWS, TRAIN)
    with pytest.raises(UserError, match="least"):
        prepare_vectors(-COUNTS, form)


def test_training_documents_without_words_are_refused():
    with pytest.raises(UserError, match="has a word"):
        measure_inputs(ROWS, np.array([3]))
