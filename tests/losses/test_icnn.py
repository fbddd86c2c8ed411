"""The ICNN loss against values by hand, and against a loop over the formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses

icnn = jax.jit(losses.icnn, static_argnames=("neighbors", "candidates", "drop_nearest"))

POINTS = [(0, 0), (0, 1), (1, 0), (4, 0), (4, 1), (5, 0), (2, 0), (2, 1)]
IDS = np.array([0, 0, 0, 1, 1, 1, 0, 1])
SAME = IDS[:, None] == IDS[None, :]
OTHERS = ~np.eye(8, dtype=bool)

RNG = np.random.default_rng(1)
CODES = RNG.normal(size=(12, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 12)
SIMILAR = LABELS[:, None] == LABELS[None, :]
WHERE = ~np.eye(12, dtype=bool)


def icnn_loop(codes, others, similar, where, k=4, reach=None, skipped=0):
    codes, others = codes.astype(float), others.astype(float)
    rows = []
    for i in range(len(codes)):
        columns = np.flatnonzero(where[i])
        delta = np.sqrt(np.sum((codes[i] - others[columns]) ** 2, axis=1) + 1e-6)
        order = np.argsort(delta, kind="stable")[skipped:]
        some = min(k, len(order) - 1)
        if some < 1:
            continue
        near = order[: reach or k + 1]
        rows.append((delta[near], similar[i, columns[near]], some, len(order) <= k + 1))
    if not rows:
        return 0.0
    compact, separate, pure = [], [], []
    far = [d[j] for d, s, some, _ in rows for j in range(some) if not s[j]]
    for d, s, some, is_short in rows:
        alike = s[:some].sum()
        nu = min(d[~s], default=np.inf)
        ratio = (d[:some] / nu) / max(1, (d[:some] / nu).max())
        if alike:
            compact.append(ratio[s[:some]].sum() / alike)
        if alike < some:
            separate.append(d[:some][~s[:some]].sum() / (some - alike) / max(far))
        pure.append(1.0 if is_short else alike / some)
    first = 1 - np.mean(compact) if compact else 1.0
    second = np.mean(separate) if separate else 1.0
    return -np.log(0.5 * (0.5 * (first + second) + np.mean(pure)))


def test_values_by_hand():
    codes = jnp.asarray(POINTS, jnp.float32)
    assert icnn(codes, codes, SAME, where=OTHERS) == pytest.approx(0.5718, abs=1e-4)
    assert icnn(codes, codes, SAME, neighbors=2, where=OTHERS) == pytest.approx(0.27202, abs=1e-5)


def test_a_column_that_is_not_a_number_is_not_passed_over():
    others = jnp.asarray(CODES).at[3, 0].set(jnp.nan)
    assert jnp.isnan(icnn(CODES, others, SIMILAR))


def test_the_nearest_that_is_dropped_is_the_row_itself():
    codes = jnp.asarray(POINTS, jnp.float32)
    dropped = icnn(codes, codes, SAME, drop_nearest=True)
    assert dropped == pytest.approx(float(icnn(codes, codes, SAME, where=OTHERS)), rel=1e-6)


def test_an_own_prototype_that_is_dropped_attracts_nothing():
    """The fault of the released code: a row in its place has no neighbor of its class."""
    code, means, own = jnp.asarray(CODES[:1]), jnp.asarray(CODES[1:6]), np.arange(5)[None] == 0
    means = means.at[0].set(code[0] + 0.1)
    slope = jax.jit(jax.grad(losses.icnn, 1), static_argnames=("neighbors", "drop_nearest"))
    assert np.any(slope(code, means, own, neighbors=2)[0])
    assert not np.any(slope(code, means, own, neighbors=2, drop_nearest=True)[0])


def test_the_size_of_all_codes_does_not_matter_where_all_distances_tie():
    """All distances are relative, and the sides of a square share the slope of the largest."""
    codes, others = jnp.array([[1.0, 1], [-1, -1], [1, -1], [-1, 1]]), ~np.eye(4, dtype=bool)
    same = np.arange(4)[:, None] // 2 == np.arange(4) // 2
    slope = jax.grad(lambda size: icnn(size * codes, size * codes, same, where=others))(1.0)
    assert slope == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    "k, reach", [(1, None), (2, None), (4, None), (2, 6), (9, None), (10, None)]
)
def test_it_is_the_loop(k, reach):
    """Also where rows have hardly more columns than neighbors."""
    found = icnn(
        jnp.asarray(CODES), jnp.asarray(CODES), SIMILAR, neighbors=k, candidates=reach, where=WHERE
    )
    expected = icnn_loop(CODES, CODES, SIMILAR, WHERE, k, reach)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("skipped", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_loop_for_rows_of_different_numbers_of_columns(skipped, seed):
    rng = np.random.default_rng(seed)
    others = rng.normal(size=(7, 6)).astype(np.float32)
    similar, where = rng.random((12, 7)) < 0.4, rng.random((12, 7)) < 0.6
    where[:3] = np.arange(7) < np.arange(3)[:, None]  # no, one and two columns
    found = icnn(
        jnp.asarray(CODES), jnp.asarray(others), similar, neighbors=2,
        drop_nearest=bool(skipped), where=where,
    )  # fmt: skip
    expected = icnn_loop(CODES, others, similar, where, 2, skipped=skipped)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("similar", [np.ones((12, 12), bool), np.zeros((12, 12), bool)])
def test_one_class_or_no_similar_pair(similar):
    found = icnn(jnp.asarray(CODES), jnp.asarray(CODES), similar, where=WHERE)
    assert found == pytest.approx(icnn_loop(CODES, CODES, similar, WHERE), rel=1e-5)


def test_wrong_numbers_are_refused(unchecked):
    for options, name in (({"neighbors": 0}, "neighbors"), ({"candidates": 4}, "candidates")):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            losses.icnn(jnp.asarray(CODES), jnp.asarray(CODES), SIMILAR, **options)
