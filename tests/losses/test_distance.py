"""The losses of distances against loops, by hand, and at extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.losses import dch, dsh, qsmi, wglhh

LOSSES = {"dch": dch, "dsh": dsh, "qsmi": qsmi, "wglhh": wglhh}
JITTED = {
    name: jax.jit(loss, static_argnames=(*options, "axis_name"))
    for (name, loss), options in zip(
        LOSSES.items(),
        (["gamma"], ["margin"], ["needs"], ["alpha", "similar_weight"]),
        strict=True,
    )
}
each_name = pytest.mark.parametrize("name", LOSSES)
angular = pytest.mark.parametrize("name", ["dch", "qsmi", "wglhh"])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def pairs(n, m, bits=4, seed=0):
    """Codes, others, and which of their pairs are similar: some are, some are not."""
    similar = np.random.default_rng(seed).random((n, m)) < 0.3
    return normal(n, bits, seed=seed), normal(m, bits, seed=seed + 1), jnp.asarray(similar)


def some(n, m):
    """About 0.7 of all pairs."""
    return np.random.default_rng(2).random((n, m)) < 0.7


# The formulas, pair by pair in float64


def cosine(u, v):
    return u @ v / np.sqrt((u @ u) * (v @ v))


def bits_apart(u, v):
    return len(u) / 2 * (1 - cosine(u, v))


def dch_formula(pairs, gamma=20.0):
    """The paper's weighted sum over pairs, over their number."""
    count = {kind: sum(s == kind for *_, s in pairs) for kind in (0, 1)}
    loss = 0.0
    for u, v, s in pairs:
        d, weight = bits_apart(u, v), len(pairs) / count[s]
        loss += weight * (s * np.log(d / gamma) + np.log(1 + gamma / d)) / len(pairs)
    return loss


def dsh_formula(pairs, margin=None):
    margin = 2 * len(pairs[0][0]) if margin is None else margin
    costs = []
    for u, v, s in pairs:
        square = ((u - v) ** 2).sum()
        costs.append(s / 2 * square + (1 - s) / 2 * max(margin - square, 0))
    return np.mean(costs)


def qsmi_formula(pairs, needs=None):
    needs = len(pairs) / sum(s for *_, s in pairs) if needs is None else needs
    costs = []
    for u, v, s in pairs:
        y = (cosine(u, v) + 1) / 2
        costs.append((s * y - 1) ** 2 + y**2 / needs)
    return np.mean(costs)


def wglhh_formula(pairs, alpha=0.1, similar_weight=1.0):
    costs = []
    for u, v, s in pairs:
        p = np.exp(-alpha * bits_apart(u, v) ** 2)
        divergence = p * np.log(2 * p / (p + s))
        if s:
            divergence += s * np.log(2 * s / (p + s))
        attention = np.exp(abs((1 + cosine(u, v)) / 2 - s))
        costs.append((similar_weight if s else 1.0) * attention * divergence)
    return np.mean(costs)


FORMULAS = {"dch": dch_formula, "dsh": dsh_formula, "qsmi": qsmi_formula, "wglhh": wglhh_formula}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dch", {}),
        ("dch", {"gamma": 3.0}),
        ("dsh", {}),
        ("dsh", {"margin": 5.0}),
        ("qsmi", {}),
        ("qsmi", {"needs": 7.0}),
        ("wglhh", {}),
        ("wglhh", {"alpha": 0.3, "similar_weight": 1.7}),
    ],
)
def test_is_the_formula(name, options):
    """No two codes are so close that DCH's epsilon would show."""
    batch = codes, others, similar = pairs(9, 11)
    where = some(9, 11)
    listed = [
        (np.asarray(codes[i], float), np.asarray(others[j], float), int(similar[i, j]))
        for i, j in np.argwhere(where)
    ]
    tolerance = 1e-3 if name == "dch" else 1e-5
    loss = JITTED[name](*batch, where=jnp.asarray(where), **options)
    assert loss == pytest.approx(FORMULAS[name](listed, **options), rel=tolerance)


# By hand

SAME, OPPOSITE, ACROSS = [1.0, 1.0], [-2.0, -2.0], [3.0, -3.0]  # 0, 2 and 1 bits from [1, 1]


def against_one(name, *kinds, **options):
    """The loss of [1, 1] with each of the codes, of which those that go with True are similar."""
    others, similar = zip(*kinds, strict=True)
    return LOSSES[name](jnp.ones((1, 2)), jnp.array(others), jnp.array([similar]), **options)


def test_dch_by_hand():
    loss = against_one("dch", (SAME, True), (ACROSS, True), (OPPOSITE, False), gamma=2.0)
    expected = (np.log(1) + np.log(1 + 1 / 2)) / 2 + np.log(1 + 2 / 2.001)
    assert loss == pytest.approx(expected, rel=1e-6)


def test_dch_of_two_dissimilar_images_of_one_code_is_that_of_a_thousandth_of_a_bit():
    loss = against_one("dch", (SAME, False))
    assert loss == pytest.approx(np.log(1 + 20 / 0.001), rel=1e-3)


def test_dsh_by_hand():
    """Squared distances 0, 18 and 2^2 + 4^2 = 20, margin 4 for two bits."""
    loss = against_one("dsh", (SAME, False), (OPPOSITE, True), (ACROSS, False))
    assert loss == pytest.approx((4 / 2 + 18 / 2 + 0) / 3, rel=1e-6)


def test_dsh_is_exact_to_the_digits_of_the_squared_lengths():
    """Codes of length 1000 that are 0.5 apart, whose squares cancel to six digits."""
    codes, similar = jnp.array([[1000.0, 0.0], [1000.0, 0.5]]), jnp.ones((2, 2), bool)
    loss = dsh(codes, codes, similar)
    assert loss == pytest.approx(0.25 / 2 * 2 / 4, abs=1e6 * 4e-7)


def test_dsh_of_equal_codes_is_never_below_zero():
    """Their squares may cancel to either side of 0."""
    codes = 1000 * normal(100, 1, 8)
    values = jax.vmap(lambda code: dsh(code, code, jnp.array([[True]])))(codes)
    assert (values >= 0).all()


def test_qsmi_by_hand():
    """Y is 1, 1/2 and 0; of three pairs two are similar."""
    loss = against_one("qsmi", (SAME, True), (ACROSS, True), (OPPOSITE, False))
    expected = ((0 + 1 / 1.5) + (1 / 4 + 1 / 4 / 1.5) + 1) / 3
    assert loss == pytest.approx(expected, rel=1e-6)


def test_qsmi_without_a_similar_pair_is_the_constant_of_dissimilar_ones():
    assert against_one("qsmi", (SAME, False), (ACROSS, False)) == 1


def test_wglhh_by_hand():
    """One bit apart p = e^-alpha; a similar pair far apart costs e log 2."""
    loss = against_one("wglhh", (ACROSS, False), (SAME, True), alpha=1.0)
    assert loss == pytest.approx(np.exp(0.5) * np.exp(-1) * np.log(2) / 2, rel=1e-6)
    far = against_one("wglhh", (OPPOSITE, True), alpha=50.0)
    assert far == pytest.approx(np.e * np.log(2), rel=1e-6)


@pytest.mark.parametrize("similar", [True, False])
def test_dch_of_one_kind_of_pair_is_its_mean(similar):
    codes, others, _ = pairs(3, 4)
    loss = JITTED["dch"](codes, others, jnp.full((3, 4), similar))
    listed = [
        (np.asarray(u, float), np.asarray(v, float), int(similar)) for u in codes for v in others
    ]
    assert loss == pytest.approx(dch_formula(listed), rel=1e-3)


# Gradients


@each_name
def test_similar_codes_approach_and_dissimilar_ones_part(name):
    """A step against the gradient, from almost a right angle. QSMI rests at Y = 2/3 for M = 2."""
    code, other = jnp.array([[1.0, 0.5]]), jnp.array([[-0.4, 1.0]])
    for similar in (True, False):
        pair = jnp.array([[similar, not similar]])
        slope = jax.grad(JITTED[name])(code, jnp.concatenate([other, -other]), pair)
        moved = cosine(*(np.asarray(each[0]) for each in (code - 1e-3 * slope, other)))
        before = cosine(np.asarray(code[0]), np.asarray(other[0]))
        assert (moved > before) == similar


def test_wglhh_draws_a_similar_pair_together_from_afar():
    """At 32 of 64 bits apart p is e^-102, and has no gradient."""
    code, other = np.ones((1, 64)), np.ones((1, 64))
    other[0, :32] = -1
    arguments = jnp.asarray(code, jnp.float32), jnp.asarray(other, jnp.float32)
    slope = jax.grad(wglhh)(*arguments, jnp.array([[True]]))
    assert (slope * other).sum() < 0


# Invariances


@angular
def test_a_code_of_zeros_has_the_cosine_0_and_no_gradient(name):
    other, similar = jnp.array([[1.0, -2.0]]), jnp.array([[True]])
    value, slope = jax.value_and_grad(JITTED[name])(jnp.zeros((1, 2)), other, similar)
    orthogonal, _ = jax.value_and_grad(JITTED[name])(jnp.array([[2.0, 1.0]]), other, similar)
    np.testing.assert_allclose(value, orthogonal, rtol=1e-6)
    np.testing.assert_array_equal(slope, 0.0)


# Errors


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("dch", "gamma"),
        ("dsh", "margin"),
        ("qsmi", "needs"),
        ("wglhh", "alpha"),
        ("wglhh", "similar_weight"),
    ],
)
def test_options_that_must_be_above_zero(name, option):
    with pytest.raises(ValueError, match=f"^{option} must be above 0"):
        LOSSES[name](*pairs(2, 3), **{option: 0.0})
