"""Values of --similarity, and the similarity of classes and items that they give."""

import dataclasses
import json

import numpy as np
import pytest

from jaxhash.data.load import load_source
from jaxhash.data.readers.class_similarity import read_class_similarity
from jaxhash.data.sources import Source
from jaxhash.utils.errors import UserError

LABELS = np.array([0, 1, 2, 0], np.int32)
SOURCE = Source("pets", np.zeros((4, 2), np.float32), LABELS, ("cat", "dog", "car"))
GROUPED = dataclasses.replace(SOURCE, coarse_labels=np.array([1, 1, 0, 1], np.int32))
TREE = "thing animal\nthing car\nanimal pet\npet cat\npet dog\n"


def test_classes_alone_say_nothing():
    assert read_class_similarity("classes", SOURCE) == (None, None, None)


def test_coarse_labels_are_one_level():
    known = read_class_similarity("coarse", GROUPED)
    assert known.distances.tolist() == [[0, 0.5, 1], [0.5, 0, 1], [1, 1, 0]]
    assert known.levels.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("name", ["tree.txt", "TREE.TXT"])
@pytest.mark.parametrize("by_id", [False, True])
def test_a_tree_of_the_classes_by_name_or_by_id(tmp_path, by_id, name):
    text = TREE.replace("cat", "0").replace("dog", "1").replace("car", "2") if by_id else TREE
    (tmp_path / name).write_text(text)
    known = read_class_similarity(name, SOURCE, tmp_path)
    np.testing.assert_allclose(
        known.distances, [[0, 1 / 3, 1], [1 / 3, 0, 1], [1, 1, 0]], rtol=1e-6
    )
    # The tree has heights 1 and 2 below its root, whose groups of classes are the same.
    assert len(known.levels) == 1
    cat, dog, car = known.levels[0]
    assert cat == dog != car


@pytest.mark.parametrize("name", ["e.npz", "E.NPZ"])
def test_embeddings_of_classes_are_distances(tmp_path, name):
    rows = np.array([[1, 0], [0, 2], [-3, 0]], np.float32)
    np.savez(tmp_path / "e.npz", embeddings=rows)
    (tmp_path / "e.npz").rename(tmp_path / name)
    known = read_class_similarity(name, SOURCE, tmp_path)
    np.testing.assert_allclose(
        known.distances, [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]], atol=1e-6
    )
    assert known.levels is None and known.embeddings is None


def test_embeddings_of_items_stay(tmp_path):
    rows = np.arange(8.0).reshape(4, 2)
    np.savez(tmp_path / "e.npz", embeddings=rows)
    known = read_class_similarity("e.npz", SOURCE, tmp_path)
    np.testing.assert_array_equal(known.embeddings, rows)
    assert known.distances is None


def test_features_are_embeddings_where_a_file_has_no_others(tmp_path):
    rows = np.arange(8.0).reshape(4, 2)
    np.savez(tmp_path / "f.npz", features=rows, labels=np.arange(4))
    np.testing.assert_array_equal(read_class_similarity("f.npz", SOURCE, tmp_path).embeddings, rows)
    np.savez(tmp_path / "both.npz", features=rows, embeddings=rows + 1)
    np.testing.assert_array_equal(
        read_class_similarity("both.npz", SOURCE, tmp_path).embeddings, rows + 1
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wordnet", "`similarity=wordnet`: expected 'classes', 'coarse', a tree FILE.txt"),
        ("none.txt", "`similarity=none.txt`: there is no file"),
        ("coarse", "`similarity=coarse`: pets has no coarse labels"),
        ("cycle.txt", "cycle.txt`: "),
        ("short.txt", "class 'dog' is not a node"),
        ("words.txt", "line 1"),
        ("whole.npz", "must be floats"),
        ("nan.npz", "not finite in float32"),
        ("five.npz", "there are 5 embeddings, for 4 items of 3 classes"),
        ("other.npz", "embeddings"),
    ],
)
def test_what_is_refused(tmp_path, name, says):
    (tmp_path / "cycle.txt").write_text("a b\nb a\n")
    (tmp_path / "short.txt").write_text("thing cat\n")
    (tmp_path / "words.txt").write_text("thing cat dog\n")
    np.savez(tmp_path / "whole.npz", embeddings=np.ones((3, 2), int))
    np.savez(tmp_path / "nan.npz", embeddings=np.full((3, 2), np.nan))
    np.savez(tmp_path / "five.npz", embeddings=np.ones((5, 2)))
    np.savez(tmp_path / "other.npz", rows=np.ones((3, 2)))
    with pytest.raises(UserError) as error:
        read_class_similarity(name, SOURCE, tmp_path)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_class_in_two_groups():
    torn = dataclasses.replace(GROUPED, coarse_labels=np.array([1, 1, 0, 0], np.int32))
    with pytest.raises(UserError, match="class 0 is in two groups"):
        read_class_similarity("coarse", torn)


def features(path, **arrays):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 40)
    vectors = np.eye(6)[labels] + 0.5 * rng.normal(size=(240, 6))
    np.savez(path, features=vectors.astype(np.float32), labels=labels, **arrays)


@pytest.mark.parametrize(
    "coarse", [np.zeros(3, int), np.zeros(240), np.full(240, -1)], ids=["few", "floats", "negative"]
)
def test_coarse_labels_of_a_file_that_are_none(tmp_path, coarse):
    features(tmp_path / "f.npz", coarse_labels=coarse)
    with pytest.raises(UserError, match="coarse_labels"):
        load_source("features:f.npz", tmp_path)


def test_a_run_with_coarse_labels_says_its_hierarchical_precision(tmp_path, output):
    features(tmp_path / "f.npz", coarse_labels=np.repeat([0, 0, 0, 1, 1, 1], 40))
    said = output(
        "train", "cifar100-features-shred", "--protocol", "per-class", "--dataset", "features:f.npz", "--data-dir", str(tmp_path),
        "--similarity", "coarse", "--run-dir", str(tmp_path / "run"), "--bits", "8", "--epochs", "2",
        "--queries-per-class", "5", "--train-per-class", "20", "--batch-size", "40",
    )  # fmt: skip
    assert "mAHP@250" in said and "among" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for name in ("mahp_at_250", "mahp_at_250_among_queries", "mahp_at_2500"):
        assert 0 < results[name] <= 1
        assert name in results["conventions"]
        assert 0 < results["baselines"]["pca-rotation"][name] <= 1
