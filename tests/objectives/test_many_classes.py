"""Methods of very many classes: codes of classes by formula, softmax in blocks or of a sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.objectives import METHODS, Batch, Context, Setup
from jaxhash.ops import class_blocks
from jaxhash.ops.codebooks import LinearCodebook

ROWS, CLASSES, BITS = 6, 200, 16


def context(new_epoch=False, seed=0):
    key = jax.random.key(seed)
    return Context(key, jnp.float32(0), jnp.bool_(new_epoch), None, None, None)


def rows():
    """One row without a label, and one of padding that holds anything."""
    codes = np.random.default_rng(0).normal(size=(ROWS, BITS)).astype(np.float32)
    codes[5] = np.where(np.arange(BITS) % 2, 9.0, np.nan)
    labels, mask = np.array([0, 199, -1, 7, 7, 0], np.int32), np.arange(ROWS) < 5
    return jnp.asarray(codes), Batch(None, *map(jnp.asarray, (labels, np.arange(ROWS), mask)))


def train(name, options, classes=CLASSES, seed=0):
    """Returns values and gradients of two steps, with an epoch between them, and the start."""
    objective = METHODS[name].make(**options)
    start = objective.init(jax.random.key(0), Setup(BITS, 20, classes, False, None, None))
    codes, batch = rows()

    @jax.jit
    def step(state, new_epoch):
        def value(params, codes):
            variables = start._replace(params=params, state=state)
            found = objective.loss(variables, codes, batch, context(new_epoch, seed))
            return found.value, found.state

        return jax.value_and_grad(value, argnums=(0, 1), has_aux=True)(start.params, codes)

    (first, state), slopes = step(start.state, False)
    (second, _), slopes_after = step(state, True)
    return (first, slopes, second, slopes_after), start


#: Codes of the first four classes, of which every version has the same.
STORED = ["b331", "d0f9", "edae", "b2d2"]

METHODS_OF_CLASSES = [
    ("csq", {}),
    ("dpn", {}),
    ("dpn", {"targets": "adaptive", "margin": 0.1}),
    ("orthohash", {}),
    ("orthohash", {"margin_type": "arc", "scale": 5.0, "margin": 0.4}),
    ("cross-entropy", {}),
    ("greedyhash", {}),
    ("jmlh", {}),
    ("hyp2", {"threshold": 0.1}),
]


@pytest.mark.parametrize("name, options", METHODS_OF_CLASSES)
def test_many_classes_are_as_few(monkeypatch, name, options):
    few, _ = train(name, options)
    monkeypatch.setattr(class_blocks, "MANY_CLASSES", 13)
    monkeypatch.setattr(class_blocks, "BLOCK_SCORES", 33 * ROWS)
    many, start = train(name, options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), many, few)
    nodes = jax.tree.leaves(start.state, is_leaf=lambda node: isinstance(node, LinearCodebook))
    by_formula = any(isinstance(node, LinearCodebook) for node in nodes)
    assert by_formula == (name in ("csq", "dpn", "orthohash") and "targets" not in options)


def test_few_classes_of_today_are_a_table():
    """So that the states of stored runs have the leaves that they had."""
    assert train("csq", {})[1].state[0].codes.rows.shape == (CLASSES, BITS)
    assert class_blocks.MANY_CLASSES == 131_072


@pytest.mark.parametrize("name", ["cross-entropy", "greedyhash", "jmlh"])
def test_a_sample_of_classes_draws_anew_and_comes_close(name):
    (whole, *_), _ = train(name, {})
    values = [train(name, {"sampled_classes": 20_000}, seed=seed)[0][0] for seed in (0, 1)]
    if name != "jmlh":  # its bits are drawn by the key as well
        np.testing.assert_allclose(values, [whole, whole], rtol=0.05)
    assert values[0] != values[1]
    slopes = train(name, {"sampled_classes": 5})[0][1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_a_sample_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="sampled_classes=5 needs loss=softmax"):
        METHODS["cross-entropy"].make(sampled_classes=5, loss="sigmoid")
    objective = METHODS["cross-entropy"].make(sampled_classes=5)
    start = objective.init(jax.random.key(0), Setup(BITS, 20, CLASSES, True, None, None))
    codes, batch = rows()
    batch = batch._replace(labels=jnp.ones((ROWS, CLASSES), bool))
    with pytest.raises(ValueError, match="sampled_classes=5 is for class ids"):
        objective.loss(start, codes, batch, context())


def temporary_bytes(name, classes, **options):
    objective = METHODS[name].make(**options)
    setup = Setup(32, 20, classes, False, None, None)
    start = jax.eval_shape(lambda: objective.init(jax.random.key(0), setup))
    codes, ids = jax.ShapeDtypeStruct((64, 32), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)
    batch = Batch(None, ids, ids, jax.ShapeDtypeStruct((64,), bool))

    def step(variables, codes, batch):
        def value(params, codes):
            found = objective.loss(variables._replace(params=params), codes, batch, context())
            return found.value, found.state

        return jax.grad(value, argnums=(0, 1), has_aux=True)(variables.params, codes)

    program = jax.jit(step).lower(start, codes, batch).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_random_targets_of_many_classes_are_fair_signs_by_formula(monkeypatch):
    few = train("dpn", {"targets": "random"})[1].state
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (CLASSES, BITS))
    np.testing.assert_array_equal(few.rows, signs)  # as stored runs have them
    monkeypatch.setattr(class_blocks, "MANY_CLASSES", 13)
    book, more, other = (
        train("dpn", {"targets": "random", "codebook_seed": seed}, classes=classes)[1].state
        for seed, classes in ((0, CLASSES), (0, 10**6), (1, CLASSES))
    )
    labels = jnp.array([199, 3, -1, 0, 3])
    codes = jax.jit(lambda book, labels: book.codes_of(labels))(book, labels)
    np.testing.assert_array_equal(codes[1], codes[4])
    np.testing.assert_array_equal(codes, more.codes_of(labels))
    assert not codes[2].any() and set(np.unique(codes[labels >= 0])) == {-1, 1}
    assert (codes != other.codes_of(labels)).any() and np.isnan(book.codes_of(labels + 1)[0]).all()
    found = np.asarray(more.codes_of(jnp.arange(3000)))
    assert np.abs(found.mean(axis=0)).max() < 0.08  # four standard deviations
    assert np.abs(np.corrcoef(found.T) - np.eye(BITS)).max() < 0.08
    stored = found[:4] > 0  # a run that goes on has these
    assert [f"{int(row):04x}" for row in np.packbits(stored, axis=1).view(">u2")[:, 0]] == STORED


@pytest.mark.parametrize("name", ["csq", "dpn", "orthohash"])
def test_a_step_of_a_million_classes_has_no_scores_of_all(name):
    """Scores would take 256 MB, and codes as floats 128."""
    assert temporary_bytes(name, 10**6) < 40e6


def test_a_sample_of_a_million_classes_has_no_scores_of_all():
    """The gradient of the classifier, of 132 MB, is dense."""
    assert temporary_bytes("cross-entropy", 10**6, sampled_classes=1000) < 2.1 * 132e6


def test_a_step_of_a_million_random_targets_has_no_table():
    """A table of them would take 32 MB."""
    setup = Setup(32, 20, 10**6, False, None, None)
    start = METHODS["dpn"].make(targets="random").init(jax.random.key(0), setup)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(start)) < 1000
    assert temporary_bytes("dpn", 10**6, targets="random") < 1e6


def test_a_step_of_a_million_proxies_has_no_cosines_of_all():
    """They would take 256 MB; the gradient of the proxies, of 128 MB, is dense."""
    assert temporary_bytes("hyp2", 10**6, threshold=0.1) < 2.1 * 128e6
