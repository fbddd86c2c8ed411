"""A run on interactions: training, resumption, devices, and what its numbers leave out."""

import json

import jax
import numpy as np
import pytest
import trainings
from rich.console import Console

import jaxhash
from jaxhash.metrics import ItemLists
from jaxhash.runs import evaluate, train
from jaxhash.runs.compare_runs import query_precisions
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.finished_run import open_items, read_run
from jaxhash.runs.presets import PRESETS
from jaxhash.runs.rankings import rank_queries
from jaxhash.training.parallel import DataParallel
from jaxhash.utils.errors import UserError

QUIET = Console(quiet=True)
USERS, ITEMS = 40, 60

pytestmark = pytest.mark.usefixtures("plotless")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four kinds of users choose four kinds of items; a quarter of their choices is held out."""
    folder, rng = tmp_path_factory.mktemp("interactions"), np.random.default_rng(0)
    alike = rng.integers(0, 4, USERS)[:, None] == rng.integers(0, 4, ITEMS)
    pairs = np.argwhere(rng.random((USERS, ITEMS)) < np.where(alike, 0.6, 0.03))
    held_out = rng.random(len(pairs)) < 0.25
    np.savez(folder / "few.npz", train=pairs[~held_out], test=pairs[held_out])
    return folder


def config(folder, data, **options):
    fields = {
        "dataset": "interactions:few.npz",
        "data_dir": data,
        "run_dir": folder,
        "batch_size": 64,
        "epochs": 12,
        "bits": 16,
        "learning_rate": 1e-2,
        "quantizer": "hswd",
        "objective_options": ("negatives=2",),
        "checkpoint_every": 10,
        "on_collapse": "warn",
    }
    return PRESETS["lastfm-hashgnn"]().replace(**fields | options)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    one = config(tmp_path_factory.mktemp("runs") / "run", data)
    with trainings.without_plots():
        train(one, QUIET)
    return one


def ranking(run, row):
    """Distances of the items that a query may find, and which of them it should find."""
    with np.load(run.run.run_dir / "codes.npz") as file:
        query, database = file["query_codes"][row].astype(int), file["database_codes"].astype(int)
        lists = [
            ItemLists(*(file[f"{name}_{field}"] for field in ItemLists._fields)).of(row)
            for name in ("relevant", "excluded")
        ]
    allowed = np.setdiff1d(np.arange(ITEMS), lists[1])
    return (query != database[allowed]).sum(axis=1), np.isin(allowed, lists[0])


def test_metrics_are_those_of_what_a_user_has_not_seen(finished):
    """Recall@20 in expectation over ties, by hand from the codes that are stored."""
    results, recalls = trainings.results_of(finished), []
    for row in range(results["items"]["query"]):
        distances, relevant = ranking(finished, row)
        last = np.sort(distances)[19]
        tied = distances == last
        share = (20 - (distances < last).sum()) / tied.sum()
        found = relevant[distances < last].sum() + share * relevant[tied].sum()
        recalls.append(found / relevant.sum())
    assert results["recall_at_20"] == pytest.approx(np.mean(recalls))
    assert results["recall_at_20"] > 0.5  # a random order finds a third
    for row in results["float_rankings"].values():
        assert 0 < row["ndcg_at_20"] <= 1


def test_evaluate_finds_the_same_numbers(finished):
    again = evaluate(finished.run.run_dir, console=QUIET)
    assert again["map"] == trainings.results_of(finished)["map"]


def test_pages_show_what_a_user_has_not_seen(finished):
    run = read_run(finished.run.run_dir)
    assert query_precisions(run, QUIET).mean() == pytest.approx(run.results["map"])
    items = open_items(run, QUIET)
    for row in range(5):
        distances, relevant = ranking(finished, row)
        (shown,) = rank_queries(items, np.array([row]), [()])
        assert [each.distance for each in shown.neighbors] == sorted(distances)[:10]
        far = [each.distance for each in shown.neighbors if not each.is_right]
        assert set(far) <= set(distances[~relevant])


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    other = finished.replace(run_dir=tmp_path / "run")
    trainings.train_with_an_interruption(other, QUIET, monkeypatch, at=23)
    states = [trainings.final_state(each) for each in (finished, other)]
    for one, same in zip(*(jax.tree.leaves(s.params) for s in states), strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.slow
def test_eight_devices_are_one(data, tmp_path):
    """After two steps, of views that each device has its own rows of."""
    experiment = Experiment.open(config(tmp_path, data))
    found = []
    for devices in (jax.devices()[:1], jax.devices()):
        step = DataParallel(experiment.step_function(), devices)
        state = step.to_local(step.replicate(experiment.initial_state()))
        batches = experiment.batches()
        for _ in range(2):
            state, _ = step(state, step.shard_batch(next(batches)))
        found.append(jax.tree.map(np.asarray, step.to_global(state).params))
    assert len(jax.devices()) == 8
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *found)


def test_a_model_of_nodes_is_no_hash_function_of_other_inputs(finished):
    with pytest.raises(UserError, match=r"codes\.npz"):
        jaxhash.load(finished.run.run_dir)


def test_codes_are_evaluated_by_their_lists_alone(finished, refusal, output, tmp_path):
    path, written = str(finished.run.run_dir / "codes.npz"), tmp_path / "a.json"
    line = refusal("evaluate", path)
    assert "lists what each query should find" in line and f"--ground-truth {path}" in line
    output("evaluate", path, "--ground-truth", path, "--output", str(written))
    found = json.loads(written.read_text())["scores"]["map"]["expected"]
    assert found == pytest.approx(trainings.results_of(finished)["map"], rel=1e-12)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("--model mlp", "--model"),
        ("--objective dch --quantizer none", "--objective dch"),
        ("--protocol per-class", "--protocol"),
        ("--queries-per-class 2", "--queries-per-class"),
        ("--labeled-per-class 2", "--labeled-per-class"),
        ("--validation 0.1", "--validation"),
        ("--crop 2", "--crop"),
        ("--head-norm", "--head-norm"),
        ("--similarity coarse", "--similarity"),
    ],
)
def test_what_interactions_do_not_have_is_refused(data, refusal, options, word):
    line = refusal(
        *("train", "lastfm-hashgnn", "--dataset", "interactions:few.npz"),
        *("--data-dir", str(data), "--run-dir", str(data / "none"), *options.split()),
    )
    assert word in line


def test_images_do_not_train_on_interactions_objectives(refusal, tmp_path):
    run = ["--run-dir", str(tmp_path / "none")]
    assert "interactions" in refusal("train", "--objective", "hashgnn", "--quantizer", "none", *run)
    assert "--model graph" in refusal("train", "--model", "graph", *run)


def test_data_check_counts_users_and_items(data, output):
    text = output("data", "check", "--dataset", "interactions:few.npz", "--data-dir", str(data))
    assert f"{USERS} users and {ITEMS} items" in text and "no leak" in text
    assert "warning" not in text
