"""Eight devices make of a batch what one device makes of it."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhash.models import CNN, Encoder
from jaxhash.models._base import Backbone, Block
from jaxhash.objectives import (
    Batch,
    ClassSimilarity,
    TableSharding,
    _tables,
    asymmetric_dsh,
    cibhash,
    combine,
    csq,
    dch,
    dfh,
    dhd,
    dhn,
    dpn,
    dpsh,
    dsdh,
    hashnet,
    hswd,
    orthohash,
    qsmih,
    sharded_leaves,
    shrewd,
    weighted,
    wglhh,
)
from jaxhash.runs import experiment as experiment_module
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.training.optimizer import make_optimizer
from jaxhash.training.parallel import DataParallel, split_batch
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step
from jaxhash.utils.errors import UserError

ITEMS, ROWS, CLASSES, BITS, STEPS = 40, 22, 13, 6, 5


def batches(padding=0):
    """Batches whose last rows are padding; 22 rows are no multiple of 8 either."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (ITEMS, 8, 8, 1)).astype(np.uint8)
    labels = rng.integers(0, CLASSES, ITEMS).astype(np.int32)
    for _ in range(STEPS):
        index = rng.permutation(ITEMS)[:ROWS].astype(np.int32)
        yield Batch(images[index], labels[index], index, np.arange(ROWS) < ROWS - padding)


def parts(target="sampled", unseen="ignored"):
    # In the usual units Adam divides rounding noise by itself where a gradient is 0; its epsilon is
    # raised so that the comparison is of the step, not of noise.
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3, eps=1e-3, weight_decay=1e-2)
    )
    return dict(
        model=Encoder(partial(CNN, widths=(4, 8)), BITS),
        objective=combine(hashnet(unseen=unseen), weighted(0.1, hswd(target=target))),
        optimizer=optimizer,
    )


def created(parts, **options):
    parts = {name: parts[name] for name in ("model", "objective", "optimizer")}
    return create_state(
        jax.random.key(0),
        jnp.zeros((1, 8, 8, 1), jnp.uint8),
        items=ITEMS,
        classes=CLASSES,
        **parts,
        **options,
    )


def begin(parts, devices, state, mapping="pmap", **options):
    """A compiled step from a batch on the host, on one device where none are given, and its state."""
    step = partial(train_step, steps_per_epoch=2, total_steps=STEPS, **parts, **options)
    if devices is None:
        return jax.jit(step), state
    parallel_step = DataParallel(step, devices, mapping=mapping)
    return lambda state, batch: parallel_step(
        state, parallel_step.shard_batch(batch)
    ), parallel_step.to_local(parallel_step.replicate(state))


def train(parts, devices, batches, mapping="pmap", **options):
    step, state = begin(parts, devices, created(parts, **options), mapping)
    losses = []
    for batch in batches:
        state, metrics = step(state, batch)
        losses.append(jax.device_get(metrics))
    return state, losses


def assert_close(one, eight):
    def compare(path, a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(
            np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6, err_msg=jax.tree_util.keystr(path)
        )

    jax.tree.map_with_path(compare, one, eight)


@pytest.mark.parametrize(
    "mapping, padding, target, unseen",
    [
        ("pmap", 0, "sampled", "ignored"),
        ("pmap", 7, "balanced", "dissimilar"),
        ("shard_map", 7, "sampled", "ignored"),
        ("shard_map", 0, "balanced", "dissimilar"),
    ],
)
def test_eight_devices_equal_one(mapping, padding, target, unseen):
    """Loss and terms, parameters, optimizer state, BatchNorm statistics, and the bank."""
    one, losses_of_one = train(parts(target, unseen), None, batches(padding))
    eight, losses_of_eight = train(parts(target, unseen), jax.devices(), batches(padding), mapping)
    assert_close(losses_of_one, losses_of_eight)
    assert all({"bit_balance", "dead_bits"} <= metrics.keys() for metrics in losses_of_eight)
    assert_close(one, eight)
    # All of it has changed since the start, so that its equality means something.
    start, _ = train(parts(target, unseen), None, [])
    for part in ("params", "batch_stats", "opt_state", "objective_state"):
        before, after = (jax.tree.leaves(getattr(state, part)) for state in (start, one))
        assert any(np.any(a != b) for a, b in zip(before, after, strict=True)), part


def test_equal_to_the_rows_without_padding():
    padded, losses_of_padded = train(parts("balanced"), jax.devices(), batches(padding=7))
    rows = [jax.tree.map(lambda array: array[: ROWS - 7], batch) for batch in batches(padding=7)]
    whole, losses = train(parts("balanced"), None, rows)
    assert_close(losses, losses_of_padded)
    assert_close(whole, padded)


def test_the_optimizer_of_the_command_line():
    """Two groups of rates and no decay on vectors, all of it equal over devices."""
    made = parts()
    made["optimizer"] = make_optimizer(
        learning_rate=1e-3,
        backbone_rate=0.1,
        freeze_stages=0,
        weight_decay=1e-2,
        clip_norm=1.0,
        warmup_steps=1,
        total_steps=STEPS,
    )
    one, losses_of_one = train(made, None, batches())
    eight, losses_of_eight = train(made, jax.devices(), batches())
    assert_close(losses_of_one, losses_of_eight)
    assert_close(one.params, eight.params)


both = pytest.mark.parametrize("mapping", ["pmap", "shard_map"])


@both
def test_all_devices_hold_the_same_bits(mapping):
    """Nobody checks that an output which is said to be replicated is: its shards are compared."""
    state, metrics = train(parts(), jax.devices(), batches(padding=7), mapping)
    for leaf in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key))):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == 8 and all(np.array_equal(shards[0], other) for other in shards[1:])


@both
def test_the_step_is_traced_once_and_the_state_is_donated(mapping):
    made, traces = parts(), []

    def counted(*args, **kwargs):
        traces.append(1)
        return train_step(*args, **kwargs)

    step = DataParallel(
        partial(counted, steps_per_epoch=2, total_steps=STEPS, **made), mapping=mapping
    )
    first = state = step.to_local(step.replicate(created(made)))
    for batch in batches():
        state, metrics = step(state, step.shard_batch(batch))
        assert metrics["loss"].sharding.is_fully_replicated
    assert len(traces) == 1
    assert first.params["model"]["head"]["kernel"].is_deleted()


def poisoned(objective, item):
    """An objective that is no number where a device has this item."""

    def loss(variables, codes, batch, context):
        part = objective.loss(variables, codes, batch, context)
        broken = jnp.any((jnp.asarray(batch.index) == item) & batch.mask)
        return part._replace(value=part.value * jnp.where(broken, jnp.nan, 1.0))

    return objective._replace(loss=loss)


@pytest.mark.parametrize("devices", [None, jax.devices], ids=["one", "eight"])
def test_a_broken_update_is_skipped_on_all_devices(devices):
    """One device of eight holds the item that breaks a step; the others drop their shares too."""
    devices = devices and devices()
    made, given = parts(), list(batches())
    item = given[0].index[0]
    holds = [bool((batch.index == item).any()) for batch in given]
    assert 0 < sum(holds) < STEPS
    broken = made | {"objective": poisoned(made["objective"], item)}
    step, state = begin(broken, devices, created(made), skip_broken=True)
    for batch, breaks in zip(given, holds, strict=True):
        before = jax.device_get(state.replace(key=None))
        state, metrics = step(state, batch)
        after = jax.device_get(state.replace(key=None))
        assert metrics["skipped"] == breaks and after.step == before.step + 1
        same = jax.tree.map(np.array_equal, before.replace(step=0), after.replace(step=0))
        assert all(jax.tree.leaves(same)) == breaks
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
        for leaf in jax.tree.leaves(state.params):
            for shard in leaf.addressable_shards:
                np.testing.assert_array_equal(shard.data, leaf.addressable_shards[0].data)


def test_skipping_changes_nothing_where_nothing_breaks():
    made = parts()
    kept, losses = train(made, None, batches())
    step = jax.jit(
        partial(train_step, steps_per_epoch=2, total_steps=STEPS, skip_broken=True, **made)
    )
    state = created(made)
    for batch, loss in zip(batches(), losses, strict=True):
        state, metrics = step(state, batch)
        assert metrics.pop("skipped") == 0
        assert metrics.keys() == loss.keys()
    assert_close(kept, state)


def test_split_pads_with_masked_rows():
    batch = next(batches())
    sharded = split_batch(batch, 8)
    assert sharded.mask.shape == (8, 3) and sharded.mask.sum() == ROWS
    np.testing.assert_array_equal(sharded.inputs.reshape(-1, 8, 8, 1)[:ROWS], batch.inputs)
    with pytest.raises(ValueError, match="22 rows.* over 23 devices"):
        split_batch(batch, 23)


# Tables that are spread over devices

SPREAD = TableSharding(items=ITEMS, classes=CLASSES)
SPREADABLE = {
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


def several_labels(batch):
    """The batch with multi-hot rows, of which some have no label and some have two."""
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
        ("pmap", "asymmetric_dsh", "ignored", False),
        ("pmap", "shrewd", "ignored", False),
        ("pmap", "csq", "ignored", True),
        ("shard_map", "dpn_adaptive", "ignored", False),
        ("pmap", "orthohash", "ignored", True),
        *[
            pytest.param("shard_map", method, "ignored", multi_label, marks=pytest.mark.slow)
            for method in SPREADABLE
            for multi_label in (False, True)
        ],
    ],
)
def test_spread_tables_change_nothing(monkeypatch, mapping, method, unseen, multi_label):
    """Each device has 6 of 48 rows for 40 images, and 2 of 16 for 13 classes."""
    monkeypatch.setattr(_tables, "ROW_MULTIPLE", 16)
    made = parts() | {"objective": SPREADABLE[method](unseen)}
    options = {"multi_label": multi_label}
    if method == "shrewd":
        embeddings = np.random.default_rng(2).normal(size=(ITEMS, 4)).astype(np.float32)
        options["class_similarity"] = ClassSimilarity(embeddings=embeddings)
    rows = [several_labels(b) if multi_label else b for b in batches(padding=7)]
    one, losses_of_one = train(made, None, rows, **options)
    parallel_step = DataParallel(
        partial(train_step, steps_per_epoch=2, total_steps=STEPS, **made),
        mapping=mapping,
        table_sharding=SPREAD,
    )
    state, losses = (
        parallel_step.to_local(
            parallel_step.replicate(created(made, table_sharding=SPREAD, **options))
        ),
        [],
    )
    for batch in rows:
        state, metrics = parallel_step(state, parallel_step.shard_batch(batch))
        losses.append(jax.device_get(metrics))
    assert_close(losses_of_one, losses)
    found = parallel_step.to_global(state)
    is_spread = sharded_leaves(found.objective_state, SPREAD)
    of_items = sharded_leaves(found.objective_state, TableSharding(items=ITEMS))
    assert any(jax.tree.leaves(is_spread))

    def without_padding(leaf, is_spread, is_of_items):
        assert leaf.sharding.is_fully_replicated != is_spread
        if is_spread:
            assert len(leaf.addressable_shards[0].data) == (6 if is_of_items else 2)
            leaf = leaf[: ITEMS if is_of_items else CLASSES]
        return leaf

    tables = jax.tree.map(without_padding, found.objective_state, is_spread, of_items)
    assert_close(one, found.replace(objective_state=tables))


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
def test_which_tables_are_spread(monkeypatch, objective, choice, least, expected):
    monkeypatch.setattr(experiment_module, "MIN_SHARDED_BYTES", least)
    config = replace(digits_hashnet_hswd(), objective=objective, spread_banks=choice)
    assert Experiment.open(config).sharding == expected


def test_a_table_that_cannot_be_spread_evenly():
    made = parts()
    step = partial(train_step, **made)
    parallel_step = DataParallel(
        step, table_sharding=TableSharding(items=ITEMS), devices=jax.devices()[:3]
    )
    with pytest.raises(
        UserError, match="bank or codebook of 40 rows cannot be spread evenly over 3"
    ):
        parallel_step.replicate(created(made))


# A large batch in chunks


@pytest.mark.parametrize("devices", [None, jax.devices], ids=["one", "eight"])
@pytest.mark.parametrize("size", [1, 2, 5, 22])
def test_chunks_have_the_loss_and_the_gradient_of_the_whole_batch(devices, size):
    """HashNet's bank, HSWD and pairs of the batch are those of all 22 rows; a mean is not."""
    devices = devices and devices()
    made = parts() | {
        "model": Encoder(partial(CNN, widths=(4, 8), freeze_norm=True), BITS),
        "objective": combine(hashnet(), dhn(), weighted(0.1, hswd())),
    }
    rows = list(batches(padding=7))
    whole, losses = train(made, devices, rows)
    chunked, losses_of_chunks = train(made | {"micro_batch_size": size}, devices, rows)
    assert_close(losses, losses_of_chunks)
    assert_close(whole, chunked)


def test_chunks_of_a_model_that_takes_statistics_of_the_batch():
    with pytest.raises(ValueError, match="statistics of the whole batch"):
        train(parts() | {"micro_batch_size": 2}, None, batches())


# Dropout


class Dropping(Block):
    def __call__(self, x, train, mask):
        return self.dropout(x.reshape(len(x), -1), 0.5, train)


class Dropped(Backbone):
    """The pixels, of which each stage drops half."""

    def stages(self):
        yield [partial(Dropping)]
        yield [partial(Dropping)]


def dropping(objective, remat=False, **options):
    model = Encoder(partial(Dropped, remat=remat), BITS)
    return options | {"model": model, "objective": objective, "optimizer": optax.sgd(0.1)}


def in_views(objective, batch):
    """The batch with as many views as the objective asks for, all of them alike."""
    return batch._replace(inputs=(batch.inputs,) * 2 if objective.views == 2 else batch.inputs)


def turned(batch):
    """The same items in another order."""
    return jax.tree.map(lambda array: array[::-1], batch)


DROPPED = {"cibhash": cibhash(), "dhd": dhd(), "csq": csq()}


def in_two_steps(name):
    return [in_views(DROPPED[name], batch) for batch in batches(padding=7)][:2]


@cache
def dropped_on_one_device(name):
    return train(dropping(DROPPED[name]), None, in_two_steps(name))


@pytest.mark.parametrize(
    "name, devices, mapping, options",
    [
        ("cibhash", 8, "pmap", {}),
        ("cibhash", 8, "shard_map", {"remat": True}),
        ("cibhash", None, "pmap", {"micro_batch_size": 5}),
        pytest.param("cibhash", 8, "pmap", {"micro_batch_size": 2}, marks=pytest.mark.slow),
        pytest.param("dhd", 3, "pmap", {}, marks=pytest.mark.slow),
        pytest.param("csq", 8, "pmap", {}, marks=pytest.mark.slow),
    ],
)
def test_a_draw_depends_on_its_item_and_view_alone(name, devices, mapping, options):
    """Not on devices, chunks or the place in the batch: two equal views are dropped apart."""
    one, losses = dropped_on_one_device(name)
    made, rows = dropping(DROPPED[name], **options), map(turned, in_two_steps(name))
    other, losses_there = train(made, devices and jax.devices()[:devices], rows, mapping)
    assert_close(losses, losses_there)
    assert_close(one.params, other.params)
