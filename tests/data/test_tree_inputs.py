"""Inputs that are a tree: rows, batches, augmentation, the stored form, and equal inputs."""

import dataclasses
import json
from itertools import islice

import numpy as np
import pytest

from jaxhash.data.augment import Augment
from jaxhash.data.checks.duplicates import find_equal_inputs
from jaxhash.data.form_files import read_form, write_input_form
from jaxhash.data.pipeline import evaluation_batches, training_batches
from jaxhash.data.rows import Rows, TreeRows
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split
from jaxhash.data.tree_form import TreeForm, form_from_json, measure_rows
from jaxhash.utils.errors import UserError

RANDOM = np.random.default_rng(0)
TITLE = RANDOM.normal(size=(20, 3)).astype(np.float32)
BODY = 5 * RANDOM.normal(size=(20, 4)).astype(np.float32)
IDS = RANDOM.integers(0, 9, (20, 2)).astype(np.int32)
TREE = TreeRows({"title": TITLE, "body": BODY, "ids": IDS})
SOURCE = Source("documents", TREE, np.arange(20, dtype=np.int32) % 2, ("a", "b"))
ITEMS = np.arange(20)[::-1]


def batches(**options):
    options = {"batch_size": 8, "seed": 3, "augment": Augment()} | options
    return list(islice(training_batches(SOURCE, ITEMS, **options), 4))


def test_rows_of_a_tree_are_a_dict_in_the_order_of_the_names():
    assert isinstance(TREE, Rows) and len(TREE) == 20
    rows = TREE[np.array([3, 1])]
    assert list(rows) == ["body", "ids", "title"]
    np.testing.assert_array_equal(rows["title"], TITLE[[3, 1]])
    assert TREE[5]["body"].shape == (4,)
    with pytest.raises(ValueError, match="equally many"):
        TreeRows({"title": TITLE, "body": BODY[:5]})
    with pytest.raises(ValueError, match="equally many"):
        TreeRows({})


def test_a_batch_has_the_same_items_in_all_parts():
    for batch in batches():
        items = ITEMS[batch.index[batch.mask]]
        for name, rows in TREE.parts.items():
            np.testing.assert_array_equal(batch.inputs[name][batch.mask], rows[items])
    seen = [
        batch.inputs["body"][batch.mask]
        for batch in evaluation_batches(SOURCE, ITEMS, batch_size=8)
    ]
    np.testing.assert_array_equal(np.concatenate(seen), BODY[ITEMS])


def test_processes_and_a_start_change_no_bit_of_a_tree():
    augment = Augment(feature_dropout=0.3)
    whole = batches(augment=augment)
    for place in (0, 1):
        shares = batches(augment=augment, process_index=place, process_count=2)
        for batch, share in zip(whole, shares, strict=True):
            for name in TREE.parts:
                part = batch.inputs[name][4 * place : 4 * place + 4]
                np.testing.assert_array_equal(part, share.inputs[name])
    later = batches(augment=augment, start=2)
    for batch, other in zip(whole[2:], later, strict=False):
        for name in TREE.parts:
            np.testing.assert_array_equal(batch.inputs[name], other.inputs[name])


def test_dropout_draws_for_each_part_and_leaves_integers():
    (batch, *_) = batches(augment=Augment(feature_dropout=0.5))
    items = ITEMS[batch.index]
    np.testing.assert_array_equal(batch.inputs["ids"], IDS[items])
    lost = [batch.inputs[name][:, :3] == 0 for name in ("title", "body")]
    assert 0.2 < lost[0].mean() < 0.8 and (lost[0] != lost[1]).any()


def test_each_part_has_a_form_that_is_stored(tmp_path):
    form = measure_rows(TREE, np.arange(10))
    prepared = form.prepare(TREE)[:10]
    for name in ("title", "body"):
        assert np.sqrt(np.mean(np.square(prepared[name]))) == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(prepared["ids"], IDS[:10])
    assert form_from_json(json.loads(json.dumps(form.to_json()))) == form
    write_input_form(tmp_path, form, "digest")
    assert read_form(tmp_path / "inputs.json") == form
    form.check(TREE, "these", {})
    for other, words in (
        (TreeRows({"title": TITLE, "body": BODY}), "body and title"),
        (TreeRows({"title": TITLE, "body": BODY[:, :2], "ids": IDS}), "these, body"),
        (TITLE, "one part"),
    ):
        with pytest.raises(UserError, match=words):
            form.check(other, "these", {})


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "tree"},
        {"kind": "tree", "forms": {}},
        {"kind": "tree", "forms": {"a": {}}},
        {"kind": "tree", "forms": [], "shape": 3},
    ],
)
def test_a_damaged_form_of_a_tree_is_refused(content):
    with pytest.raises(ValueError, match="expected"):
        form_from_json(content)


def test_warnings_name_the_part():
    tree = TreeRows({"title": np.concatenate([TITLE[:10], 9 * TITLE[10:]]), "body": BODY})
    form = measure_rows(tree, np.arange(10))
    assert isinstance(form, TreeForm)
    (words,) = form.warnings(tree, {"query": np.arange(10, 20)})
    assert words.startswith("title: ")


def test_items_are_equal_if_all_their_parts_are():
    tree = TreeRows(
        {"title": np.array([[1.0], [1.0], [1.0]]), "body": np.array([[2.0], [3.0], [2.0]])}
    )
    split = Split("some", np.array([0]), np.array([1]), np.array([2]))
    counts = find_equal_inputs(split, tree).counts
    assert counts["train"] == {"query": 0, "database": 1}


def test_a_source_of_a_tree_can_be_replaced_by_a_prepared_one():
    form = measure_rows(TREE, np.arange(20))
    source = dataclasses.replace(SOURCE, inputs=form.prepare(TREE))
    assert source.inputs[:1]["title"].dtype == np.float32
