"""The ranking losses against loops and against the metrics, at extremes, under masks, on devices."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxhash.losses import dtsh, mihash, tie_aware_ap
from jaxhash.losses._ranking import _histograms
from jaxhash.metrics import DistanceCounts, average_precision
from jaxhash.similarity import shares_label

LOSSES = {"dtsh": dtsh, "mihash": mihash, "tie_aware_ap": tie_aware_ap}
each_loss = pytest.mark.parametrize("name", LOSSES)


@cache
def jitted(name):
    return jax.jit(LOSSES[name], static_argnames="axis_name")


@cache
def value_and_slope(name):
    return jax.jit(jax.value_and_grad(LOSSES[name], argnums=(0, 1)))


def relaxed(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape), jnp.float32)


def pairs(n, m, bits=4, seed=0, similar=0.4):
    """Codes, others, and which of their pairs are similar: some are, some are not."""
    marks = np.random.default_rng(seed).random((n, m)) < similar
    return relaxed(n, bits, seed=seed), relaxed(m, bits, seed=seed + 1), jnp.asarray(marks)


# The formulas by loops, in float64


def dtsh_loop(codes, others, similar, where, margin=None):
    margin = codes.shape[1] / 2 if margin is None else margin
    losses = []
    for a, p, n in np.ndindex(len(codes), len(others), len(others)):
        if where[a, p] and similar[a, p] and where[a, n] and not similar[a, n]:
            gap = (codes[a] @ others[p] - codes[a] @ others[n]) / 2 - margin
            losses.append(-(gap - np.log(1 + np.exp(gap))))
    return np.mean(losses)


def histogram(codes, others, a, columns):
    """Counts of each distance; one between two whole numbers is shared by them."""
    bits = codes.shape[1]
    counts = np.zeros(bits + 1)
    for j in columns:
        distance = (bits - codes[a] @ others[j]) / 2
        below = min(int(distance), bits - 1)
        counts[below] += below + 1 - distance
        counts[below + 1] += distance - below
    return counts


def entropy(counts):
    shares = counts[counts > 0] / counts.sum()
    return -np.sum(shares * np.log2(shares))


def by_anchor(codes, others, similar, where):
    """For each anchor the histograms of its similar and its dissimilar columns."""
    for a in range(len(codes)):
        kinds = [np.flatnonzero(where[a] & (similar[a] == kind)) for kind in (True, False)]
        yield [histogram(codes, others, a, columns) for columns in kinds]


def mihash_loop(*batch):
    information = []
    for alike, unlike in by_anchor(*batch):
        if alike.sum() > 0 and unlike.sum() > 0:
            prior = alike.sum() / (alike + unlike).sum()
            within = prior * entropy(alike) + (1 - prior) * entropy(unlike)
            information.append(entropy(alike + unlike) - within)
    return -np.mean(information)


def tie_aware_ap_loop(*batch):
    values = []
    for alike, unlike in by_anchor(*batch):
        if alike.sum() > 0:
            value = hits = items = 0.0
            for similar, dissimilar in zip(alike, unlike, strict=True):
                number = similar + dissimilar
                value += similar * (2 * hits + similar + 1) / (2 * items + number + 1)
                hits, items = hits + similar, items + number
            values.append(value / hits)
    return -np.mean(values)


LOOPS = {"dtsh": dtsh_loop, "mihash": mihash_loop, "tie_aware_ap": tie_aware_ap_loop}


@each_loss
@pytest.mark.parametrize("masked", [False, True])
def test_is_the_formula(name, masked):
    """With the mask anchor 0 has no column, anchor 1 no similar one, anchor 2 only similar ones."""
    batch = pairs(7, 9)
    where = np.ones((7, 9), bool)
    if masked:
        where = np.random.default_rng(5).random((7, 9)) < 0.8
        where[0] = False
        where[1] &= ~np.asarray(batch[2])[1]
        where[2] &= np.asarray(batch[2])[2]
    codes, others, similar = (np.asarray(part) for part in batch)
    expected = LOOPS[name](codes.astype(float), others.astype(float), similar, where)
    loss = jitted(name)(*batch, where=jnp.asarray(where) if masked else None)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


# Each by hand


def test_dtsh_by_hand():
    """Of one anchor two triplets, with gaps 3 - 1 and 3 - (-1) before the margin; of one, none."""
    codes, others = jnp.array([[2.0], [5.0]]), jnp.array([[3.0], [1.0], [-1.0]])
    similar = jnp.array([[True, False, False], [True, True, True]])
    expected = (np.log1p(np.exp(-(2 - 1))) + np.log1p(np.exp(-(4 - 1)))) / 2
    assert dtsh(codes, others, similar, margin=1.0) == pytest.approx(expected, rel=1e-6)
    assert dtsh(codes, others, similar) == dtsh(codes, others, similar, margin=0.5)


def test_mihash_by_hand():
    """Distances 0 and 2 of similar columns, 2 and 2 of others: I = H(1/4, 3/4) - H(1/2, 1/2) / 2."""
    codes = jnp.array([[1.0, 1.0]])
    others = jnp.array([[1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0]])
    similar = jnp.array([[True, True, False, False]])
    expected = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)) - 0.5
    assert mihash(codes, others, similar) == pytest.approx(-expected, rel=1e-6)


def test_mihash_falls_as_the_kinds_are_told_apart():
    """The sign: information is maximised, so the loss goes down from 0 to -1."""
    codes, similar = jnp.array([[1.0] * 4]), jnp.array([[True, True, False, False]])
    side = jnp.array([1.0, 1.0, -1.0, -1.0])[:, None]
    losses = [mihash(codes, apart * side * jnp.ones((4, 4)), similar) for apart in (0, 0.2, 1)]
    np.testing.assert_allclose(losses[0], 0, atol=1e-6)
    np.testing.assert_allclose(losses[2], -1, rtol=1e-6)
    assert losses[0] > losses[1] > losses[2]
    slope = jax.grad(mihash, argnums=1)(codes, 0.2 * side * jnp.ones((4, 4)), similar)
    assert np.all(slope[:2] < 0) and np.all(slope[2:] > 0)  # a step down draws them further apart


def test_tie_aware_ap_by_hand():
    """A similar one first, then a tie of one and one: 1 and (1 + 2 + 1) / (1 + 3 + 1)."""
    codes, others = jnp.array([[1.0]]), jnp.array([[1.0], [-1.0], [-1.0]])
    similar = jnp.array([[True, True, False]])
    assert tie_aware_ap(codes, others, similar) == pytest.approx(-(1 + 4 / 5) / 2, rel=1e-6)


def test_tie_aware_ap_is_the_metric_where_nothing_is_tied():
    bits, rng = 9, np.random.default_rng(0)
    others = np.where(np.arange(bits) < np.arange(bits + 1)[:, None], -1.0, 1.0)
    similar = rng.random((6, bits + 1)) < 0.5
    codes = jnp.ones((6, bits))  # at distance j from column j
    exact = average_precision(DistanceCounts(np.ones((6, bits + 1), int), similar.astype(int)))
    loss = tie_aware_ap(codes, jnp.asarray(others, jnp.float32), jnp.asarray(similar))
    np.testing.assert_allclose(-loss, exact[similar.any(axis=1)].mean(), rtol=1e-5)


def test_tie_aware_ap_is_near_the_metric_where_columns_are_tied():
    """What ties cost on codes of 4 bits: the ratio of means is not the mean of ratios."""
    rng = np.random.default_rng(1)
    codes, others = np.sign(rng.normal(size=(20, 4))), np.sign(rng.normal(size=(40, 4)))
    similar = (codes @ others.T + rng.normal(size=(20, 40))) > 1
    distance = ((4 - codes @ others.T) / 2).astype(int)
    total, relevant = (
        np.stack([(marks & (distance == d)).sum(axis=1) for d in range(5)], axis=1)
        for marks in (np.ones_like(similar), similar)
    )
    exact = average_precision(DistanceCounts(total, relevant)).mean()
    loss = tie_aware_ap(
        *(jnp.asarray(x, jnp.float32) for x in (codes, others)), jnp.asarray(similar)
    )
    assert abs(-loss - exact) < 0.02 and -loss != pytest.approx(exact, abs=1e-4)


# All of them


@each_loss
def test_gradient_is_that_of_finite_differences(name):
    codes, others, similar = pairs(3, 6, bits=3, seed=4)
    codes, others = 0.9 * codes, 0.9 * others
    cost = jax.jit(lambda codes, others: LOSSES[name](codes, others, similar))
    check_grads(cost, (codes, others), order=1, modes=("rev",), eps=2e-3, rtol=0.02, atol=2e-3)


def all_distances(bits):
    """An anchor of ones and a column at each whole distance from it."""
    columns = np.where(np.arange(bits) < np.arange(bits + 1)[:, None], -1.0, 1.0)
    return jnp.ones((1, bits)), jnp.asarray(columns, jnp.float32)


def counts(codes, others):
    everything = jnp.ones((len(codes), len(others)), bool)
    return _histograms(codes @ others.T, everything, ~everything, codes.shape[1])[0]


@pytest.mark.parametrize("bits", [1, 3, 4])
def test_at_whole_distances_no_slope_adds_to_the_columns(bits):
    """Each column counts once, for its own distance, and whichever way codes turn it still does."""
    codes, others = all_distances(bits)
    np.testing.assert_array_equal(counts(codes, others), np.ones((1, bits + 1)))
    slopes = jax.grad(lambda *batch: jnp.sum(counts(*batch)), argnums=(0, 1))(codes, others)
    for slope in slopes:
        np.testing.assert_array_equal(slope, 0.0)


def test_slope_at_a_whole_distance_is_the_mean_of_both_sides():
    """Of columns at distances 0 ... 4 from the anchor; the first and the last have one side."""
    codes, others = all_distances(4)
    slopes = jax.jacrev(counts, argnums=1)(codes, others)[0]  # [bin, column, bit]
    for column in (1, 2, 3):
        nudge = jnp.zeros_like(others).at[column, 0].set(1e-2)
        sides = (counts(codes, others + nudge) - counts(codes, others - nudge)) / 2e-2
        np.testing.assert_allclose(slopes[:, column, 0], sides[0], atol=1e-4)
        assert np.abs(sides).max() > 0.2
    np.testing.assert_array_equal(slopes[:, np.array([0, 4])], 0.0)


@pytest.mark.parametrize("name", ["mihash", "tie_aware_ap"])
def test_gradient_of_binary_codes_lies_between_those_around_them(name):
    """The only column at a whole distance that is no end: half of the sum of both sides' slopes."""
    codes, others = jnp.ones((1, 4)), jnp.array([[0.9] * 4, [0.1] * 4, [-0.1] * 4, [-0.8] * 4])
    others = others.at[1].set(jnp.array([1.0, 1.0, 1.0, -1.0]))
    similar = jnp.array([[True, False, True, False]])
    nudge = jnp.zeros_like(others).at[1, 3].set(1e-3)
    low, at, high = (
        value_and_slope(name)(codes, others + way * nudge, similar)[1][1][1] for way in (-1, 0, 1)
    )
    np.testing.assert_allclose(at, (low + high) / 2, atol=2e-3)
    assert np.abs(high - low).max() > 0.02


@each_loss
def test_order_of_the_batch_does_not_matter(name):
    codes, labels, order = (
        relaxed(6, 4),
        jnp.array([0, 1, 0, 2, 1, 1]),
        np.array([3, 1, 5, 0, 2, 4]),
    )
    values = [
        jitted(name)(codes[rows], codes[rows], shares_label(labels[rows], labels[rows]))
        for rows in (np.arange(6), order)
    ]
    np.testing.assert_allclose(*values, rtol=1e-5)


@each_loss
def test_eager_is_jitted(name):
    batch = pairs(7, 9)
    np.testing.assert_allclose(LOSSES[name](*batch), jitted(name)(*batch), rtol=1e-5)


@each_loss
@pytest.mark.parametrize("filling", [1e3, np.nan])
def test_masked_batch_is_its_valid_rows(name, filling):
    valid, labels = relaxed(4, 4), np.array([0, 1, 0, 1])
    where = np.array([True, False, True, True, False, True])
    padded = jnp.full((6, 4), filling).at[where].set(valid)
    padded_labels = jnp.zeros(6, int).at[where].set(labels)

    @jax.jit
    @jax.value_and_grad
    def cost(codes, labels, where=None):
        return LOSSES[name](codes, codes, shares_label(labels, labels), where=where)

    value, slope = cost(padded, padded_labels, jnp.asarray(where[:, None] & where[None, :]))
    expected_value, expected_slope = cost(valid, jnp.asarray(labels))
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    np.testing.assert_allclose(slope[where], expected_slope, atol=1e-6)
    np.testing.assert_array_equal(slope[~where], 0.0)


@each_loss
@pytest.mark.parametrize("case", ["nothing valid", "all dissimilar"])
def test_without_anything_to_rank_it_is_zero(name, case):
    codes, others, similar = pairs(5, 7)
    where = jnp.full((5, 7), case != "nothing valid")
    similar = similar & (case == "nothing valid")
    value, slopes = value_and_slope(name)(codes, others, similar, where=where)
    assert value == 0
    for slope in slopes:
        np.testing.assert_array_equal(slope, 0.0)


@each_loss
def test_of_similar_columns_alone_there_is_nothing_to_learn(name):
    codes, others, similar = pairs(5, 7)
    value, slopes = value_and_slope(name)(codes, others, jnp.ones_like(similar))
    np.testing.assert_allclose(value, -1.0 if name == "tie_aware_ap" else 0.0, atol=1e-6)
    for slope in slopes:
        np.testing.assert_allclose(slope, 0.0, atol=1e-6)


@each_loss
@pytest.mark.parametrize("size", [0.0, 1.0, 50.0])
def test_gradient_is_finite_at_extremes(name, size):
    """Where all distances are whole numbers, and tied; for dtsh also far out."""
    size = size if name == "dtsh" else min(size, 1.0)
    codes = size * jnp.sign(relaxed(6, 4))
    similar = shares_label(jnp.arange(6) % 2, jnp.arange(6) % 2)
    value, slopes = value_and_slope(name)(codes, codes, similar)
    assert jnp.isfinite(value) and jnp.isfinite(jnp.stack(slopes)).all()


@each_loss
def test_low_precision_is_accumulated_in_float32(name):
    codes, others, similar = pairs(5, 7)
    codes, others = codes.astype(jnp.bfloat16), others.astype(jnp.bfloat16)
    value, slopes = value_and_slope(name)(codes, others, similar)
    exact = jitted(name)(codes.astype(jnp.float32), others.astype(jnp.float32), similar)
    assert value.dtype == jnp.float32 and slopes[0].dtype == jnp.bfloat16
    np.testing.assert_allclose(value, exact, rtol=1e-5)


# Several devices


def cost_and_gradients(weights, images, labels, where, *, name, axis_name=None):
    def gather(array):
        return array if axis_name is None else jax.lax.all_gather(array, axis_name, tiled=True)

    def cost(weights, images):
        codes = jnp.tanh(images @ weights)
        others, their_labels, their_where = map(gather, (codes, labels, where))
        pairs = where[:, None] & their_where[None, :]
        similar = shares_label(labels, their_labels)
        return LOSSES[name](codes, others, similar, where=pairs, axis_name=axis_name)

    value, (of_weights, of_images) = jax.value_and_grad(cost, argnums=(0, 1))(weights, images)
    if axis_name is not None:
        of_weights = jax.lax.psum(of_weights, axis_name)
    return value, of_weights, of_images


@each_loss
def test_eight_devices_are_one(name):
    """Two rows a device; with 11 valid rows one device is half padding and two are nothing else."""
    images, weights, where = relaxed(16, 3), relaxed(3, 4, seed=1), jnp.arange(16) < 11
    labels = jnp.asarray(np.random.default_rng(3).integers(3, size=16))
    step = partial(cost_and_gradients, name=name)
    on_eight = jax.pmap(partial(step, axis_name="device"), "device", in_axes=(None, 0, 0, 0))
    value, of_weights, of_images = on_eight(
        weights, *(array.reshape(8, 2, *array.shape[1:]) for array in (images, labels, where))
    )
    whole = jax.jit(step)(weights, images, labels, where)
    assert len(set(np.asarray(value).tolist())) == 1
    np.testing.assert_allclose(value[0], whole[0], rtol=1e-5)
    for each in of_weights:
        np.testing.assert_allclose(each, whole[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of_images.reshape(16, 3), whole[2], rtol=1e-4, atol=1e-6)


# Errors


@each_loss
@pytest.mark.parametrize(
    ("error", "argument", "value"),
    [
        (TypeError, "codes", jnp.ones((4, 2), int)),
        (TypeError, "others", jnp.ones((3, 2), int)),
        (ValueError, "others", jnp.ones((3, 5))),
        (ValueError, "similar", jnp.ones((3, 4), bool)),
        (ValueError, "where", jnp.ones((4, 1), bool)),
    ],
)
def test_errors_name_the_argument(unchecked, name, error, argument, value):
    batch = {
        "codes": jnp.ones((4, 2)), "others": jnp.ones((3, 2)), "similar": jnp.ones((4, 3), bool)
    }  # fmt: skip
    with pytest.raises(error, match=f"^{argument} must"):
        LOSSES[name](**batch | {argument: value})
