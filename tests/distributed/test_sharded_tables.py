"""Tables of objectives with sharded rows give the results of replicated tables."""

from functools import partial

import jax
import numpy as np
import pytest
from steps import (
    CLASSES,
    ITEMS,
    STEPS,
    assert_close,
    batches,
    make_parts,
    new_state,
    train,
)

from jaxhash.objectives import (
    ClassSimilarity,
    TableSharding,
    _pairs,
    _tables,
    asymmetric_dsh,
    csq,
    dch,
    dfh,
    dpn,
    dpsh,
    dsdh,
    hashnet,
    orthohash,
    qsmih,
    sharded_leaves,
    shrewd,
    wglhh,
)
from jaxhash.runs import experiment as experiment_module
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.training.parallel import DataParallel
from jaxhash.training.step import train_step
from jaxhash.utils.errors import UserError

SHARDING = TableSharding(items=ITEMS, classes=CLASSES)
SHARDED_METHODS = {
    "hashnet": lambda unseen: hashnet(unseen=unseen),
    "dpsh": lambda unseen: dpsh(unseen=unseen),
    "dfh": lambda unseen: dfh(unseen=unseen),
    "dch": lambda unseen: dch(pairs="bank", unseen=unseen),
    "qsmih": lambda unseen: qsmih(pairs="bank", unseen=unseen),
    "wglhh": lambda unseen: wglhh(pairs="bank", unseen=unseen),
    "dsdh": lambda unseen: dsdh(sweeps=2, unseen=unseen, penalty=0.5),
    "asymmetric_dsh": lambda unseen: asymmetric_dsh(),
    "shrewd": lambda unseen: shrewd(penalty=0.0),
    "csq": lambda unseen: csq(),
    "dpn": lambda unseen: dpn(),
    "dpn_adaptive": lambda unseen: dpn(targets="adaptive", margin=0.01),
    "orthohash": lambda unseen: orthohash(),
    "orthohash_arc": lambda unseen: orthohash(margin_type="arc"),
}


def multi_hot(batch):
    """Replaces labels by multi-hot rows, some without a label and some with two."""
    others = np.random.default_rng(1).integers(-1, CLASSES, ITEMS)[batch.index]
    labels = (batch.labels[:, None] == np.arange(CLASSES)) & (batch.index[:, None] % 5 > 0)
    return batch._replace(
        labels=(labels | (others[:, None] == np.arange(CLASSES))).astype(np.uint8)
    )


@pytest.mark.parametrize(
    "mapping, method, unseen, multi_label",
    [
        ("pmap", "hashnet", "ignored", False),
        ("shard_map", "hashnet", "dissimilar", True),
        ("pmap", "dfh", "dissimilar", False),
        ("shard_map", "dsdh", "ignored", False),
        ("pmap", "dsdh", "dissimilar", True),
        ("shard_map", "asymmetric_dsh", "ignored", True),
        ("shard_map", "dpn_adaptive", "ignored", False),
        ("jit", "hashnet", "dissimilar", False),
        ("jit", "dsdh", "ignored", True),
        *[
            pytest.param("shard_map", method, "ignored", multi_label, marks=pytest.mark.slow)
            for method in SHARDED_METHODS
            for multi_label in (False, True)
        ],
    ],
)
def test_sharded_tables_equal_replicated_tables(monkeypatch, mapping, method, unseen, multi_label):
    """Each device holds 6 of 48 rows for 40 images, and 2 of 16 for 13 classes."""
    monkeypatch.setattr(_tables, "ROW_MULTIPLE", 16)
    parts = make_parts() | {"objective": SHARDED_METHODS[method](unseen)}
    options = {"multi_label": multi_label}
    if method == "shrewd":
        embeddings = np.random.default_rng(2).normal(size=(ITEMS, 4)).astype(np.float32)
        options["class_similarity"] = ClassSimilarity(embeddings=embeddings)
    rows = [multi_hot(b) if multi_label else b for b in batches(padding=7)]
    one, single_metrics = train(parts, None, rows, **options)
    parallel_step = DataParallel(
        partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts),
        mapping=mapping,
        table_sharding=SHARDING,
    )
    state, losses = (
        parallel_step.to_local(
            parallel_step.replicate(new_state(parts, table_sharding=SHARDING, **options))
        ),
        [],
    )
    for batch in rows:
        state, metrics = parallel_step(state, parallel_step.shard_batch(batch))
        losses.append(jax.device_get(metrics))
    assert_close(single_metrics, losses)
    found = parallel_step.to_global(state)
    is_sharded = sharded_leaves(found.objective_state, SHARDING)
    of_items = sharded_leaves(found.objective_state, TableSharding(items=ITEMS))
    assert any(jax.tree.leaves(is_sharded))

    def without_padding(leaf, is_sharded, is_of_items):
        assert leaf.sharding.is_fully_replicated != is_sharded
        if is_sharded:
            assert len(leaf.addressable_shards[0].data) == (6 if is_of_items else 2)
            leaf = leaf[: ITEMS if is_of_items else CLASSES]
        return leaf

    tables = jax.tree.map(without_padding, found.objective_state, is_sharded, of_items)
    assert_close(one, found.replace(objective_state=tables))


@pytest.mark.parametrize(
    "mapping, method", [("pmap", "hashnet"), ("shard_map", "asymmetric_dsh"), ("jit", "dch")]
)
def test_blocks_of_sharded_tables(monkeypatch, mapping, method):
    """Blocks of 4 of the 6 rows that a device holds, so that the last overlaps the first."""
    monkeypatch.setattr(_pairs, "MAX_PAIRS", 0)
    monkeypatch.setattr(_pairs, "BLOCK_PAIRS", 4 * 24)
    test_sharded_tables_equal_replicated_tables(monkeypatch, mapping, method, "ignored", False)


@pytest.mark.parametrize(
    "objective, choice, least, expected",
    [
        (
            "hashnet",
            "auto",
            800 * 32 * 4,
            TableSharding(items=800),
        ),  # codes of the bank, and its labels
        ("hashnet", "auto", 800 * (32 * 4 + 4 + 1) + 1, TableSharding()),
        ("csq", "auto", 10 * 32, TableSharding(classes=10)),
        ("csq", "auto", 10 * 32 + 1, TableSharding()),
        ("csq", "always", 2**40, TableSharding(800, 10)),
        ("hashnet", "never", 1, TableSharding()),
    ],
)
def test_tables_that_a_configuration_shards(monkeypatch, objective, choice, least, expected):
    monkeypatch.setattr(experiment_module, "MIN_SHARDED_BYTES", least)
    config = digits_hashnet_hswd().replace(objective=objective, spread_banks=choice)
    assert Experiment.open(config).sharding == expected


def test_rows_must_be_a_multiple_of_the_devices():
    parts = make_parts()
    step = partial(train_step, **parts)
    parallel_step = DataParallel(
        step, table_sharding=TableSharding(items=ITEMS), devices=jax.devices()[:3]
    )
    with pytest.raises(UserError, match="40 rows.*3 devices"):
        parallel_step.replicate(new_state(parts))
