"""CSQ, DPN, OrthoHash and HyP^2 against their formulas, their gradients and their invariances."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from jaxtyping import TypeCheckError

from jaxhash import losses

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


@each
def test_gradient_is_that_of_finite_differences(name):
    loss, beside = LOSSES[name]
    codes = normal(N, BITS, seed=3)
    codes = jnp.asarray(np.where(np.abs(np.abs(codes) - 1) < 0.1, 0.5, codes))  # no kink of a hinge
    of_codes = jax.jit(lambda u: loss(u, jnp.asarray(beside)))
    check_grads(of_codes, (codes,), 1, modes=["rev"], eps=1e-2)


def test_gradients_of_proxies_and_pairs():
    u, p = jnp.asarray(normal(N, BITS, seed=3)), jnp.asarray(PROXIES)
    proxies = partial(losses.hyp2_proxies, labels=jnp.asarray(LABELS), threshold=0.1)
    check_grads(jax.jit(proxies), (u, p), 1, modes=["rev"], eps=1e-2)
    similar = jnp.asarray(LABELS @ LABELS.T > 0)
    pairs = partial(losses.hyp2_pairs, similar=similar, threshold=-0.2)
    check_grads(jax.jit(pairs), (u, u), 1, modes=["rev"], eps=1e-2)


@each
@pytest.mark.parametrize("size", [0.0, -0.0, 50.0, -50.0, 1e-30, 1e30])
def test_broken_sizes_have_finite_gradients(name, size):
    value, slope = evaluate(name, np.full((N, BITS), size, np.float32))
    assert np.isfinite(value) and np.all(np.isfinite(slope))


@pytest.mark.parametrize("name", ["orthohash", "orthoarc"])
def test_an_aligned_code_has_a_finite_gradient(name):
    codes = 3.0 * CENTERS[np.argmax(LABELS, axis=1)].astype(np.float32)
    for sign in (1, -1):
        value, slope = evaluate(name, sign * codes)
        assert np.isfinite(value) and np.all(np.isfinite(slope))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_cosine_of_exactly_one_has_a_finite_gradient(sign):
    """Of four bits: a direction of four halves, whose cosine with itself is not rounded."""
    codes, centers = jnp.full((1, 4), sign), jnp.array([[1, 1, 1, 1], [1, 1, -1, -1]], jnp.int8)

    def loss(u):
        return losses.orthohash(u, centers, jnp.array([[1, 0]]), margin_type="arc")

    assert np.all(np.isfinite(jax.jit(jax.grad(loss))(codes)))


def test_csq_still_draws_a_code_that_has_rounded_to_the_wrong_sign():
    slope = jax.grad(losses.csq)(jnp.full((1, 2), 50.0), jnp.array([[-1, 1]], jnp.int8))
    np.testing.assert_allclose(slope, [[1.0, 0.0]], atol=1e-6)


# Invariances


@each
def test_rows_are_treated_alike(name):
    codes, rows = normal(N, BITS), np.random.default_rng(2).permutation(N)
    value, slope = evaluate(name, codes)
    again, slope_again = evaluate(name, codes[rows], rows=rows)
    np.testing.assert_allclose(again, value, rtol=1e-6)
    np.testing.assert_allclose(slope_again, slope[rows], atol=1e-7)


@pytest.mark.parametrize("name", ["orthohash", "orthoarc", "hyp2"])
def test_length_does_not_matter(name):
    codes = normal(N, BITS)
    longer = codes * np.arange(1, N + 1, dtype=np.float32)[:, None]
    np.testing.assert_allclose(evaluate(name, longer)[0], evaluate(name, codes)[0], rtol=1e-5)


@each
def test_eager_is_jitted(name):
    loss, beside = LOSSES[name]
    codes = jnp.asarray(normal(N, BITS))
    eager = loss(codes, jnp.asarray(beside))
    np.testing.assert_allclose(eager, evaluate(name, codes)[0], rtol=1e-6)


@each
@pytest.mark.parametrize("filling", [np.nan, np.inf, 1e30])
def test_masked_batch_is_its_valid_rows(name, filling):
    valid = normal(N, BITS)
    padded = np.where(WHERE[:, None], valid, np.float32(filling))
    value, slope = evaluate(name, padded, jnp.asarray(WHERE))
    expected, expected_slope = evaluate(name, valid[WHERE], rows=WHERE)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope[WHERE], expected_slope, atol=1e-7)
    np.testing.assert_array_equal(slope[~WHERE], 0.0)


def test_masked_pairs_are_their_valid_rows_and_columns():
    valid = jnp.asarray(normal(N, BITS))
    padded = jnp.where(WHERE[:, None], valid, jnp.nan)
    similar, where = (
        jnp.asarray(LABELS @ LABELS.T > 0),
        jnp.asarray(WHERE[:, None] & WHERE[None, :]),
    )

    def loss(u, similar, where=None):
        return losses.hyp2_pairs(u, u, similar, threshold=-0.1, where=where)

    value_and_slope = jax.jit(jax.value_and_grad(loss))
    value, slope = value_and_slope(padded, similar, where)
    expected, expected_slope = value_and_slope(valid[WHERE], similar[WHERE][:, WHERE])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope[WHERE], expected_slope, atol=1e-7)
    np.testing.assert_array_equal(slope[~WHERE], 0.0)


@each
def test_batch_without_a_valid_row_costs_nothing(name):
    value, slope = evaluate(name, np.full((N, BITS), np.nan, np.float32), jnp.zeros(N, bool))
    assert value == 0
    np.testing.assert_array_equal(slope, 0.0)


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


@each
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_accumulated_in_float32(name, dtype):
    codes = jnp.asarray(normal(N, BITS)).astype(dtype)
    value, slope = evaluate(name, codes)
    assert value.dtype == jnp.float32 and slope.dtype == dtype
    np.testing.assert_allclose(value, evaluate(name, codes.astype(jnp.float32))[0], rtol=1e-6)


# Several devices


def cost_and_gradients(weights, proxies, images, labels, targets, where, *, axis_name=None):
    def cost(weights, proxies):
        codes, options = images @ weights, {"where": where, "axis_name": axis_name}
        columns = (codes, labels, where)
        if axis_name is not None:
            columns = jax.lax.all_gather(columns, axis_name, tiled=True)
        others, other_labels, valid = columns
        similar = (labels @ other_labels.T) > 0
        return (
            losses.csq(codes, targets, **options)
            + losses.dpn(codes, targets, **options)
            + losses.orthohash(codes, jnp.asarray(CENTERS), labels, **options)
            + losses.hyp2_proxies(codes, proxies, labels, threshold=0.1, **options)
            + losses.hyp2_pairs(
                codes,
                others,
                similar,
                threshold=-0.3,
                where=where[:, None] & valid[None, :],
                axis_name=axis_name,
            )
        )

    value, slopes = jax.value_and_grad(cost, argnums=(0, 1))(weights, proxies)
    return value, slopes if axis_name is None else jax.lax.psum(slopes, axis_name)


@cache
def over_devices():
    step = partial(cost_and_gradients, axis_name="device")
    return jax.jit(jax.vmap(step, axis_name="device", in_axes=(None, None, 0, 0, 0, 0)))


@cache
def on_one_device():
    return jax.jit(cost_and_gradients)


@pytest.mark.parametrize("valid", [16, 11])
def test_eight_devices_are_one(valid):
    """With 11 valid rows one device is half padding and two are nothing else."""
    weights, proxies, images = normal(3, BITS), normal(CLASSES, BITS, seed=1), normal(16, 3, seed=2)
    labels = np.concatenate([LABELS, LABELS, LABELS[:2]])
    targets = np.concatenate([TARGETS, TARGETS, TARGETS[:2]])
    rows = [jnp.asarray(a) for a in (images, labels, targets, np.arange(16) < valid)]
    apart = [a.reshape(8, 2, *a.shape[1:]) for a in rows]
    value, slopes = over_devices()(jnp.asarray(weights), jnp.asarray(proxies), *apart)
    whole, whole_slopes = on_one_device()(jnp.asarray(weights), jnp.asarray(proxies), *rows)
    np.testing.assert_allclose(value, np.full(8, whole), rtol=1e-6)
    for mine, expected in zip(slopes, whole_slopes, strict=True):
        for each_device in mine:
            np.testing.assert_allclose(each_device, expected, rtol=1e-4, atol=1e-6)


# Errors


CODES = jnp.ones((3, 2))
BOOK = jnp.ones((4, 2))
ROWS = jnp.ones((3, 4))
ORTHO, HYP = losses.orthohash, losses.hyp2_proxies


@pytest.mark.parametrize(
    "error, name, call",
    [
        (TypeError, "codes", lambda: losses.csq(CODES.astype(int), CODES)),
        (ValueError, "centers", lambda: losses.csq(CODES, BOOK)),
        (ValueError, "where", lambda: losses.csq(CODES, CODES, where=jnp.ones(2, bool))),
        (ValueError, "targets", lambda: losses.dpn(CODES, BOOK)),
        (ValueError, "margin", lambda: losses.dpn(CODES, CODES, margin=0.0)),
        (ValueError, "centers", lambda: ORTHO(CODES, ROWS, ROWS)),
        (ValueError, "labels", lambda: ORTHO(CODES, BOOK, CODES)),
        (ValueError, "scale", lambda: ORTHO(CODES, BOOK, ROWS, scale=0.0)),
        (ValueError, "margin", lambda: ORTHO(CODES, BOOK, ROWS, margin=-0.1)),
        (ValueError, "margin_type", lambda: ORTHO(CODES, BOOK, ROWS, margin_type="sine")),
        (TypeError, "proxies", lambda: HYP(CODES, BOOK.astype(int), ROWS, threshold=0.0)),
        (ValueError, "proxies", lambda: HYP(CODES, ROWS, ROWS, threshold=0.0)),
        (ValueError, "labels", lambda: HYP(CODES, BOOK, CODES, threshold=0.0)),
        (ValueError, "others", lambda: losses.hyp2_pairs(CODES, ROWS, ROWS > 0, threshold=0.0)),
        (ValueError, "similar", lambda: losses.hyp2_pairs(CODES, BOOK, BOOK > 0, threshold=0.0)),
    ],
)
def test_errors_name_the_argument(unchecked, error, name, call):
    with pytest.raises(error, match=rf"^{name}\b"):
        call()


def test_unknown_margin_type_is_refused_under_type_checks_too():
    with pytest.raises((ValueError, TypeCheckError), match="margin_type"):
        ORTHO(CODES, BOOK, ROWS, margin_type="sine")
