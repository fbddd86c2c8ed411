"""Codes of a class index: a code for each class, and nothing else."""

import numpy as np

from jaxhash.retrieval.baselines.class_index import class_index, class_index_from_predictor


def test_class_index_has_a_code_for_each_class():
    """Three clusters, of which ridge regression makes no mistake; the ids have gaps."""
    rng = np.random.default_rng(0)
    labels = np.array([1, 4, 6])[np.arange(90) % 3]
    features = np.eye(7)[labels] + rng.normal(scale=0.05, size=(90, 7))
    codes = class_index(features, labels, 16)(features)
    assert set(np.unique(codes)) == {-1, 1} and codes.dtype == np.float32
    same = (codes[:, None] == codes).all(axis=2)
    np.testing.assert_array_equal(same, labels[:, None] == labels)
    np.testing.assert_array_equal(class_index(features, labels, 16)(features), codes)
    assert (class_index(features, labels, 16, seed=1)(features) != codes).any()


def test_class_index_of_one_class_is_its_code():
    codes = class_index(np.eye(5), np.full(5, 3), 8)(np.eye(5)[:2])
    assert codes.shape == (2, 8) and (codes[0] == codes[1]).all()


def test_codes_of_classes_are_fair_bits():
    codes = class_index_from_predictor(lambda rows: rows, np.array([999]), 64)(np.arange(1000))
    assert len(np.unique(codes, axis=0)) == 1000
    assert abs(codes.mean()) < 4 / np.sqrt(codes.size)
