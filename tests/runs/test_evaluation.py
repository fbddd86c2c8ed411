"""Evaluation of a model, on labels of every kind."""

import dataclasses
import json
import tracemalloc

import jax
import numpy as np
import optax
import pytest

from jaxhash import metrics
from jaxhash.data.augment import Augment
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split
from jaxhash.metrics import _counts, _quantization_error, _values
from jaxhash.models import MLP, Encoder
from jaxhash.objectives import ClassSimilarity, hashnet
from jaxhash.retrieval import encode as retrieval_encode
from jaxhash.retrieval import packed_codes
from jaxhash.retrieval.baselines.labeled_hashes import fit_labeled_hashes
from jaxhash.retrieval.baselines.linear_hashes import METHODS
from jaxhash.retrieval.packed_codes import as_packed_codes
from jaxhash.retrieval.score_hierarchy import (
    HIERARCHY_CONVENTIONS,
    embedding_similarity,
    score_hierarchy,
    score_hierarchy_of_vectors,
)
from jaxhash.retrieval.vectors import LazyVectors
from jaxhash.runs import artifacts, evaluation
from jaxhash.runs.baselines import describe_stronger_baselines
from jaxhash.runs.config import Config
from jaxhash.runs.encoding import SplitEncoder, encode_sample, encode_split
from jaxhash.runs.evaluation import (
    candidate_score,
    evaluate_codes,
    flip_rate,
    validation_scores,
)
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.scores import score_all

ITEMS, BITS = 60, 6
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 3, ITEMS).astype(np.int32)
#: Each image has the class of its id, and every fifth a second one.
MULTI_HOT = (np.eye(4)[IDS] + np.eye(4)[3] * (np.arange(ITEMS) % 5 == 0)[:, None]).astype(np.int8)

each_kind = pytest.mark.parametrize("labels", [IDS, MULTI_HOT], ids=["ids", "multi-hot"])


def experiment_on(labels):
    images = RNG.integers(0, 256, (ITEMS, 6, 6, 1)).astype(np.uint8)
    names = ("ant", "bee", "cow", "owl")[: 3 if labels.ndim == 1 else 4]
    order = np.random.default_rng(1).permutation(ITEMS)
    query, validation, train, database = np.split(order, [8, 14, 30])
    return Experiment(
        Config().replace(bits=BITS),
        Source("images", images, labels, names),
        Split("by hand", train, query, database, validation),
        Encoder(MLP, BITS),
        objective=hashnet(),
        optimizer=optax.identity(),
    )


def with_config(experiment, **fields):
    config = experiment.config.replace(**fields)
    return dataclasses.replace(experiment, config=config)


@pytest.fixture
def variables():
    images = np.zeros((2, 6, 6, 1), np.uint8)
    return Encoder(MLP, BITS).init(jax.random.key(0), images)


def brute_force_map(query, query_labels, database, database_labels):
    """Mean over queries, and over random orders of the ties, of the average precision."""
    rng, values = np.random.default_rng(0), []
    sets = [{(c,) for c in np.flatnonzero(row)} for row in query_labels]
    others = [{(c,) for c in np.flatnonzero(row)} for row in database_labels]
    for code, labels in zip(query, sets, strict=True):
        distance = ((code >= 0) != (database >= 0)).sum(axis=1)
        relevant = np.array([bool(labels & other) for other in others])
        for _ in range(300):
            order = np.lexsort((rng.random(len(database)), distance))
            ranks = np.flatnonzero(relevant[order]) + 1
            values.append(np.mean(np.arange(1, len(ranks) + 1) / ranks) if len(ranks) else 0.0)
    return np.mean(values)


def both_sides(encode, variables):
    return {name: encode(variables, name) for name in ("query", "database")}


def codes_and_sets(experiment, encode, variables, name):
    sets = MULTI_HOT if experiment.source.labels.ndim == 2 else np.eye(3)[IDS]
    return encode(variables, name), sets[getattr(experiment.split, name)]


@each_kind
def test_best_on_test_is_the_map_of_the_queries(labels, variables):
    experiment = experiment_on(labels)
    encode = SplitEncoder(experiment)
    value = candidate_score("best-on-test", experiment, encode)(variables)
    query, database = (
        codes_and_sets(experiment, encode, variables, name) for name in ("query", "database")
    )
    assert value == pytest.approx(brute_force_map(*query, *database), abs=0.01)


@each_kind
def test_validation_items_search_one_another(labels, variables):
    experiment = experiment_on(labels)
    encode = SplitEncoder(experiment)
    codes, sets = codes_and_sets(experiment, encode, variables, "validation")
    values = [
        brute_force_map(codes[[i]], sets[[i]], np.delete(codes, i, 0), np.delete(sets, i, 0))
        for i in range(len(codes))
    ]
    value = candidate_score("validation", experiment, encode)(variables)
    assert value == pytest.approx(np.mean(values), abs=0.01)


def test_the_last_model_is_not_scored():
    experiment = experiment_on(IDS)
    assert candidate_score("last", experiment, SplitEncoder(experiment)) is None


def test_codes_of_a_part_are_those_of_its_items_in_order(variables):
    experiment = experiment_on(IDS)
    encode = SplitEncoder(experiment)
    for name in ("train", "validation", "query", "database"):
        items = getattr(experiment.split, name)
        expected = experiment.model.apply(variables, experiment.source.inputs[items])
        np.testing.assert_allclose(encode(variables, name), expected, atol=1e-5)


def test_flip_rate_is_the_share_of_bits_that_change(variables):
    experiment = experiment_on(IDS)
    encode = SplitEncoder(experiment)
    codes = {"query": encode(variables, "query")}

    def rate(seed=0, **augmentation):
        augmented = with_config(experiment, seed=seed, **augmentation)
        return flip_rate(augmented, encode, variables, as_packed_codes(codes["query"]))

    assert rate() is None
    augment = Augment(crop=2, flip=True)
    moved = encode(variables, "query", augment=augment, seed=3)
    assert rate(crop=2, flip=True, seed=3) == np.mean((moved >= 0) != (codes["query"] >= 0)) > 0
    assert rate(crop=2, flip=True, seed=3) != rate(crop=2, flip=True, seed=4)
    codes["query"] = moved
    assert rate(crop=2, flip=True, seed=3) == 0


@each_kind
def test_measures_are_ready_for_json(labels, variables):
    experiment = experiment_on(labels)
    encode = SplitEncoder(experiment)
    codes = both_sides(encode, variables)
    found = evaluate_codes(experiment, codes)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    health = found["health"]
    signs = np.where(codes["database"] >= 0, 1.0, -1.0)
    live = signs[:, np.ptp(signs, axis=0) > 0]
    correlation = np.abs(np.corrcoef(live.T)[np.triu_indices(live.shape[1], 1)])
    assert health["bit_correlation"]["largest"] == pytest.approx(correlation.max())
    pairs = BITS * (BITS - 1) / 2  # a dead bit is correlated with nothing
    assert health["bit_correlation"]["mean"] == pytest.approx(correlation.sum() / pairs)
    assert np.shape(health["mutual_information"]) == (BITS, *labels.shape[1:])
    assert (health["items"], health["bits"]) == (len(experiment.split.database), BITS)
    assert health["quantization_error"] == pytest.approx(found["quantization_error"])


#: Ants are near to bees; and what each image means, by an encoder.
DISTANCES = np.array([[0.0, 0.25, 1.0], [0.25, 0.0, 1.0], [1.0, 1.0, 0.0]])
EMBEDDINGS = np.random.default_rng(3).normal(size=(ITEMS, 4)).astype(np.float32)


def test_classes_with_distances_are_scored_by_them(variables):
    experiment = dataclasses.replace(
        experiment_on(IDS), class_similarity=ClassSimilarity(DISTANCES)
    )
    codes = both_sides(SplitEncoder(experiment), variables)
    found = evaluate_codes(experiment, codes)
    query, database = (IDS[getattr(experiment.split, name)] for name in ("query", "database"))
    expected = score_hierarchy(codes["query"], query, codes["database"], database, 1 - DISTANCES)
    assert {name: found[name] for name in expected} == expected
    assert found["conventions"].keys() > HIERARCHY_CONVENTIONS.keys()
    # Three codes, one a class that is predicted, and hierarchical scores for every ranking.
    assert found["baselines"]["class index as code"]["distinct_codes"] <= 3
    for scores in (*found["baselines"].values(), *found["float_rankings"].values()):
        assert scores.keys() > HIERARCHY_CONVENTIONS.keys()
    flat = experiment.source.inputs.reshape(ITEMS, -1).astype(np.float32)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    sides = (unit[experiment.split.query], query, unit[experiment.split.database], database)
    by_cosine = score_hierarchy_of_vectors(*sides, lambda a, b: 1 - DISTANCES[a][:, b])
    floats = found["float_rankings"]["input features"]
    assert {name: floats[name] for name in by_cosine} == pytest.approx(by_cosine)


@each_kind
def test_items_with_embeddings_are_scored_by_them(labels, variables):
    """Whatever the labels are; and of all items, though the objective knows the training items."""
    experiment = dataclasses.replace(
        experiment_on(labels), class_similarity=ClassSimilarity(embeddings=EMBEDDINGS)
    )
    codes = both_sides(SplitEncoder(experiment), variables)
    found = evaluate_codes(experiment, codes)
    query, database = experiment.split.query, experiment.split.database
    unit = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)
    expected = score_hierarchy_of_vectors(
        np.where(codes["query"] >= 0, 1, -1),
        unit[query],
        np.where(codes["database"] >= 0, 1, -1),
        unit[database],
        embedding_similarity,
    )
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert "class index as code" not in found["baselines"]


def test_validation_items_are_scored_by_the_distances_among_them(variables):
    experiment = experiment_on(IDS)
    encode = SplitEncoder(experiment)
    assert validation_scores(experiment, encode, variables).keys() == {"validation_map"}
    found = validation_scores(
        dataclasses.replace(experiment, class_similarity=ClassSimilarity(DISTANCES)),
        encode,
        variables,
    )
    codes, labels = encode(variables, "validation"), IDS[experiment.split.validation]
    expected = score_hierarchy(codes, labels, codes, labels, 1 - DISTANCES)
    assert found["validation_mahp_at_250"] == expected["mahp_at_250_among_queries"]
    for items, names in (([], set()), ([3], {"validation_map"})):
        split = dataclasses.replace(experiment.split, validation=np.array(items, int))
        few = dataclasses.replace(
            experiment, split=split, class_similarity=ClassSimilarity(DISTANCES)
        )
        assert validation_scores(few, SplitEncoder(few), variables).keys() == names


@each_kind
def test_neighbors_have_the_names_of_their_classes(labels, variables):
    experiment = experiment_on(labels)
    codes = both_sides(SplitEncoder(experiment), variables)
    packed = {name: as_packed_codes(part) for name, part in codes.items()}
    found = artifacts._neighbors(experiment, packed, rows=3, k=5)
    names = np.array(experiment.source.class_names)
    sets = [[i] for i in IDS] if labels.ndim == 1 else [np.flatnonzero(row) for row in labels]
    images = {image.tobytes(): row for row, image in enumerate(experiment.source.inputs)}
    assert len(found.images) == 3
    for row, titles, relevant in zip(found.images, found.titles, found.relevant, strict=True):
        query, *others = (images[image.tobytes()] for image in row)
        assert query in experiment.split.query and np.isin(others, experiment.split.database).all()
        assert titles == [", ".join(names[sets[item]]) for item in (query, *others)]
        assert relevant == [bool(set(sets[query]) & set(sets[other])) for other in others]


def test_queries_that_are_shown_are_the_first_of_each_class():
    first = artifacts._first_of_each_class
    assert first(np.array([2, 0, 2, 0, 5])).tolist() == [1, 0, 4]
    rows = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0]])
    assert first(rows).tolist() == [3, 1]  # class 0, then 1 and 2 by the same query; none has 3


def test_title_of_an_item_of_many_classes():
    names = ("ant", "bee", "cow")
    rows = np.array([[1, 1, 1], [0, 0, 0], [0, 0, 1]])
    assert [artifacts._title(row, names) for row in rows] == ["ant, bee, ...", "", "cow"]


def test_nothing_stands_beside_the_codes_where_it_is_left_out(variables):
    experiment = experiment_on(IDS)
    codes = both_sides(SplitEncoder(experiment), variables)
    found, whole = (
        evaluate_codes(with_config(experiment, baselines="none"), codes),
        evaluate_codes(experiment, codes),
    )
    assert found["baselines"] == {} == found["float_rankings"]
    assert "left out" in found["conventions"].pop("baselines")
    assert whole["conventions"].pop("baselines") == "fitted to all 16 training items"
    rows = whole["baselines"].keys() | whole["float_rankings"].keys()
    assert rows >= whole["conventions"].keys() - found["conventions"].keys() >= {"itq"}
    whole["conventions"] = found["conventions"]
    assert found.items() <= {**whole, "baselines": {}, "float_rankings": {}}.items()


@pytest.mark.parametrize("values_bytes", [0, 2**24])
def test_the_codes_of_each_side_are_measured_once(variables, monkeypatch, values_bytes):
    """With the numbers that the scores have where they measure the packed codes themselves."""
    experiment = with_config(experiment_on(IDS), baselines="none")
    codes = encode_split(SplitEncoder(experiment), variables, values_bytes=values_bytes)
    expected, measured, measure = score_all(experiment, codes), [], metrics.code_health

    def code_health(codes, *arguments, **options):
        measured.append(len(codes))
        return measure(codes, *arguments, **options)

    monkeypatch.setattr(metrics, "code_health", code_health)
    assert expected.items() <= evaluate_codes(experiment, codes).items()
    assert sorted(measured) == sorted(len(side) for side in codes.values())


def test_memory_changes_but_the_sample(variables):
    """A sample of 16 training items; all that is ranked and cut is that of the whole, block by block."""
    experiment = experiment_on(IDS)
    codes = both_sides(SplitEncoder(experiment), variables)
    whole, steps = evaluate_codes(experiment, codes), []

    def track(blocks, what, total):
        steps.append(what)
        return blocks

    small = with_config(experiment, memory_bytes=2**12)
    few = evaluate_codes(small, codes, track=track)
    assert few["float_rankings"]["input features"] == pytest.approx(
        whole["float_rankings"]["input features"]
    )
    assert few["map"] == whole["map"] and few["health"] == whole["health"]
    assert few["conventions"]["baselines"].startswith("fitted to 11 of the 16 training items")
    assert few["baselines"].keys() == whole["baselines"].keys()
    assert {"counting", "ranking by learned floats", "itq, database"} < set(steps)
    again = evaluate_codes(small, codes)
    assert again["baselines"] == few["baselines"]


def test_numbers_do_not_depend_on_how_the_codes_are_held(variables):
    """Encoded in pieces, with real values that fit into the memory, or without them."""
    experiment = experiment_on(IDS)
    encode = SplitEncoder(experiment)
    expected = evaluate_codes(experiment, both_sides(encode, variables))
    packed = encode_split(encode, variables, values_bytes=2**24)
    assert evaluate_codes(experiment, packed) == expected
    found = evaluate_codes(experiment, encode_split(encode, variables))
    assert found["conventions"].pop(evaluation.REAL_VALUES).startswith("left out, as the real")
    del expected["float_rankings"]["learned floats"]
    for side in ("health", "query_health"):
        for name in ("quantization_error", "wasserstein_to_signs"):
            assert expected[side][name] is not None
            expected[side][name] = None
    assert found == expected


def test_an_item_takes_the_memory_of_its_bits(monkeypatch):
    """Encoded, counted, its health measured: far less than the 256 bytes of its real values."""
    for module in (_quantization_error, _values):
        monkeypatch.setattr(module, "_VALUES", 2**15)
    monkeypatch.setattr(_counts, "BLOCK", 2**10)
    monkeypatch.setattr(retrieval_encode, "_BATCHES", 4)
    monkeypatch.setattr(packed_codes, "MAX_SAMPLED_ITEMS", 100)
    peaks, model = {}, Encoder(MLP, 64)
    variables = model.init(jax.random.key(0), np.zeros((2, 4), np.float32))
    for items in (20_000, 60_000):
        rows, labels = RNG.normal(size=(items, 4)).astype(np.float32), np.arange(items) % 3
        split = Split("first", *(np.arange(n) for n in (8, 8, items)))
        experiment = Experiment(
            Config().replace(bits=64, baselines="none"),
            Source("rows", rows, labels.astype(np.int32), ("ant", "bee", "cow")),
            split, model, objective=hashnet(), optimizer=optax.identity(),
        )  # fmt: skip
        encode = SplitEncoder(experiment)
        encode(variables, "query")  # what is compiled stays
        tracemalloc.start()
        evaluate_codes(experiment, encode_split(encode, variables))
        peaks[items] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[60_000] - peaks[20_000] < 40_000 * 100, peaks


def test_sides_that_do_not_fit_are_told_of_a_run(variables):
    experiment = experiment_on(IDS)
    codes = both_sides(SplitEncoder(experiment), variables)
    codes["query"] = 100 * np.abs(codes["query"]) + 1
    found = evaluate_codes(with_config(experiment, baselines="none"), codes)
    assert found["query_health"]["collapse"] == "all 8 codes are the same"
    assert any("query codes are" in line for line in found["warnings"])


def test_code_values_are_drawn_of_items_evenly_spaced(variables, monkeypatch):
    monkeypatch.setattr(packed_codes, "MAX_SAMPLED_ITEMS", 10)
    experiment = experiment_on(IDS)
    encode = SplitEncoder(experiment)
    drawn = encode_sample(encode, experiment, variables)
    whole = encode(variables, "database")
    np.testing.assert_array_equal(drawn, whole[:: -(-len(whole) // 10)])
    assert 5 <= len(drawn) <= 10


@each_kind
def test_all_baselines_have_those_by_labels(labels):
    """Discriminants of classes only where an item has one; what needs labels is no reason for a warning."""
    experiment = with_config(experiment_on(labels), baselines="all")
    codes = {
        side: as_packed_codes(RNG.normal(size=(len(getattr(experiment.split, side)), BITS)))
        for side in ("query", "database")
    }
    found = evaluate_codes(experiment, codes)
    by_labels = {"cca-itq", "lda-itq"} if labels.ndim == 1 else {"cca-itq"}
    assert set(found["baselines"]) == set(METHODS) | by_labels
    assert all("with the labels" in found["conventions"][name] for name in by_labels)
    alone = experiment.split.train
    linear = fit_labeled_hashes(
        LazyVectors(experiment.source.inputs, alone), labels[alone], ["cca-itq"], BITS
    )["cca-itq"]
    hashed = {
        side: as_packed_codes(
            linear(LazyVectors(experiment.source.inputs, getattr(experiment.split, side))[:])
        )
        for side in ("query", "database")
    }
    assert found["baselines"]["cca-itq"]["map"] == score_all(experiment, hashed)["map"]
    better = found | {"map": 0.0}
    [line] = [line for line in describe_stronger_baselines(better) if "cca-itq" in line]
    assert "no labels" not in line
