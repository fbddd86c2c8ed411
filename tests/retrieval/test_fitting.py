"""Hash functions that are fitted without labels: of vectors, of inputs, and of images by a backbone."""

import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from jaxhash import models
from jaxhash.data.inputs import open_inputs
from jaxhash.models.config import ModelConfig
from jaxhash.retrieval import fit, fitting
from jaxhash.retrieval.archive import load_archive
from jaxhash.retrieval.baselines.labeled_hashes import LABELED_METHODS, fit_labeled_hashes
from jaxhash.retrieval.baselines.linear_hashes import METHODS, fit_linear_hashes
from jaxhash.retrieval.fitting import FitOptions, fit_inputs
from jaxhash.utils.errors import UserError

RNG = np.random.default_rng(0)
VECTORS = (RNG.normal(size=(400, 12)) * np.linspace(0.3, 3, 12) + 1).astype(np.float32)
LABELS = (np.arange(400) * 7 % 5 - 1).astype(np.int32)
QUIET = Console(file=io.StringIO())


def unpacked(codes, bits):
    return np.unpackbits(codes, axis=1, count=bits).astype(bool)


@pytest.mark.parametrize("method", METHODS)
def test_codes_are_those_of_the_linear_function(method):
    hasher = fit(VECTORS, method, 10, seed=3)
    linear = fit_linear_hashes(VECTORS, [method], 10, seed=3)[method]
    unit = VECTORS.astype(np.float64) / np.linalg.norm(VECTORS.astype(np.float64), axis=1)[:, None]
    values = (unit - linear.mean) @ linear.projection
    sure = np.abs(values) > 1e-4
    assert sure.mean() > 0.99 and hasher.bits == 10
    found = unpacked(hasher.encode(VECTORS), 10)
    np.testing.assert_array_equal(found[sure], values[sure] >= 0)
    np.testing.assert_allclose(hasher.encode_floats(VECTORS), values, atol=1e-5)
    np.testing.assert_array_equal(hasher.encode(1024 * VECTORS), hasher.encode(VECTORS))


@pytest.mark.parametrize("method", LABELED_METHODS)
def test_codes_by_labels_are_those_of_the_linear_function(method, tmp_path):
    hasher = fit(VECTORS, method, 10, labels=LABELS, seed=3)
    linear = fit_labeled_hashes(VECTORS, LABELS, [method], 10, seed=3)[method]
    np.testing.assert_allclose(hasher.encode_floats(VECTORS), linear(VECTORS), atol=1e-5)
    hasher.save(tmp_path)
    assert load_archive(tmp_path).digest == hasher.digest
    few = fit(VECTORS, method, 10, labels=LABELS, fit_items=100)
    assert few.made_by["fitted_items"] == 100


def test_a_sample_with_labels_is_no_regular_one(tmp_path):
    """Classes that alternate: every fourth item would be of one class."""
    labels = np.arange(400) % 4
    vectors = VECTORS + 6 * np.eye(12, dtype=np.float32)[labels]
    codes = fit(vectors, "cca-itq", 8, labels=labels, fit_items=100).encode(vectors)
    assert all((codes[labels == a] != codes[labels == b]).any() for a in range(4) for b in range(a))
    assert len(np.unique(codes)) > 3
    np.savez(tmp_path / "v.npz", features=vectors, labels=labels)
    options, said = FitOptions("cca-itq", 8, fit_items=100), Console(file=io.StringIO())
    found = fit_inputs(read(tmp_path, "v.npz"), options, None, said, made_by={})
    assert found.digest == fit(vectors, "cca-itq", 8, labels=labels, fit_items=100).digest
    assert "classes" not in said.file.getvalue()
    np.savez(tmp_path / "w.npz", features=vectors, labels=np.arange(400))
    fit_inputs(read(tmp_path, "w.npz"), options, None, said, made_by={})
    assert "100 of the 400 classes" in said.file.getvalue()


@pytest.mark.parametrize("kind", ["ids", "names", "several", "parquet"])
def test_labels_are_read_with_the_inputs(kind, tmp_path, monkeypatch):
    """By block; a name stands for each class, and items may have none, one or several."""
    monkeypatch.setattr("jaxhash.data.rows.BLOCK_BYTES", 4 * 12 * 30)
    broken = VECTORS.copy()
    broken[7] = np.nan
    hot = (np.arange(400)[:, None] % np.array([2, 3, 5, 7]) == 0).astype(np.uint8)
    labels = hot if kind == "several" else LABELS
    arrays = {"labels": labels}
    if kind == "names":  # their order is that of the ids
        arrays["class_names"] = np.array(["ant", "bee", "cat", "dog"])
    if kind == "parquet":
        column = [None if label < 0 else str(label) for label in LABELS]
        pq.write_table(pa.table({"vector": list(broken), "label": column}), tmp_path / "v.parquet")
    else:
        np.savez(tmp_path / "v.npz", features=broken, **arrays)
    options, name = FitOptions("cca-itq", 6), "v.parquet" if kind == "parquet" else "v.npz"
    inputs = read(tmp_path, name)
    found = fit_inputs(inputs, options, None, QUIET, made_by={})
    kept = np.arange(400) != 7
    assert found.digest == fit(VECTORS[kept], "cca-itq", 6, labels=labels[kept]).digest


def test_labels_that_are_missing_or_not_taken(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    options = FitOptions("cca-itq", 6)
    with pytest.raises(UserError, match="cca-itq takes labels, and .*v.npy has none"):
        fit_inputs(read(tmp_path, "v.npy"), options, None, QUIET, made_by={})
    np.savez(tmp_path / "one.npz", features=VECTORS, labels=np.full(400, 3))
    with pytest.raises(
        UserError, match="two classes at least, and the 400 items of .*one.npz .* one, '3'"
    ):
        fit_inputs(read(tmp_path, "one.npz"), options, None, QUIET, made_by={})
    for options, words in [
        ({"method": "cca-itq"}, "cca-itq takes `labels`"),
        (
            {"method": "itq", "labels": LABELS},
            "`labels` are not taken by itq; cca-itq and lda-itq do",
        ),
        ({"method": "lda-itq", "labels": LABELS[1:]}, "those of the 400 vectors, got 399"),
        ({"method": "lda-itq", "labels": np.ones(400)}, "`labels`"),
        ({"method": "lda-itq", "labels": np.full(400, -2)}, "`labels`"),
        ({"method": "lda-itq", "labels": np.ones((400, 2), int)}, "one label each"),
    ]:
        with pytest.raises(UserError, match=words):
            fit(VECTORS, **options)


def test_a_hash_function_is_saved_and_fitted_again_to_the_same_bits(tmp_path):
    hasher = fit(VECTORS, "itq", 24)
    hasher.save(tmp_path)
    assert load_archive(tmp_path).digest == hasher.digest == fit(VECTORS, "itq", 24).digest
    assert fit(VECTORS, "itq", 24, seed=1).digest != hasher.digest
    assert fit(np.asfortranarray(VECTORS.astype(np.float64)), "itq", 24).digest == hasher.digest


def test_few_items_are_evenly_spaced():
    assert fit(VECTORS, fit_items=130).digest == fit(VECTORS[::4]).digest
    assert fit(VECTORS, fit_items=130).made_by["fitted_items"] == 100
    wide = np.broadcast_to(VECTORS[:, :1], (400, 12000)) + RNG.normal(size=(400, 12000))
    assert fit(wide, "random", 8, memory_bytes=2**24).made_by["fitted_items"] == 80


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "lsh"}, "`method` must be one of itq, pca-rotation, random, pca-sign"),
        ({"bits": 0}, "`bits` must be at least 1"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"fit_items": 1}, "`fit_items` must be at least 2"),
        ({"method": "pca-sign", "bits": 13}, "`bits` must be at most 12 for these 400"),
        ({"bits": 10**5, "memory_bytes": 2**24}, "`memory_bytes` allows 16 MiB"),
    ],
)
def test_arguments_that_are_not_allowed(options, words):
    with pytest.raises(UserError) as caught:
        fit(VECTORS, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.zeros((0, 3), np.float32), "`vectors` must be numbers"),
        (np.zeros(3, np.float32), "`vectors` must be numbers"),
        (np.array([["a", "b"]]), "`vectors` must be numbers"),
        (np.array([[1, 2], [3, np.nan], [5, 6]], np.float32), "row 1 is not finite"),
        (VECTORS[:1], "all the same"),
        (np.zeros((9, 3), np.float32), "all the same"),
        (np.outer(np.arange(1, 9), [1.0, 2, 3]).astype(np.float32), "all the same at length 1"),
    ],
)
@pytest.mark.parametrize("method", ["itq", "random"])
def test_vectors_that_cannot_be_fitted_to(vectors, words, method):
    with pytest.raises(UserError) as caught:
        fit(vectors, method, 4)
    assert words in str(caught.value)


def test_zero_vectors_among_others_and_one_direction_have_codes():
    vectors = np.concatenate([np.zeros((3, 12), np.float32), VECTORS])
    codes = fit(vectors, bits=16).encode(vectors)
    assert (codes[:3] == codes[0]).all() and len(np.unique(codes, axis=0)) > 100
    two = np.tile(np.float32([[1, 0, 0], [0, 1, 0]]), (5, 1))
    codes = unpacked(fit(two, bits=40).encode(two), 40)
    assert (codes[::2] == codes[0]).all() and (codes[1::2] == ~codes[0]).all()


def read(tmp_path, *names):
    return open_inputs([tmp_path / name for name in names], root=tmp_path).inputs


def test_inputs_are_read_as_the_array_and_broken_rows_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxhash.data.rows.BLOCK_BYTES", 4 * 12 * 30)
    np.save(tmp_path / "a.npy", VECTORS[:150])
    np.save(tmp_path / "b.npy", VECTORS[150:].astype(np.float64))
    options = FitOptions(bits=16)
    found = fit_inputs(read(tmp_path, "a.npy", "b.npy"), options, None, QUIET, made_by={"x": 1})
    assert found.digest == fit(VECTORS, bits=16).digest
    assert found.made_by == {"x": 1, "fitted_items": 400}
    broken = VECTORS.copy()
    broken[7] = np.nan
    np.save(tmp_path / "c.npy", broken)
    few = dataclasses.replace(options, fit_items=400)
    found = fit_inputs(read(tmp_path, "c.npy"), few, None, QUIET, made_by={})
    assert found.digest == fit(np.delete(VECTORS, 7, axis=0), bits=16).digest
    spaced = dataclasses.replace(options, fit_items=100)
    found = fit_inputs(read(tmp_path, "a.npy"), spaced, None, QUIET, made_by={})
    assert found.digest == fit(VECTORS[:150:2], bits=16).digest
    np.save(tmp_path / "d.npy", np.full((4, 12), np.inf))
    with pytest.raises(UserError, match="finite"):
        fit_inputs(read(tmp_path, "d.npy"), options, None, QUIET, made_by={})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images, one of them broken, and variables of a small network."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "in").mkdir()
    for number in range(90):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "in" / f"{number:02}.png")
    (folder / "in" / "40.png").write_bytes(b"no image")
    network = models.backbone_factory("cifar-resnet20", image_size=16)()
    return folder, network.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.uint8))


def test_images_are_hashed_by_the_features_of_their_backbone(photos, monkeypatch):
    folder, variables = photos
    monkeypatch.setattr(
        ModelConfig, "read_weights", lambda *_: SimpleNamespace(variables=variables)
    )
    config = ModelConfig("cifar-resnet20", weights=Path("w"), image_size=16)
    inputs = read(folder, "in")
    hasher = fit_inputs(inputs, FitOptions(bits=12), config, QUIET, batch_size=16, made_by={})
    images = inputs[0].read(slice(0, 90), hasher.form).inputs
    assert len(images) == 89 and hasher.form.preprocessing["mean"] == [123.675, 116.28, 103.53]
    network = models.backbone_factory("cifar-resnet20", image_size=16)()
    features = np.asarray(network.apply(variables, images, train=False))
    linear = fit_linear_hashes(features, ["itq"], 12)["itq"]
    same = unpacked(hasher.encode(images), 12) == (linear(features) >= 0)
    assert same.mean() > 0.99  # sums of another order, in the features that it is fitted to
    assert hasher.made_by == {"fitted_items": 89}
    hasher.save(folder / "saved")
    assert load_archive(folder / "saved").digest == hasher.digest
    monkeypatch.setattr(fitting, "_RUN", 8)
    few = FitOptions(bits=12, fit_items=30)
    found = fit_inputs(inputs, few, config, QUIET, made_by={}).made_by["fitted_items"]
    assert found == 24  # 3 runs of 8


@pytest.mark.parametrize(
    ("lengths", "count"),
    [([90], 30), ([90], 90), ([90], 500), ([90, 40], 60), ([5, 200], 7), ([9], 2)],
)
def test_runs_of_images_are_evenly_spaced_and_no_more_than_asked(lengths, count, monkeypatch):
    monkeypatch.setattr(fitting, "_RUN", 8)
    runs = fitting._runs(lengths, count)
    taken = [(number, row) for number, rows in runs for row in range(lengths[number])[rows]]
    assert len(set(taken)) == len(taken) <= max(count, len(lengths))
    if count >= sum(lengths):
        assert len(taken) == sum(lengths)
    else:
        assert len(taken) >= min(count, sum(lengths)) // 2
        last = [row for number, row in taken if number == len(lengths) - 1]
        assert last == sorted(last) and (count < 30 or last[-1] > lengths[-1] / 2)


@pytest.mark.parametrize(
    ("names", "model", "words"),
    [
        (["a.npy"], ModelConfig("resnet18"), "holds vectors; `model` and `weights` are for images"),
        (["in"], None, "name a backbone and its published weights"),
        (["in"], ModelConfig("resnet18"), "name a backbone and its published weights"),
        (["in", "a.npy"], None, "images and vectors"),
        (["a.npy", "b.npy"], None, "a.npy has 12 dimensions, and"),
    ],
)
def test_inputs_and_models_that_do_not_go_together(tmp_path, names, model, words):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "0.png")
    np.save(tmp_path / "a.npy", VECTORS)
    np.save(tmp_path / "b.npy", VECTORS[:, :5])
    with pytest.raises(UserError) as caught:
        fit_inputs(read(tmp_path, *names), FitOptions(), model, QUIET, made_by={})
    assert words in str(caught.value)
