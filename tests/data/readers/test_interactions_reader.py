"""Interactions of users and items: what is read, drawn and refused."""

import numpy as np
import pytest

from jaxhash.data.augment import Augment
from jaxhash.data.load import load_source
from jaxhash.data.pipeline import training_batches
from jaxhash.data.readers.interactions import NEIGHBORS, InteractionRows
from jaxhash.utils.errors import UserError

USERS, ITEMS = 30, 25
CHOSEN = np.random.default_rng(0).random((USERS, ITEMS)) < 0.5
CHOSEN[3] = False
PAIRS = np.argwhere(CHOSEN)
ROWS = InteractionRows(PAIRS, USERS, ITEMS)
EDGES = USERS + ITEMS + np.arange(len(PAIRS))


def write(path, **arrays):
    held_out = np.random.default_rng(1).random(len(PAIRS)) < 0.2
    np.savez(path, **{"train": PAIRS[~held_out], "test": PAIRS[held_out]} | arrays)
    return path


def neighbors(node):
    return (
        set(np.flatnonzero(CHOSEN[node]) + USERS)
        if node < USERS
        else set(np.flatnonzero(CHOSEN[:, node - USERS]))
    )


def test_rows_of_nodes_hold_the_node_and_distinct_neighbors():
    for node, *around in ROWS[np.arange(USERS + ITEMS)].tolist():
        held = [each for each in around if each >= 0]
        assert len(held) == min(len(neighbors(node)), NEIGHBORS)
        assert len(set(held)) == len(held) and set(held) <= neighbors(node)
    np.testing.assert_array_equal(ROWS[5:9], ROWS[np.arange(5, 9)])
    np.testing.assert_array_equal(ROWS[5], ROWS[np.array([5, 5])][1])


def test_views_are_user_item_and_items_not_chosen():
    seeds = np.arange(len(PAIRS), dtype=np.uint64)
    user, item, *others = ROWS.views(EDGES, seeds, 6)
    np.testing.assert_array_equal(user[:, 0], PAIRS[:, 0])
    np.testing.assert_array_equal(item[:, 0], PAIRS[:, 1] + USERS)
    for view in others:
        assert not CHOSEN[PAIRS[:, 0], view[:, 0] - USERS].any()
    for node, *around in np.concatenate([user, item, *others]).tolist():
        assert {each for each in around if each >= 0} <= neighbors(node)


def test_free_items_are_uniform():
    """Equally spaced numbers fall on each free item equally often."""
    for user in range(USERS):
        free = np.flatnonzero(~CHOSEN[user])
        shares = (np.arange(4 * len(free)) + 0.5) / (4 * len(free))
        drawn = ROWS.draw_free_items(np.array([user]), shares[None])[0]
        np.testing.assert_array_equal(drawn, free.repeat(4))


def test_what_is_drawn_depends_on_the_seed_of_its_row():
    seeds = np.arange(len(PAIRS), dtype=np.uint64) + np.uint64(7)
    all_rows, some = ROWS.views(EDGES, seeds, 4), ROWS.views(EDGES[5:9], seeds[5:9], 4)
    other = ROWS.views(EDGES, seeds + np.uint64(1), 4)
    for whole, part, changed in zip(all_rows, some, other, strict=True):
        np.testing.assert_array_equal(whole[5:9], part)
        assert (whole != changed).any()


def test_batches_are_the_same_for_processes_and_after_a_start(tmp_path):
    source = load_source("interactions:few.npz", write(tmp_path / "few.npz").parent)
    items = source.items_by_part["train"]
    options = {"batch_size": 16, "seed": 3, "augment": Augment(), "views": 4}
    batches = training_batches(source, items, **options)
    first = [next(batches) for _ in range(4)]
    later = next(training_batches(source, items, **options, start=3))
    halves = [
        next(training_batches(source, items, **options, process_index=i, process_count=2))
        for i in range(2)
    ]
    for view in range(4):
        np.testing.assert_array_equal(later.inputs[view], first[3].inputs[view])
        both = np.concatenate([half.inputs[view] for half in halves])
        np.testing.assert_array_equal(both, first[0].inputs[view])


def test_a_source_lists_what_queries_should_and_must_not_find(tmp_path):
    source = load_source("interactions:few.npz", write(tmp_path / "few.npz").parent)
    with np.load(tmp_path / "few.npz") as file:
        train, test = file["train"], file["test"]
    queries = source.items_by_part["query"]
    assert queries.tolist() == sorted(set(test[:, 0].tolist()))
    for row, user in enumerate(queries):
        assert source.relevant.of(row).tolist() == sorted(test[test[:, 0] == user, 1])
        assert source.excluded.of(row).tolist() == sorted(train[train[:, 0] == user, 1])
    assert source.name_of(USERS + 2) == "item 2"
    assert len(source.labels) == len(source.inputs) == USERS + ITEMS + len(train)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"train": np.zeros(3, int)}, "expected train"),
        ({"test": np.zeros((3, 2))}, "expected test"),
        ({"train": -np.ones((3, 2), int)}, "must be numbers from 0"),
        ({"test": PAIRS}, "are training interactions too"),
        ({"train": np.array([[0, 10**6]])}, "number them from 0"),
        ({"train": np.argwhere(np.ones((2, ITEMS)) > 0), "test": [[2, 1]]}, "nothing is left"),
    ],
)
def test_what_is_no_file_of_interactions_is_refused(tmp_path, arrays, words):
    write(tmp_path / "few.npz", **arrays)
    with pytest.raises(UserError, match=words):
        load_source("interactions:few.npz", tmp_path)


def test_repeated_pairs_count_once(tmp_path):
    write(tmp_path / "few.npz", test=np.array([[3, 1], [3, 1]]))
    source = load_source("interactions:few.npz", tmp_path)
    assert source.relevant.items.tolist() == [1]
    assert any("repeated test interactions" in note for note in source.notes)
