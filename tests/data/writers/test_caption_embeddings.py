"""``jaxhash data captions``: what it embeds, whose rows they are, and a run on them."""

import json
import shlex

import numpy as np
import pytest

from jaxhash.data.load import load_source
from jaxhash.data.readers.captions import read_captions
from jaxhash.data.writers.caption_embeddings import tfidf_embeddings

CAPTIONS = "data captions --captions c.txt --output c.npz"

RUN = "train captions-shrewd --data-dir . --epochs 2 --run-dir run"

#: Three images, whose captions do not stand together; blank lines are no captions.
TEXT = """\
dog.jpg#0\ta black dog runs on the grass
cat.jpg#0\ta cat sleeps on the sofa

dog.jpg#1\tthe dog runs
car.jpg\ta car on the road
cat.jpg#1\ta cat on a sofa
car.jpg\tthe car and the road
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a file of captions and embeddings of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.txt").write_text(TEXT)
    np.save(tmp_path / "e.npy", np.arange(1.0, 13).reshape(6, 2))
    np.save(tmp_path / "five.npy", np.ones((5, 2)))
    np.save(tmp_path / "whole.npy", np.ones((6, 2), int))
    np.save(tmp_path / "nan.npy", np.full((6, 2), np.nan))
    (tmp_path / "words.txt").write_text("dog.jpg#0\ta dog\ncat.jpg a cat\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"dog.jpg\t\xff\xfe\n")
    (tmp_path / "rare.txt").write_text("dog.jpg\tone\ncat.jpg\ttwo\n")
    (tmp_path / "old.npz").write_text("mine")
    return tmp_path


def test_images_and_captions_of_a_file(folder):
    names, captions = read_captions(folder / "c.txt")
    assert names == [f"{name}.jpg" for name in ("dog", "cat", "dog", "car", "cat", "car")]
    assert captions[2] == "the dog runs" and len(captions) == 6


def test_given_embeddings_at_length_one(folder, output):
    options = ["--embeddings", "e.npy"]
    assert "c.npz: 6 captions of 3 images, 2 dimensions" in output(*CAPTIONS.split(), *options)
    rows = np.load("e.npy")
    with np.load("c.npz") as file:
        expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(file["features"], expected, rtol=1e-6)
        assert file["features"].dtype == np.float32
        assert file["labels"].tolist() == [0, 1, 0, 2, 1, 2]
        assert file["class_names"].tolist() == ["dog.jpg", "cat.jpg", "car.jpg"]
        assert file["item_names"][[0, 2, 5]].tolist() == ["dog.jpg#0", "dog.jpg#1", "car.jpg#1"]
        provenance = json.loads(str(file["provenance"]))
    assert provenance["command"] == shlex.join(["jaxhash", *CAPTIONS.split(), *options])
    assert provenance["encoder"] == "e.npy" and provenance["captions"] == "c.txt"


def test_pooled_rows_are_the_means_of_an_image(folder, output):
    output(*CAPTIONS.split(), "--embeddings", "e.npy", "--pool")
    rows = np.load("e.npy")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([rows[[0, 2]].mean(0), rows[[1, 4]].mean(0), rows[[3, 5]].mean(0)])
    source = load_source("features:c.npz")
    with np.load("c.npz") as file:
        expected = means / np.linalg.norm(means, axis=1, keepdims=True)
        np.testing.assert_allclose(file["features"], expected, rtol=1e-6)
    assert source.labels.tolist() == [0, 1, 2]
    assert source.class_names == tuple(source.item_names) == ("dog.jpg", "cat.jpg", "car.jpg")


def test_tfidf_keeps_the_products_of_the_weights(folder):
    """All singular vectors but the last keep nearly all; of words that two captions have."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    _, captions = read_captions(folder / "c.txt")
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2)
    weights = vectorizer.fit_transform(captions).toarray()
    assert sorted(vectorizer.vocabulary_) == [
        "car",
        "cat",
        "dog",
        "on",
        "road",
        "runs",
        "sofa",
        "the",
    ]
    left, sizes, _ = np.linalg.svd(weights, full_matrices=False)
    kept = left[:, :3] * sizes[:3]
    found = tfidf_embeddings(captions, 3)
    np.testing.assert_allclose(found @ found.T, kept @ kept.T, atol=1e-6)


@pytest.mark.slow
def test_captions_of_one_image_are_near(output, shared_data, tmp_path, monkeypatch):
    """On real captions: those of an image are nearer than those of another; and a run hashes them."""
    monkeypatch.chdir(tmp_path)
    lines = (shared_data / "captions" / "flickr8k.token.txt").read_text().splitlines()
    (tmp_path / "c.txt").write_text("\n".join(lines[:1500]))
    said = output(*CAPTIONS.replace("c.npz", "captions.npz").split(), "--dimensions", "64")
    assert "captions.npz: 1,500 captions of 300 images, 64 dimensions by TF-IDF" in said
    source = load_source("features:captions.npz")
    unit = source.inputs / np.linalg.norm(source.inputs, axis=1, keepdims=True)
    cosine, same = unit @ unit.T, source.labels[:, None] == source.labels
    np.fill_diagonal(cosine, np.nan)
    assert np.nanmean(cosine[same]) > 3 * np.nanmean(cosine[~same])

    said = output(*RUN.split())
    assert "75 queries on 300 items" in said and "mAHP@250" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["float_rankings"]["input features"]["mahp_at_250"] == pytest.approx(249 / 250)
    assert "class index as code" not in results["baselines"]
    assert "embeddings" in results["conventions"]["similarity"]
    assert "to the last digit" in output("evaluate", "run")


@pytest.mark.slow
def test_captions_teach_codes_of_images_without_classes(output, tmp_path, monkeypatch):
    """Vectors of the images are noise about their captions' means: what is like in one is in both."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "c.txt").write_text("\n".join(f"{i // 2}.jpg#{i % 2}\ta word" for i in range(400)))
    meanings = rng.normal(size=(200, 3))
    np.save(
        tmp_path / "e.npy", np.repeat(meanings, 2, axis=0) + rng.normal(scale=0.1, size=(400, 3))
    )
    output(*CAPTIONS.split(), "--embeddings", "e.npy", "--pool")
    images = meanings @ rng.normal(size=(3, 20)) + rng.normal(scale=0.1, size=(200, 20))
    np.savez(tmp_path / "images.npz", features=images, labels=np.arange(200))
    run = RUN.replace("--epochs 2", "--epochs 30 --batch-size 50")
    options = "--dataset features:images.npz --similarity c.npz --protocol random-items --bits 16 --baselines all"
    said = output(*run.split(), *options.split())
    assert "100 training items, 20 queries, 80 in the database" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    random = results["baselines"]["random"]
    assert results["mahp_at_250"] > random["mahp_at_250"] and results["map"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--output c.txt", "--output c.txt must end in .npz"),
        ("--output old.npz", "--output old.npz exists"),
        ("--dimensions 0", "--dimensions must be at least 1, got 0"),
        ("--dimensions 6", "--dimensions must be at most 5 for these captions, got 6"),
        ("--captions nowhere.txt", "--captions nowhere.txt: "),
        ("--captions words.txt", "words.txt, line 2: expected IMAGE, a tab and a caption"),
        ("--captions empty.txt", "empty.txt: there are no captions"),
        ("--captions latin.txt", "--captions latin.txt: "),
        ("--captions rare.txt", "no word stands in two captions"),
        ("--embeddings nowhere.npy", "nowhere.npy: there is no such file"),
        ("--embeddings five.npy", "expected floats [6 captions, dimensions], got shape (5, 2)"),
        ("--embeddings whole.npy", "of int64"),
        ("--embeddings nan.npy", "--embeddings nan.npy: there are values that are not finite"),
    ],
)
def test_captions_that_cannot_be_read(folder, refusal, options, said):
    name = options.split()[0]
    words = CAPTIONS.split()
    if name in words:
        del words[words.index(name) : words.index(name) + 2]
    assert said in refusal(*words, *options.split())
