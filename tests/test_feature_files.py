"""``jaxhash data features``: what it writes is what the backbone says, and a run can be made of it."""

import dataclasses
import hashlib
import json
import shlex

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxhash import models
from jaxhash.data.sources import load_source

FEATURES = "data features --backbone cifar-resnet20 --weights net.npz --data digits --output f.npz"

OPTIONS = ["--batch-size", "200", "--preprocessing", "centred"]


@pytest.fixture(scope="module")
def tensors():
    """Random weights of a network, by the names of its published file."""
    model = models.cifar_resnet20(classes=10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.example())
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    names, rng = model.weight_names()["pytorch"], np.random.default_rng(0)
    return {
        names[ours].name: rng.uniform(0.01, 0.1, leaf.shape).transpose(axes[leaf.ndim])
        for ours, leaf in traverse_util.flatten_dict(shapes, sep="/").items()
    }


@pytest.fixture
def folder(tmp_path, monkeypatch, tensors):
    """The working folder, with the weights and with a file of vectors."""
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "net.npz", **tensors)
    np.savez(tmp_path / "vectors.npz", features=np.eye(12), labels=np.arange(12) % 2)
    return tmp_path


def test_the_features_of_every_image(folder, output, monkeypatch):
    """Of a set that ends in half a batch; here the network sees 500 of the images."""
    whole = load_source("digits")
    source = dataclasses.replace(whole, inputs=whole.inputs[:500], labels=whole.labels[:500])
    monkeypatch.setattr("jaxhash.feature_files.load_source", lambda *_: source)
    said = output(*FEATURES.split(), *OPTIONS)
    assert "f.npz: 500 images, 64 features each" in said
    backbone = models.backbone_of("cifar-resnet20", preprocessing="centred")()
    variables = models.load_weights("net.npz", backbone, leave_out="classifier")
    with np.load("f.npz") as file:
        expected = jax.jit(backbone.apply)(variables, source.inputs)
        np.testing.assert_allclose(file["features"], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(file["labels"], source.labels)
        assert tuple(file["class_names"]) == source.class_names
        provenance = json.loads(str(file["provenance"]))
    assert provenance["command"] == shlex.join(["jaxhash", *FEATURES.split(), *OPTIONS])
    weights = (folder / "net.npz").read_bytes()
    assert provenance["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert provenance["preprocessing"] == {
        "mean": [127.5],
        "std": [127.5],
        "channels": 3,
        "bgr": False,
        "size": None,
    }

    run = "train --dataset features:f.npz --model linear --epochs 2 --bits 8 --run-dir run"
    parts = "--queries-per-class 10 --train-per-class 20"
    assert "features:f.npz: 200 training items" in output(*run.split(), *parts.split())


def test_the_parts_of_a_set_are_kept(folder, shared_data, output, monkeypatch):
    """On the real set of two parts; the network sees a few images, and the rest is as good."""
    whole = load_source("tfds:cifar10_subset", shared_data / "tfds")
    rows = np.r_[:30, -20:0]
    some = dataclasses.replace(
        whole, inputs=whole.inputs[rows], labels=whole.labels[rows], part_ids=whole.part_ids[rows]
    )
    monkeypatch.setattr("jaxhash.feature_files.load_source", lambda *_: some)
    output(*FEATURES.split())
    source = load_source("features:f.npz")
    np.testing.assert_array_equal(source.part, some.part)
    np.testing.assert_array_equal(source.labels, some.labels)
    assert source.class_names == whole.class_names and "airplane" in source.class_names


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--output f.txt", "--output f.txt must end in .npz"),
        ("--output net.npz", "--output net.npz exists; remove it, or choose another"),
        ("--output nowhere/f.npz", "--output nowhere/f.npz: there is no such folder"),
        ("--batch-size 0", "--batch-size must be at least 1, got 0"),
        ("--image-size 0", "--image-size must be at least 1 and at most 4096, got 0"),
        ("--weights nowhere.pth", "nowhere.pth"),
        ("--weights net.npz:net", "net.npz holds no tensors under 'net'"),
        ("--weights vectors.npz", "vectors.npz"),
        ("--backbone resnet18", "net.npz does not fit ResNet"),
        ("--backbone cnn", "no published weights are known for CNN"),
        ("--backbone alexnet", "alexnet: inputs of shape (8, 8, 1) are too small"),
        ("--backbone resnet99", "resnet99"),
        ("--data features:vectors.npz", "holds feature vectors; a backbone takes images"),
        ("--data tfds:cifar10 --data-dir nowhere", "--data-dir nowhere: there is no such folder"),
        ("--data cifar", "--dataset 'cifar': expected"),
    ],
)
def test_features_that_cannot_be_made(folder, refusal, options, said):
    name = options.split()[0]
    words = FEATURES.split()
    if name in words:
        del words[words.index(name) : words.index(name) + 2]
    assert said in refusal(*words, *options.split())
