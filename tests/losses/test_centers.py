"""CSQ, DPN, OrthoHash and HyP^2 against their formulas, their gradients and their invariances."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxhash import losses
from jaxhash.ops import class_blocks

N, BITS, CLASSES = 7, 6, 4
RNG = np.random.default_rng(0)
CENTERS = RNG.choice([-1, 1], (CLASSES, BITS)).astype(np.int8)
TARGETS = RNG.choice([-1, 1], (N, BITS)).astype(np.int8)
MIXED = np.array([-1, -0.5, 0, 1 / 3, 1], np.float32)[RNG.integers(5, size=(N, BITS))]
PROXIES = RNG.normal(size=(CLASSES, BITS)).astype(np.float32)
LABELS = np.array(
    [
        [1, 0, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 1],
        [1, 1, 0, 1],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 1, 0],
    ]
)
WHERE = np.array([True, True, False, True, True, True, True])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def naive_csq(u, centers, rows):
    total = []
    for i in rows:
        for j in range(BITS):
            p = (np.tanh(float(u[i, j])) + 1) / 2
            total.append(-np.log(p if centers[i, j] > 0 else 1 - p))
    return np.mean(total)


def naive_dpn(u, targets, rows, margin=1.0):
    total = []
    for i in rows:
        for j in range(BITS):
            share, x = (1 + targets[i, j]) / 2, float(u[i, j])
            total.append(share * max(0, margin - x) + (1 - share) * max(0, margin + x))
    return np.mean(total)


def naive_orthohash(u, centers, labels, rows, scale=8.0, margin=0.2, arc=False):
    total = []
    for i in rows:
        if not labels[i].any():
            continue
        logits = []
        for c in range(CLASSES):
            cos = cosine(u[i].astype(float), centers[c].astype(float))
            if labels[i, c]:
                cos = np.cos(np.arccos(cos) + margin) if arc else cos - margin
            logits.append(scale * cos)
        logs = np.array(logits) - np.log(np.exp(logits).sum())
        total.append(-(labels[i] / labels[i].sum() * logs).sum())
    return np.mean(total)


def naive_proxies(u, proxies, labels, rows, threshold=0.1):
    near, far = [], []
    for i in rows:
        if labels[i].any():
            for c in range(CLASSES):
                cos = cosine(u[i].astype(float), proxies[c].astype(float))
                (near if labels[i, c] else far).append(
                    1 - cos if labels[i, c] else max(0, cos - threshold)
                )
    return np.mean(near) + np.mean(far)


def naive_pairs(u, v, similar, where, threshold=0.1):
    total = [
        max(0, cosine(u[i].astype(float), v[j].astype(float)) - threshold)
        for i in range(len(u))
        for j in range(len(v))
        if where[i, j] and not similar[i, j]
    ]
    return np.mean(total) if total else 0.0


def of_rows(labels, targets):
    """Each loss of rows as ``loss(codes, the rows that go with them, where=, axis_name=)``."""
    return {
        "csq": (losses.csq, targets),
        "dpn": (losses.dpn, MIXED),
        "orthohash": (lambda u, y, **k: losses.orthohash(u, jnp.asarray(CENTERS), y, **k), labels),
        "orthoarc": (
            lambda u, y, **k: losses.orthohash(
                u, jnp.asarray(CENTERS), y, margin_type="arc", scale=5.0, **k
            ),
            labels,
        ),
        "hyp2": (
            lambda u, y, **k: losses.hyp2_proxies(u, jnp.asarray(PROXIES), y, threshold=0.1, **k),
            labels,
        ),
    }


LOSSES = of_rows(LABELS, TARGETS)
NAIVE = {
    "csq": naive_csq,
    "dpn": naive_dpn,
    "orthohash": lambda u, y, rows: naive_orthohash(u, CENTERS, y, rows),
    "orthoarc": lambda u, y, rows: naive_orthohash(u, CENTERS, y, rows, scale=5.0, arc=True),
    "hyp2": lambda u, y, rows: naive_proxies(u, PROXIES, y, rows),
}
each = pytest.mark.parametrize("name", LOSSES)


@cache
def value_and_slope(name):
    return jax.jit(jax.value_and_grad(LOSSES[name][0]), static_argnames="axis_name")


def evaluate(name, codes, where=None, rows=slice(None)):
    beside = jnp.asarray(LOSSES[name][1][rows])
    return value_and_slope(name)(jnp.asarray(codes), beside, where=where)


# Values


def test_csq_by_hand():
    value = losses.csq(jnp.array([[0.0, 0.5]]), jnp.array([[1, -1]], jnp.int8))
    assert value == pytest.approx((np.log(2) + np.log(1 + np.e)) / 2)


def test_dpn_by_hand():
    codes, targets = jnp.array([[0.5, -3.0, 4.0, 0.5]]), jnp.array([[1, 1, 1, -1]], jnp.int8)
    assert losses.dpn(codes, targets, margin=2.0) == pytest.approx((1.5 + 5 + 0 + 2.5) / 4)


def test_dpn_of_a_mean_of_targets_is_the_mean_of_the_losses():
    u = jnp.asarray(normal(N, BITS))
    several = [jnp.asarray(CENTERS[RNG.integers(CLASSES, size=N)]) for _ in range(3)]
    mean = sum(t.astype(jnp.float32) for t in several) / 3
    apart = np.mean([losses.dpn(u, t) for t in several])
    np.testing.assert_allclose(losses.dpn(u, mean), apart, rtol=1e-6)


@pytest.mark.parametrize("margin_type, shift", [("cosine", 0.3), ("arc", 1 - np.cos(0.3))])
def test_orthohash_by_hand(margin_type, shift):
    """Along one of two orthogonal centers: logits 2 (1 - shift) and 0."""
    value = losses.orthohash(
        jnp.array([[3.0, 3.0]]),
        jnp.array([[1, 1], [1, -1]], jnp.int8),
        jnp.array([[1, 0]]),
        scale=2.0,
        margin=0.3,
        margin_type=margin_type,
    )
    assert value == pytest.approx(np.log1p(np.exp(-2 * (1 - shift))), abs=1e-3)


def test_hyp2_pairs_by_hand():
    u = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    similar = jnp.eye(3, dtype=bool)
    value = losses.hyp2_pairs(u, u, similar, threshold=0.5)
    assert value == pytest.approx(4 * (np.sqrt(0.5) - 0.5) / 6)


@each
@pytest.mark.parametrize("masked", [False, True])
def test_is_the_formula(name, masked):
    codes = 1.5 * normal(N, BITS)
    rows = np.flatnonzero(WHERE) if masked else range(N)
    value, _ = evaluate(name, codes, jnp.asarray(WHERE) if masked else None)
    np.testing.assert_allclose(value, NAIVE[name](codes, LOSSES[name][1], rows), rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_pairs_are_the_formula(masked):
    u, v = normal(5, BITS), normal(8, BITS, seed=1)
    similar = RNG.random((5, 8)) < 0.4
    where = RNG.random((5, 8)) < 0.6 if masked else np.ones((5, 8), bool)
    value = losses.hyp2_pairs(
        *map(jnp.asarray, (u, v, similar)),
        threshold=0.1,
        where=jnp.asarray(where) if masked else None,
    )
    np.testing.assert_allclose(value, naive_pairs(u, v, similar, where), rtol=1e-5)


# Gradients


@pytest.mark.parametrize("name", ["orthohash", "orthoarc"])
def test_an_aligned_code_has_a_finite_gradient(name):
    codes = 3.0 * CENTERS[np.argmax(LABELS, axis=1)].astype(np.float32)
    for sign in (1, -1):
        value, slope = evaluate(name, sign * codes)
        assert np.isfinite(value) and np.all(np.isfinite(slope))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_cosine_of_exactly_one_has_a_finite_gradient(sign):
    """Four bits: a direction of four halves, whose cosine with itself is not rounded."""
    codes, centers = jnp.full((1, 4), sign), jnp.array([[1, 1, 1, 1], [1, 1, -1, -1]], jnp.int8)

    def loss(u):
        return losses.orthohash(u, centers, jnp.array([[1, 0]]), margin_type="arc")

    assert np.all(np.isfinite(jax.jit(jax.grad(loss))(codes)))


def test_csq_still_draws_a_code_that_has_rounded_to_the_wrong_sign():
    slope = jax.grad(losses.csq)(jnp.full((1, 2), 50.0), jnp.array([[-1, 1]], jnp.int8))
    np.testing.assert_allclose(slope, [[1.0, 0.0]], atol=1e-6)


# Invariances


@pytest.mark.parametrize("kind", ["labels of all", "no labels"])
def test_hyp2_of_one_kind_of_pair_alone(kind):
    labels = jnp.full((N, CLASSES), int(kind == "labels of all"))
    codes = jnp.asarray(normal(N, BITS))
    loss = partial(losses.hyp2_proxies, threshold=0.1)
    value, slope = jax.value_and_grad(loss)(codes, jnp.asarray(PROXIES), labels)
    expected = np.mean([1 - cosine(u, p) for u in codes for p in PROXIES])
    np.testing.assert_allclose(value, expected if kind == "labels of all" else 0.0, rtol=1e-5)
    assert np.all(np.isfinite(slope))
    alike = losses.hyp2_pairs(codes, codes, jnp.ones((N, N), bool), threshold=0.1)
    assert alike == 0


@pytest.mark.parametrize("threshold", [0.1, -0.9])
def test_hyp2_of_class_ids_is_that_of_their_rows(monkeypatch, threshold):
    """In blocks of two classes; with the lower threshold a row's own class would cost as well."""
    monkeypatch.setattr(class_blocks, "BLOCK_SCORES", 2 * N)
    ids = jnp.arange(N) % CLASSES - (jnp.arange(N) == 1)
    arrays = jnp.asarray(normal(N, BITS)) + jnp.asarray(PROXIES)[ids], jnp.asarray(PROXIES)
    loss = partial(losses.hyp2_proxies, threshold=threshold, where=jnp.arange(N) != 2)
    found, expected = (
        jax.value_and_grad(loss, argnums=(0, 1))(*arrays, labels)
        for labels in (ids, jax.nn.one_hot(ids, CLASSES))
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), found, expected)


# Errors


CODES = jnp.ones((3, 2))
BOOK = jnp.ones((4, 2))
ROWS = jnp.ones((3, 4))
ORTHO, HYP = losses.orthohash, losses.hyp2_proxies


@pytest.mark.parametrize(
    "error, name, call",
    [
        (ValueError, "margin", lambda: losses.dpn(CODES, CODES, margin=0.0)),
        (ValueError, "scale", lambda: ORTHO(CODES, BOOK, ROWS, scale=0.0)),
        (ValueError, "margin", lambda: ORTHO(CODES, BOOK, ROWS, margin=-0.1)),
        (ValueError, "margin_type", lambda: ORTHO(CODES, BOOK, ROWS, margin_type="sine")),
    ],
)
def test_errors_name_the_argument(unchecked, error, name, call):
    with pytest.raises(error, match=rf"^{name}\b"):
        call()


def test_unknown_margin_type_is_refused_under_type_checks_too():
    with pytest.raises((ValueError, TypeCheckError), match="margin_type"):
        ORTHO(CODES, BOOK, ROWS, margin_type="sine")
