"""A run on word counts: training and resumption, what it tells, and how later documents are encoded."""

import json

import numpy as np
import pytest
import scipy.sparse
import trainings
from rich.console import Console

import jaxhash
from jaxhash.data.load import load_source
from jaxhash.runs import evaluate, train
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import PRESETS
from jaxhash.utils.errors import UserError

QUIET = Console(quiet=True)
WORDS, DOCUMENTS = 40, 120

pytestmark = pytest.mark.usefixtures("plotless")


def write_counts(path, **changes):
    """Documents of four classes, each with words of its own; one training document has none."""
    rng = np.random.default_rng(0)
    ids = np.arange(DOCUMENTS) % 4
    rates = 0.2 + 2.0 * (np.arange(WORDS) % 4 == ids[:, None])
    counts = rng.poisson(rates)
    counts[8] = 0
    matrix = scipy.sparse.csr_matrix(counts)
    arrays = {
        "indptr": matrix.indptr,
        "indices": matrix.indices.astype(np.uint16),
        "counts": matrix.data.astype(np.uint8),
        "vocabulary": np.array([f"word{number}" for number in range(WORDS)]),
        "labels": np.eye(4, dtype=bool)[ids],
        "split": (np.arange(DOCUMENTS) >= 80).astype(np.int8),
    }
    np.savez_compressed(path, **arrays | changes)


def config(folder, data, **options):
    fields = {
        "dataset": "counts:docs.npz",
        "data_dir": data,
        "run_dir": folder,
        "batch_size": 20,
        "epochs": 6,
        "bits": 12,
        "checkpoint_every": 5,
        "baselines": "none",
    }
    preset = PRESETS["reuters-pairwise-supervised-hashing"]()
    return preset.replace(**fields | options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    write_counts(folder / "docs.npz")
    one = config(folder / "run", folder)
    with trainings.without_plots():
        train(one, QUIET)
    return one


def test_a_run_learns_and_names_the_document_without_words(finished):
    results = trainings.results_of(finished)
    assert results["map"] > 0.5 and np.isfinite(results["map"])
    assert any("item 8" in note for note in results["notes"])
    again = evaluate(finished.run.run_dir, console=QUIET)
    assert again["map"] == results["map"]


def test_an_interrupted_run_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    other = finished.replace(run_dir=tmp_path / "run")
    trainings.train_with_an_interruption(other, QUIET, monkeypatch, at=13)
    states = [trainings.final_state(each) for each in (finished, other)]
    for one, same in zip(*(trainings.jax.tree.leaves(s.params) for s in states), strict=True):
        np.testing.assert_array_equal(one, same)
    assert trainings.results_of(other)["map"] == trainings.results_of(finished)["map"]


def test_a_document_gets_the_code_that_was_evaluated(finished):
    """By the weights of the training documents, whatever other documents there are."""
    source = load_source("counts:docs.npz", finished.data.data_dir)
    split = Experiment.open(finished).split
    hasher = jaxhash.load(finished.run.run_dir)
    counts = source.inputs[split.query]
    codes = hasher.encode(hasher.preprocess(counts))
    with np.load(finished.run.run_dir / "codes.npz") as stored:
        expected = np.packbits(stored["query_codes"] > 0, axis=1)
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(hasher.encode(hasher.preprocess(counts[:1])), codes[:1])
    assert "40 words" in repr(hasher)
    with pytest.raises(UserError, match="least"):
        hasher.preprocess(-counts)


def test_an_archive_keeps_the_weights_of_words(finished, tmp_path):
    hasher = jaxhash.load(finished.run.run_dir)
    hasher.save(tmp_path / "archive")
    again = jaxhash.load(tmp_path / "archive")
    assert again.form.words == hasher.form.words and again.digest == hasher.digest


def test_counts_are_encoded_into_an_index(finished, tmp_path, output, refusal, monkeypatch):
    """Those of other words are refused, in whatever file."""
    run, data = str(finished.run.run_dir), str(finished.data.data_dir)
    place = ["--data-dir", data, "--output", str(tmp_path / "index")]
    assert "120 items" in output("encode", run, "counts:docs.npz", *place)
    monkeypatch.chdir(data)
    assert "docs.npz" in output("search", str(tmp_path / "index"), "counts:docs.npz", "--k", "1")
    words = np.array([f"word{number}" for number in range(WORDS)])[::-1]
    write_counts(tmp_path / "other.npz", vocabulary=words)
    monkeypatch.chdir(tmp_path)
    line = refusal("encode", run, "counts:other.npz", "--output", str(tmp_path / "new"))
    assert "word39" in line


def test_form_of_a_run_is_in_its_folder(finished):
    content = json.loads((finished.run.run_dir / "inputs.json").read_text())
    documents = content["words"]["documents"]
    assert documents == 80 == len(Experiment.open(finished).split.train)


def test_options_for_images_are_refused_for_counts(finished, tmp_path, refusal):
    data = str(finished.data.data_dir)
    for options, word in (("--model cnn", "--model"), ("--crop 2", "--crop")):
        line = refusal(
            "train", "counts:docs.npz", "--data-dir", data, "--model", "mlp", *options.split()
        )
        assert word in line
