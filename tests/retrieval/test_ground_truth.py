"""Ground truth by lists of items and by ids, from files, against the metrics of the lists themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
from code_samples import ARRAYS, ITEMS, QUERIES, read_strict_json, save

from jaxhash.metrics import ItemLists, evaluate_retrieval

QUERY, DATABASE = ARRAYS["query_codes"], ARRAYS["database_codes"]
RNG = np.random.default_rng(1)
ORDERS = [RNG.permutation(ITEMS).tolist() for _ in range(QUERIES)]
EASY, HARD, JUNK = ([sorted(each[a:b]) for each in ORDERS] for a, b in ((0, 3), (3, 7), (7, 20)))
BOTH = "q.npy --database d.npy --ground-truth gnd.json"
IDS = np.array([f"item-{number}" for number in RNG.permutation(ITEMS)])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("q.npy", QUERY)
    np.save("d.npy", DATABASE)
    np.savez("ids.npz", codes=DATABASE, ids=IDS)


def write(**lists):
    Path("gnd.json").write_text(json.dumps(lists))


def lists_of(rows):
    pairs = [(query, item) for query, items in enumerate(rows) for item in items]
    return ItemLists.from_pairs(np.array(pairs, int), queries=len(rows))


def joined(*parts):
    return lists_of([sum(rows, []) for rows in zip(*parts, strict=True)])


def results(output, *arguments):
    text = output("evaluate", *arguments, "--output", "a.json")
    return text, read_strict_json("a.json")


def check(found, relevance, excluded=None, **options):
    expected = evaluate_retrieval(
        QUERY, None, DATABASE, None, relevance=relevance, excluded=excluded, **options
    ).to_json()
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("difficulty", "relevant", "excluded"),
    [
        ("easy", [EASY], [HARD, JUNK]),
        ("medium", [EASY, HARD], [JUNK]),
        ("hard", [HARD], [EASY, JUNK]),
    ],
)
def test_difficulties_of_revisited_oxford(output, difficulty, relevant, excluded):
    write(easy=EASY, hard=HARD, junk=JUNK)
    arguments = [*BOTH.split(), "--ranks", "1", "5", "10"]
    convention = "revisited-oxford"
    text, found = results(
        output, *arguments, "--convention", convention, "--difficulty", difficulty
    )
    assert f"at difficulty {difficulty}" in text and "truncated_precision_at_10" in text
    check(found, joined(*relevant), joined(*excluded), ranks=(1, 5, 10), convention=convention)


@pytest.mark.parametrize("layout", ["positions", "ids", "arrays", "one file"])
def test_relevant_and_excluded_items(output, layout):
    relevant, excluded, database = HARD, JUNK, "d.npy"
    if layout == "ids":
        relevant, excluded = ([[str(IDS[i]) for i in row] for row in each] for each in (HARD, JUNK))
        database = "ids.npz"
    write(relevant=relevant, excluded=excluded)
    arguments = ["q.npy", "--database", database, "--ground-truth", "gnd.json"]
    if layout == "arrays":
        both = {"relevant": lists_of(HARD), "excluded": lists_of(JUNK)}
        arrays = {
            f"{name}_{field}": value
            for name, lists in both.items()
            for field, value in lists._asdict().items()
        }
        np.savez("lists.npz", **arrays)
        arguments[-1] = "lists.npz"
    if layout == "one file":
        arguments = [save(), "--ground-truth", "gnd.json"]
    if layout == "positions":
        arguments += ["--compare", "q.npy", "--compare-database", "d.npy"]
    text, found = results(output, *arguments, "--k", "10")
    check(found, lists_of(HARD), lists_of(JUNK), k=10)
    assert "on the query's list" in text and f"{13 * QUERIES} items, by {QUERIES} of the" in text
    if layout == "positions":
        assert found["compare"]["difference"] == 0


def own(rows):
    return ItemLists.from_pairs(np.array(rows), queries=QUERIES)


@pytest.mark.parametrize("layout", ["ids", "ids of both", "same file"])
def test_queries_leave_themselves_out(output, layout):
    """Items in another order in the other file take the query's own item with them."""
    labels, ids = ARRAYS["database_labels"], np.arange(100, 100 + ITEMS)
    chosen = RNG.permutation(ITEMS)[:QUERIES]
    sides = DATABASE[chosen], labels[chosen], DATABASE, labels
    expected = own(np.stack([np.arange(QUERIES), chosen], axis=1))
    np.savez("q.npz", codes=sides[0], labels=sides[1], ids=ids[chosen])
    np.savez("d.npz", codes=DATABASE, labels=labels, ids=ids)
    arguments = ["q.npz", "--database", "d.npz"]
    if layout == "ids":
        other = np.random.default_rng(2).permutation(ITEMS)
        np.savez("o.npz", codes=DATABASE[other], labels=labels[other], ids=ids[other])
        arguments += ["--compare", "q.npz", "--compare-database", "o.npz"]
    if layout == "ids of both":
        keys = ("query_codes", "query_labels", "database_codes", "database_labels")
        named = {"query_ids": ids[chosen], "database_ids": ids}
        arguments = [save(**dict(zip(keys, sides, strict=True)), **named)]
    if layout == "same file":
        np.savez("q.npz", codes=DATABASE, labels=labels)
        arguments = ["q.npz", "--database", "q.npz"]
        sides, rows = (DATABASE, labels, DATABASE, labels), np.arange(ITEMS)
        expected = ItemLists.from_pairs(np.stack([rows, rows], axis=1), queries=ITEMS)
    text, found = results(output, *arguments, "--leave-one-out", "--ranks", "1", "2", "4", "8")
    result = evaluate_retrieval(*sides, excluded=expected, ranks=(1, 2, 4, 8)).to_json()
    assert {key: found[key] for key in result} == result
    assert "hit rate@8" in text and found["items"] == ITEMS - 1
    if layout == "ids":
        assert found["compare"]["difference"] == pytest.approx(0, abs=1e-12)


GOOD = {"relevant": HARD}


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (GOOD, "q.npy --database d.npy --ground-truth none.json", "none.json: there is no such"),
        (GOOD, f"{BOTH} --difficulty hard", "gnd.json: --difficulty is of a file"),
        (GOOD, f"{BOTH} --relevance equal", "--relevance equal is by labels"),
        (GOOD, f"{BOTH} --labels q.npy", "--labels is not read"),
        (GOOD, f"{BOTH} --ranks 5 0", "at least 1, got 0"),
        (GOOD, f"{BOTH} --ranks 41", "k=41 is larger"),
        (GOOD, "codes.npz --difficulty hard", "--difficulty needs --ground-truth"),
        (GOOD, "codes.npz --leave-one-out", "--leave-one-out needs to know"),
        (GOOD, "far.npz --leave-one-out", "far.npz: no query has the id"),
        (GOOD, "short.npz --leave-one-out", "short.npz: ids must be"),
        (
            {"relevant": [[n, n + 20] for n in range(QUERIES)]},
            "own.npz --leave-one-out --ground-truth gnd.json",
            "gnd.json: the list of query 0 holds item 0, which that query is and --leave-one-out",
        ),
        (GOOD, "twice.npz --leave-one-out", "twice.npz: ids must not repeat, and 3 does"),
        (GOOD, "mixed.npz --leave-one-out", "mixed.npz: ids are"),
        (GOOD, ". --ranks 1", "--ranks is for files of codes"),
        (GOOD, "codes.npz --ground-truth codes.npz", "codes.npz: no arrays 'relevant_indptr'"),
        ({"relevant": HARD, "exclude": JUNK}, BOTH, "gnd.json holds exclude, relevant; it must"),
        ({"easy": EASY, "hard": HARD}, BOTH, "gnd.json holds easy, hard; it must"),
        ({}, BOTH, "gnd.json holds nothing"),
        ({"relevant": HARD[1:]}, BOTH, "gnd.json: relevant has 11 lists, and there are 12"),
        ({"relevant": [3] * QUERIES}, BOTH, "gnd.json: relevant must be a list of lists"),
        ({"relevant": [[40]] * QUERIES}, BOTH, "gnd.json: relevance must hold positions from 0"),
        ({"relevant": [[-1]] * QUERIES}, BOTH, "gnd.json: relevance must hold positions from 0"),
        ({"relevant": [[1.0]] * QUERIES}, BOTH, "gnd.json: relevant must hold positions (int"),
        ({"relevant": [[True]] * QUERIES}, BOTH, "gnd.json: relevant must hold positions (int"),
        ({"relevant": [["a", 1]] * QUERIES}, BOTH, "gnd.json: relevant must hold positions (int"),
        ({"relevant": [["a"]] * QUERIES}, BOTH, "gnd.json: relevant holds ids, and d.npy has no"),
        (
            {"relevant": [["item-40"]] * QUERIES},
            "q.npy --database ids.npz --ground-truth gnd.json",
            "gnd.json: relevant holds 'item-40', no id in ids.npz",
        ),
        ({"relevant": HARD, "excluded": HARD}, BOTH, "gnd.json: relevance and excluded must not"),
    ],
)
def test_what_does_not_fit_is_named(refusal, content, arguments, said):
    write(**content)
    save()
    ids = {"query_ids": np.arange(QUERIES), "database_ids": np.arange(ITEMS)}
    save("far.npz", **{**ids, "query_ids": np.arange(50, 50 + QUERIES)})
    save("own.npz", **ids)
    save("short.npz", **{**ids, "query_ids": np.arange(3)})
    save("twice.npz", **{**ids, "database_ids": np.maximum(np.arange(ITEMS), 3)})
    save("mixed.npz", **{**ids, "query_ids": IDS[:QUERIES]})
    assert said in refusal("evaluate", *arguments.split())
