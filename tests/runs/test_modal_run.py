"""A run on two modalities: trained, resumed, evaluated, loaded by modality, and refused without one."""

import functools
import json

import numpy as np
import pytest
from rich.console import Console
from trainings import start_with_an_interruption, without_plots

import jaxhash
from jaxhash.cli.main import main
from jaxhash.retrieval.index import Index
from jaxhash.retrieval.packed_codes import as_packed_codes
from jaxhash.runs import Config, evaluate, train
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.ways import codes_by_way
from jaxhash.utils.errors import UserError

QUIET = Console(quiet=True)
RANDOM = np.random.default_rng(0)
LABELS = np.arange(240) % 4
DATASET = "modalities:title=features:title.npz,body=features:body.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modal")
    for name, width, scale in (("title", 5, 1.0), ("body", 7, 20.0)):
        centers = RANDOM.normal(size=(4, width))
        features = scale * (centers[LABELS] + 0.3 * RANDOM.normal(size=(240, width)))
        np.savez(folder / f"{name}.npz", features=features.astype(np.float32), labels=LABELS)
    return folder


def config(folder, name, **options):
    options = {"objective": "dch", "quantizer": "none"} | options
    return Config().replace(
        dataset=DATASET, data_dir=folder, protocol="per-class", queries_per_class=5,
        train_per_class=20, model="linear", bits=8, epochs=4, batch_size=20, checkpoint_every=3,
        learning_rate=0.03, run_dir=folder / name, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(folder):
    whole = config(folder, "run")
    with without_plots():
        return whole, train(whole, QUIET)


def test_each_way_has_its_own_numbers(trained):
    whole, results = trained
    assert list(results["ways"]) == ["body to title", "title to body"]
    assert results["map"] == results["ways"]["body to title"]["map"] > 0.5
    for scores in results["ways"].values():
        assert 0 < scores["ndcg_at_100"] <= 1 and scores["map"] > 0.5
    with without_plots():
        assert evaluate(whole.run.run_dir, QUIET)["ways"] == results["ways"]
    form = json.loads((whole.run.run_dir / "inputs.json").read_text())
    assert (
        form["kind"] == "tree" and form["forms"]["title"]["scale"] > form["forms"]["body"]["scale"]
    )


def test_codes_of_each_way_are_in_a_file_of_their_own(trained):
    whole, _ = trained
    first, second = (
        np.load(whole.run.run_dir / name) for name in ("codes.npz", "codes_title_body.npz")
    )
    assert (first["query_codes"] != second["query_codes"]).any()
    np.testing.assert_array_equal(first["query_labels"], second["query_labels"])


def test_a_hash_function_of_each_modality(trained):
    whole, _ = trained
    experiment = Experiment.open(whole)
    hashers = {name: jaxhash.load(whole.run.run_dir, modality=name) for name in ("body", "title")}
    rows = {name: np.load(whole.data.data_dir / f"{name}.npz")["features"] for name in hashers}
    for name, file, side in (("title", "codes.npz", "database"), ("body", "codes.npz", "query")):
        stored = np.load(whole.run.run_dir / file)[f"{side}_codes"] > 0
        found = hashers[name].encode(rows[name][getattr(experiment.split, side)])
        np.testing.assert_array_equal(found, np.packbits(stored, axis=1))
    for options, words in (({}, "each of body, title"), ({"modality": "sound"}, "sound")):
        with pytest.raises(UserError, match=words):
            jaxhash.load(whole.run.run_dir, **options)


def test_items_of_one_modality_are_searched_by_another(trained, folder, tmp_path, capsys):
    run, index = trained[0].run.run_dir, tmp_path / "bodies"
    main(
        ["encode", f"{run}", f"{folder / 'body.npz'}", "--output", f"{index}", "--modality", "body"]
    )
    capsys.readouterr()
    titles = np.load(folder / "title.npz")["features"][:30]
    np.save(tmp_path / "titles.npy", titles)
    words = ["search", f"{index}", f"{tmp_path / 'titles.npy'}", "--json", "--k", "5"]
    main([*words, "--run", f"{run}", "--modality", "title"])
    found = json.loads(capsys.readouterr().out)
    codes = jaxhash.load(run, modality="title").encode(titles)
    expected = Index.open(index).search(codes, 5)
    assert [[item["id"] for item in items] for items in found] == expected.ids.tolist()
    right = [item["label"] == f"{LABELS[row]}" for row, items in enumerate(found) for item in items]
    assert np.mean(right) > 0.5


def test_another_run_does_not_search_an_index(trained, folder, tmp_path, capsys):
    """Its codes have the same length, and say nothing about those of the index."""
    run, index = trained[0].run.run_dir, tmp_path / "bodies"
    main(
        ["encode", f"{run}", f"{folder / 'body.npz'}", "--output", f"{index}", "--modality", "body"]
    )
    other = config(folder, "other", seed=1)
    with without_plots():
        train(other, QUIET)
    words = ["search", f"{index}", f"{folder / 'title.npz'}", "--run"]
    for options, said in (
        ([f"{other.run.run_dir}", "--modality", "title"], "another hash function"),
        ([f"{run}", "--modality", "sound"], "sound"),
        ([f"{run}"], "--modality"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main([*words, *options])
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_an_interrupted_run_goes_on_to_the_same_numbers(folder, trained, monkeypatch):
    _, results = trained
    again = config(folder, "again")
    with without_plots():
        start = functools.partial(train, again, QUIET)
        found = start_with_an_interruption(again.run.run_dir, start, monkeypatch, at=7)
    assert found["ways"] == results["ways"]


def test_codes_of_a_way_are_those_of_its_modalities(trained):
    experiment = Experiment.open(trained[0])
    query, database = (
        [as_packed_codes(np.full((1, 8), float(place))) for place in (at, at + 1)] for at in (0, 2)
    )
    codes = {"query": tuple(query), "database": tuple(database)}
    found = {str(way): sides for way, sides in codes_by_way(experiment, codes).items()}
    assert found["title to body"] == {"query": query[1], "database": database[0]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objective": "dcw-autoencoder"}, "reads the inputs"),
        ({"weights": "nowhere.npz"}, "weights"),
        ({"model": "cnn"}, "model"),
    ],
)
def test_what_two_modalities_do_not_allow_is_refused(folder, options, words):
    with pytest.raises(UserError, match=words):
        Experiment.open(config(folder, "refused").replace(**options))


def test_the_loss_alone_has_codes_of_each_modality(folder):
    experiment = Experiment.open(config(folder, "timed"))
    step = experiment.make_loss_step()
    state = step.to_local(step.replicate(experiment.initial_state()))
    _, metrics = step(state, step.shard_batch(next(experiment.batches())))
    assert metrics["loss"] > 0 and np.isfinite(metrics["grad_sum"])
