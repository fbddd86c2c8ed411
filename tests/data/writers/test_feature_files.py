"""``jaxhash data features``: what it writes is what the backbone says, and a run can be made of it."""

import dataclasses
import hashlib
import json
import os
import shlex

import jax
import numpy as np
import PIL.Image
import pytest
from flax import traverse_util

from jaxhash import models
from jaxhash.cli.main import main
from jaxhash.data.load import load_source
from jaxhash.data.writers import feature_files

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


@pytest.mark.slow
def test_the_features_of_every_image(folder, output, monkeypatch):
    """A set that ends in half a batch; here the network sees 500 of the images."""
    whole = load_source("digits")
    source = dataclasses.replace(whole, inputs=whole.inputs[:500], labels=whole.labels[:500])
    monkeypatch.setattr("jaxhash.data.writers.feature_files.load_source", lambda *_, **__: source)
    said = output(*FEATURES.split(), *OPTIONS)
    assert "f.npz: 500 images, 64 features each" in said
    backbone = models.backbone_factory("cifar-resnet20", preprocessing="centred")()
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
        "crop": 1.0,
        "interpolation": "bilinear",
    }

    run = "train --dataset features:f.npz --model linear --epochs 2 --bits 8 --run-dir run"
    parts = "--queries-per-class 10 --train-per-class 20"
    assert "features:f.npz: 200 training items" in output(*run.split(), *parts.split())


def test_the_parts_of_a_set_are_kept(folder, shared_data, output, monkeypatch):
    """On the real set of two parts; the network sees a few images, and the rest is as good."""
    whole = load_source("tfds:cifar10_subset", shared_data / "tfds")
    rows = np.r_[:30, -20:0]
    some = dataclasses.replace(
        whole,
        inputs=whole.inputs[rows],
        labels=whole.labels[rows],
        part_ids=whole.part_ids[rows],
        item_names=[whole.item_names[row] for row in rows],
    )
    monkeypatch.setattr("jaxhash.data.writers.feature_files.load_source", lambda *_, **__: some)
    output(*FEATURES.split())
    source = load_source("features:f.npz")
    np.testing.assert_array_equal(source.is_test, some.is_test)
    np.testing.assert_array_equal(source.labels, some.labels)
    assert list(source.item_names) == some.item_names
    assert some.item_names[29:31] == ["train/29", "test/9980"]
    assert source.class_names == whole.class_names and "airplane" in source.class_names


@pytest.fixture
def images(folder):
    """A folder of images in two parts, which the network sees in three shards."""
    rng = np.random.default_rng(0)
    for number in range(24):
        path = (
            folder / "set" / ("train", "query")[number % 2] / "ab"[number // 12] / f"{number}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)
    return ["--batch-size", "5", "--preprocessing", "centred"]


SHARDS = FEATURES.replace("--data digits", "--data folder:set")


def test_features_go_on_after_an_interruption(images, folder, output, refusal, monkeypatch, capsys):
    """With the same bytes in the end; what is done is not done again."""
    monkeypatch.setattr(feature_files, "BATCHES_PER_SHARD", 2)
    monkeypatch.setattr("jaxhash.data.readers.folder.MEMORY_LIMIT", 0)
    output(*SHARDS.split(), *images)
    whole, png = (folder / "f.npz").read_bytes(), (folder / "set/train/a/2.png").read_bytes()
    assert not (folder / "f.npz.shards").exists()
    (folder / "f.npz").unlink()

    done, save = [], np.save

    def interrupted(file, features):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(features))
        save(file, features)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(np, "save", interrupted)
        main([*SHARDS.split(), *images])
    capsys.readouterr()
    assert done == [10, 10] and not (folder / "f.npz").exists()

    other = "f.npz.shards holds features of another call (its {} is another)"
    assert other.format("command") in refusal(*SHARDS.split(), "--batch-size", "6")
    made_of, image = (
        folder / "f.npz.shards" / "made_of.json",
        folder / "set" / "train" / "a" / "0.png",
    )
    for path, content, said in (
        (image, png, other.format("inputs")),
        (made_of, b"\xff[", other.format("command")),
        (made_of, None, "f.npz.shards is in the way"),
    ):
        before, state = path.read_bytes(), path.stat()
        path.unlink() if content is None else path.write_bytes(content)
        assert said in refusal(*SHARDS.split(), *images)
        path.write_bytes(before)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))

    said = output(*SHARDS.split(), *images)
    assert "4 images through cifar-resnet20" in said and "20 more are in f.npz.shards" in said
    assert (folder / "f.npz").read_bytes() == whole and not (folder / "f.npz.shards").exists()

    source = load_source("features:f.npz")
    assert source.parts == ("train", "query") and source.class_names == ("a", "b")
    assert source.name_of(0) == "train/a/0.png" and source.name_of(23) == "query/b/23.png"
    np.testing.assert_array_equal(source.part_ids, np.repeat([0, 1], 12))


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
