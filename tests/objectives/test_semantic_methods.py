"""SHREWD, SHRED and HPDH against loops, by what they know of meanings; on one device and on eight."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses
from jaxhash.objectives import (
    Batch,
    ClassSimilarity,
    Context,
    Setup,
    hpdh,
    shred,
    shrewd,
)

BITS, ITEMS, CLASSES = 4, 16, 4
IDS = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 0, -1, 1, 2, 3, 3, 1], np.int32)
HOT = np.maximum(np.eye(CLASSES, dtype=np.uint8)[IDS], np.eye(CLASSES, dtype=np.uint8)[IDS[::-1]])
HOT[IDS < 0] = 0
TABLE = np.array(
    [[0, 0.2, 1, 1], [0.2, 0, 1, 1], [1, 1, 0, 0.5], [1, 1, 0.5, 0]], np.float32
)  # fmt: skip
LEVELS = np.array([[7, 7, 5, 5], [1, 1, 1, 1]])
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(ITEMS, 3)).astype(np.float32)
CODES = RNG.normal(size=(ITEMS, BITS)).astype(np.float32)
MASK = np.arange(ITEMS) < ITEMS - 2
ORDER = np.random.default_rng(1).permutation(ITEMS).astype(np.int32)


def setup(labels, **semantics):
    return Setup(BITS, ITEMS, CLASSES, labels.ndim == 2, None, None, ClassSimilarity(**semantics))


def context(new_epoch=False, axis_name=None):
    return Context(jax.random.key(3), jnp.float32(0), jnp.asarray(new_epoch), None, None, axis_name)


def batch(labels):
    """All items in some order; the last rows are padding."""
    return Batch(None, *map(jnp.asarray, (labels[ORDER], ORDER, MASK)))


def start(objective, labels, **semantics):
    made = jax.jit(partial(objective.init, setup=setup(labels, **semantics)))
    return made(jax.random.key(0))


def padded(codes):
    return jnp.asarray(np.where(MASK[:, None], codes, np.nan))


def meaning_of(labels, known):
    """The semantic distances of the rows of the batch, pair by pair, and the rows that have some."""
    labels = labels[ORDER]
    if "embeddings" in known:
        rows = EMBEDDINGS[ORDER]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return (1 - rows @ rows.T) / 2, MASK
    if labels.ndim == 2:
        size = np.sqrt(np.outer(labels.sum(1), labels.sum(1)))
        cosine = np.divide(labels.astype(float) @ labels.T, size, where=size > 0, out=0 * size)
        return 1 - cosine, MASK & labels.any(axis=1)
    table = TABLE if "distances" in known else 1 - np.eye(CLASSES)
    return table[labels[:, None], labels[None, :]], MASK & (labels >= 0)


KNOWN = {
    "table": (IDS, {"distances": TABLE}),
    "classes": (IDS, {}),
    "multi-hot": (HOT, {}),
    "embeddings": (IDS, {"embeddings": EMBEDDINGS}),
}
each_known = pytest.mark.parametrize("known", KNOWN)


@each_known
def test_shrewd_is_its_two_losses_of_probabilities(known):
    labels, class_similarity = KNOWN[known]
    objective = shrewd(gamma=0.2, rho=1.0, penalty=0.5)
    found = objective.loss(
        start(objective, labels, **class_similarity), padded(CODES), batch(labels), context()
    )
    z = (1 + np.tanh(CODES)) / 2
    distances, valid = meaning_of(labels, class_similarity)
    rows = np.flatnonzero(valid)
    expected = losses.semantic_similarity(
        jnp.asarray(z[rows]),
        jnp.asarray(distances[np.ix_(rows, rows)], jnp.float32),
        gamma=0.2,
        rho=1.0,
        normalizer="weights",
    )
    np.testing.assert_allclose(found.terms["shrewd"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        found.value, expected + 0.5 * found.terms["shrewd_penalty"], rtol=1e-5
    )


def test_its_penalty_is_the_divergence_of_the_probabilities():
    objective = shrewd()
    found = objective.loss(start(objective, IDS), padded(CODES), batch(IDS), context())
    alone = shrewd(penalty=0.0)
    without = alone.loss(start(alone, IDS), padded(CODES), batch(IDS), context())
    key = jax.random.split(context().key, 2)[1]
    expected = losses.nearest_neighbor_kl(
        jnp.asarray((1 + np.tanh(CODES)) / 2), key=key, where=jnp.asarray(MASK)
    )
    np.testing.assert_allclose(found.terms["shrewd_penalty"], expected, rtol=1e-5)
    np.testing.assert_allclose(found.value - without.value, 0.1 * expected, rtol=1e-4)
    assert list(without.terms) == ["shrewd"]


def test_shred_adds_the_cross_entropy_of_probabilities():
    objective = shred(similarity=2.0, penalty=0.0)
    variables = start(objective, IDS, distances=TABLE)
    found = objective.loss(variables, padded(CODES), batch(IDS), context())
    classifier = variables.params[0]
    z = (1 + np.tanh(CODES)) / 2
    scores = z @ np.asarray(classifier["kernel"]) + np.asarray(classifier["bias"])
    labels = IDS[ORDER]
    costs = [
        np.log(np.exp(scores[i]).sum()) - scores[i, labels[i]]
        for i in range(ITEMS)
        if MASK[i] and labels[i] >= 0
    ]
    np.testing.assert_allclose(found.terms["shred_classification"], np.mean(costs), rtol=1e-5)
    alone = shrewd(penalty=0.0)
    semantic = alone.loss(
        start(alone, IDS, distances=TABLE), padded(CODES), batch(IDS), context()
    ).value
    np.testing.assert_allclose(found.value, np.mean(costs) + 2 * semantic, rtol=1e-5)
    only = shred(similarity=0.0, penalty=0.0)
    assert list(only.loss(start(only, IDS), padded(CODES), batch(IDS), context()).terms) == [
        "shred_classification"
    ]


def hpdh_loop(codes, labels, centers, sigma):
    """The loss of one batch, level by level, and the sums of the classes."""
    share = np.zeros((ITEMS, CLASSES))
    for i in np.flatnonzero(MASK):
        of = labels[ORDER][i]
        share[i] = of / max(of.sum(), 1) if labels.ndim == 2 else np.arange(CLASSES) == of
    rows = np.flatnonzero(share.any(axis=1))
    groups = {c: centers[c] for c in range(CLASSES)}
    group_of, value = {c: c for c in range(CLASSES)}, 0.0
    for level in [None, *LEVELS]:
        if level is not None:
            children = {}
            for c in range(CLASSES):
                children.setdefault(level[c], {})[group_of[c]] = groups[group_of[c]]
            groups = {g: np.mean(list(of.values()), axis=0) for g, of in children.items()}
            group_of = dict(enumerate(level))
        costs = []
        for i in rows:
            score = {g: -0.5 * sigma * np.sum((codes[i] - m) ** 2) for g, m in groups.items()}
            total = np.log(sum(np.exp(s) for s in score.values()))
            costs.append(sum(share[i, c] * (total - score[group_of[c]]) for c in range(CLASSES)))
        value += np.mean(costs)
    return value, share.T @ codes, share.sum(axis=0)


@pytest.mark.parametrize("labels", [IDS, HOT], ids=["ids", "multi-hot"])
def test_hpdh_over_three_epochs(labels):
    objective = hpdh(scale=0.7, bound=0.0, penalty=0.0)
    variables = start(objective, labels, levels=LEVELS)
    centers = np.asarray(variables.state[0].codes)
    assert set(np.unique(centers)) <= {-1.0, 1.0}
    for epoch in range(3):
        sums, counts = np.zeros((CLASSES, BITS)), np.zeros(CLASSES)
        for step in range(2):
            codes = np.random.default_rng(2 * epoch + step).normal(size=(ITEMS, BITS))
            codes = codes.astype(np.float32)
            found = loss_of(objective, variables, codes, labels, epoch > 0 and step == 0)
            value, more, number = hpdh_loop(codes, labels, centers, 0.7)
            np.testing.assert_allclose(found.terms["hpdh"], value, rtol=1e-5)
            sums, counts = sums + more, counts + number
            variables = variables._replace(state=found.state)
        centers = sums / counts[:, None]


def loss_of(objective, variables, codes, labels, new_epoch=False):
    return objective.loss(variables, padded(codes), batch(labels), context(new_epoch))


def test_hpdh_keeps_the_center_of_a_class_that_an_epoch_has_not_shown():
    objective = hpdh(penalty=0.0)
    labels = np.zeros(ITEMS, np.int32)
    variables = start(objective, labels)
    before = np.asarray(variables.state[0].codes)
    for new_epoch in (False, True):
        found = loss_of(objective, variables, CODES, labels, new_epoch)
        variables = variables._replace(state=found.state)
    after = np.asarray(variables.state[0].codes)
    np.testing.assert_array_equal(after[1:], before[1:])
    np.testing.assert_allclose(after[0], CODES[MASK].mean(axis=0), rtol=1e-5)


def test_hpdh_holds_codes_within_bounds_and_near_signs():
    objective = hpdh(margin=0.5, bound=3.0, penalty=0.2)
    found = loss_of(objective, start(objective, IDS), CODES, IDS)
    size = np.abs(CODES[MASK])
    np.testing.assert_allclose(
        found.terms["hpdh_bound"], np.maximum(size - 0.5, 0).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(found.terms["hpdh_penalty"], ((size - 1) ** 2).mean(), rtol=1e-5)
    terms = found.terms
    expected = terms["hpdh"] + 3 * terms["hpdh_bound"] + 0.2 * terms["hpdh_penalty"]
    np.testing.assert_allclose(found.value, expected, rtol=1e-5)


def test_meanings_that_do_not_fit_the_run():
    for objective, semantics, says in (
        (shrewd(), {"distances": TABLE[:2, :2]}, "those of 4 classes"),
        (shrewd(), {"embeddings": EMBEDDINGS[:3]}, "3 embeddings and 16 training items"),
        (hpdh(), {"levels": LEVELS[:, :2]}, "4 classes"),
        (hpdh(), {"levels": np.array([[0, 0, 1, 1], [0, 1, 1, 1]])}, "two groups of the next"),
    ):
        with pytest.raises(ValueError, match=says):
            objective.init(jax.random.key(0), setup(IDS, **semantics))
