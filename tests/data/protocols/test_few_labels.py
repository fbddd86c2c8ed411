"""The few training items whose labels are known: the draw, the digest, and what a training sees."""

import dataclasses

import numpy as np
import pytest

from jaxhash.data.protocols import with_labeled
from jaxhash.data.splits import Split
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.similarity import has_label
from jaxhash.utils.errors import UserError

LABELS = np.arange(120) % 4
SPLIT = Split("small", np.arange(80)[::-1], np.arange(80, 90), np.arange(90, 120))


def test_each_class_has_as_many_labels_and_the_seed_decides_which():
    few = with_labeled(SPLIT, LABELS, 3, seed=0)
    assert np.bincount(LABELS[few.labeled]).tolist() == [3] * 4
    assert np.isin(few.labeled, SPLIT.train).all()
    assert few.name == "small-labeled3-seed0"
    np.testing.assert_array_equal(few.labeled, with_labeled(SPLIT, LABELS, 3, seed=0).labeled)
    assert not np.array_equal(few.labeled, with_labeled(SPLIT, LABELS, 3, seed=1).labeled)


def test_items_of_several_classes_keep_all_their_labels():
    rows = np.eye(4, dtype=np.int8)[LABELS]
    rows[::5, 0] = 1
    few = with_labeled(SPLIT, rows, 2, seed=0)
    assert len(few.labeled) == 8
    seen = few.training_labels(rows)
    np.testing.assert_array_equal(np.flatnonzero(has_label(seen[:80])), few.labeled)
    np.testing.assert_array_equal(seen[few.labeled], rows[few.labeled])
    np.testing.assert_array_equal(seen[80:], rows[80:])


def test_the_training_sees_no_other_label_and_the_rest_keeps_its_own():
    few = with_labeled(SPLIT, LABELS, 3, seed=0)
    seen = few.training_labels(LABELS)
    assert np.count_nonzero(seen[:80] >= 0) == 12 and (seen[80:] == LABELS[80:]).all()
    np.testing.assert_array_equal(seen[few.labeled], LABELS[few.labeled])
    assert SPLIT.training_labels(LABELS) is LABELS


def test_the_digest_tells_the_draws_apart_and_is_the_old_one_without_them():
    digests = {with_labeled(SPLIT, LABELS, n, seed=seed).sha256 for n in (3, 4) for seed in (0, 1)}
    assert len(digests | {SPLIT.sha256}) == 5
    labeled = dataclasses.replace(SPLIT, labeled=np.arange(4))
    validated = dataclasses.replace(SPLIT, validation=np.arange(4))
    assert labeled.sha256 != validated.sha256
    assert SPLIT.sha256 == dataclasses.replace(labeled, labeled=None).sha256


def test_a_class_with_too_few_items_is_named():
    labels = np.where((LABELS == 1) & (np.arange(120) > 20), 0, LABELS)
    with pytest.raises(UserError, match=r"class dog \(1\) has 5 training .*labeled_per_class=6"):
        with_labeled(SPLIT, labels, 6, seed=0, class_names=["cat", "dog", "hen", "owl"])


# In a training


@pytest.fixture
def config(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(120, 8)) + 3 * np.eye(4, 8)[LABELS]
    np.savez(tmp_path / "f.npz", features=vectors.astype("f4"), labels=LABELS)
    return Config().replace(
        dataset="features:f.npz", data_dir=tmp_path, protocol="per-class", queries_per_class=2,
        train_per_class=12, model="linear", bits=8, epochs=1, batch_size=48,
    )  # fmt: skip


def labels_seen(experiment):
    batch = next(experiment.batches())
    return batch.labels[batch.mask], batch.index[batch.mask]


def test_batches_hold_the_known_labels_and_the_evaluation_all(config):
    experiment = Experiment.open(config.replace(labeled_per_class=2))
    labels, index = labels_seen(experiment)
    items = experiment.split.train[index]
    known = np.isin(items, experiment.split.labeled)
    assert known.sum() == 8
    np.testing.assert_array_equal(labels, np.where(known, experiment.source.labels[items], -1))
    assert (experiment.source.labels >= 0).all()
    assert experiment.split.sha256 != Experiment.open(config).split.sha256
    assert "8 of the 48 training items are known" in " ".join(experiment.findings.notes)


def test_validation_items_are_drawn_first_and_keep_their_labels(config):
    both = Experiment.open(config.replace(labeled_per_class=2, validation=0.25))
    alone = Experiment.open(config.replace(validation=0.25))
    np.testing.assert_array_equal(both.split.validation, alone.split.validation)
    assert np.isin(both.split.labeled, both.split.train).all()
    assert has_label(both.training_labels[both.split.validation]).all()
