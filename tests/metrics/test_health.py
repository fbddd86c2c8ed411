"""The health of a set of codes, by hand, by loops and at the extremes."""

import json
from collections import Counter
from functools import partial
from itertools import combinations
from math import log2

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxhash.losses import hswd
from jaxhash.metrics import (
    COLLAPSE_BUCKET_SHARE,
    COLLAPSE_DEAD_SHARE,
    CodeFormat,
    bit_balance,
    bit_correlation,
    bit_entropy,
    bucket_statistics,
    code_health,
    collapse_reason,
    dead_bits,
    duplicate_bits,
    flip_rate,
    mutual_information,
    quantization_error,
    wasserstein_to_signs,
)


def frozen(array):
    """Makes an array read-only."""
    array.flags.writeable = False
    return array


def random_codes(n, bits, seed=0, share=0.5):
    rng = np.random.default_rng(seed)
    return frozen(np.where(rng.random((n, bits)) < share, 1, -1).astype(np.int8))


def flawed_codes():
    """A dead bit (1), an equal pair (0, 3), a complement (0, 5), and rows that occur often."""
    codes = np.repeat(random_codes(9, 6), [1, 1, 1, 2, 2, 4, 5, 9, 3], axis=0)
    codes[:, 1] = -1
    codes[:, 3] = codes[:, 0]
    codes[:, 5] = -codes[:, 0]
    return frozen(codes)


@pytest.fixture
def unchecked(monkeypatch):
    """Disables the type checks of the test run, which would raise before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def test_bit_balance_by_hand():
    """Means of the bits: 1, 0 and -1/2."""
    codes = np.array([[1, 1, 1], [1, -1, -1], [1, 1, -1], [1, -1, -1]], np.int8)
    assert bit_balance(codes) == (0 + 1 + 1 / 2) / 3


def test_quantization_error_by_hand():
    codes = np.array([[0.5, -1.0], [0.0, -3.0]])
    assert quantization_error(codes) == (0.5**2 + 0 + 1 + 2**2) / 4


def test_both_are_their_loops():
    codes = np.random.default_rng(0).normal(0.3, size=(7, 5))
    signs = np.where(codes >= 0, 1, -1).astype(np.int8)
    balance = sum(1 - abs(sum(map(int, bit))) / 7 for bit in signs.T) / 5
    error = sum((u - s) ** 2 for u, s in zip(codes.flat, signs.flat, strict=True)) / 35
    assert bit_balance(signs) == pytest.approx(balance)
    assert quantization_error(codes) == pytest.approx(error)


@pytest.mark.parametrize("sign", [-1, 1])
def test_extremes(sign):
    """Constant bits have balance 0, even if one is the complement of the other."""
    constant = np.full((6, 2), sign, np.int8)
    opposite = constant * np.array([1, -1], np.int8)
    split = constant * np.array([1, -1] * 3, np.int8)[:, None]
    assert bit_balance(constant) == bit_balance(opposite) == 0.0
    assert bit_balance(split) == 1.0
    assert quantization_error(split.astype(np.float32)) == 0.0
    assert quantization_error(np.zeros((3, 2), np.float32)) == 1.0


def test_low_precision_loses_no_digits():
    """In int8 the sum of 200 codes would wrap around; in float16 a square has three digits."""
    assert bit_balance(np.ones((200, 1), np.int8)) == 0.0
    codes = np.full((200, 1), 0.1, np.float16)
    assert quantization_error(codes) == pytest.approx((float(codes[0, 0]) - 1) ** 2, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float16, np.float32, np.float64])
def test_signs_of_any_dtype_are_the_same_codes(dtype):
    codes = random_codes(20, 4, share=0.3)
    assert bit_balance(codes.astype(dtype)) == bit_balance(codes)
    np.testing.assert_array_equal(bit_entropy(codes.astype(dtype)), bit_entropy(codes))
    with pytest.raises(ValueError, match="codes .*-1"):
        bit_balance(codes.astype(dtype) / 2 if dtype is np.float32 else 0 * codes.astype(dtype))


# Each bit


def naive_entropy(values):
    """Computes entropy from the counts of the values."""
    shares = [count / len(values) for count in Counter(values).values()]
    return -sum(p * log2(p) for p in shares)


def test_bit_entropy_by_hand():
    """Shares of +1: 1, 1/2 and 1/4."""
    codes = np.array([[1, 1, 1], [1, -1, -1], [1, 1, -1], [1, -1, -1]], np.int8)
    quarter = 0.25 * 2 + 0.75 * log2(4 / 3)
    np.testing.assert_allclose(bit_entropy(codes), [0, 1, quarter], atol=1e-15)


def test_bit_entropy_is_naive():
    codes = random_codes(37, 5, share=0.2)
    expected = [naive_entropy(bit.tolist()) for bit in codes.T]
    np.testing.assert_allclose(bit_entropy(codes), expected, rtol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 7, 128])
def test_wasserstein_to_signs_is_the_loss(n):
    """Also for an odd number, whose middle code belongs to both halves, and for equal codes."""
    scale = np.array([0.1, 1.0, 1.0, 30.0])
    codes = (scale * np.random.default_rng(n).normal(0.3, size=(n, 4))).astype(np.float32)
    codes[:, 2] = np.round(codes[:, 2])
    loss = jax.jit(partial(hswd, target="balanced", method="sort", reduce_fn=None))
    expected = loss(jnp.asarray(codes))
    np.testing.assert_allclose(wasserstein_to_signs(frozen(codes)), expected, rtol=3e-6, atol=1e-6)


def test_wasserstein_to_signs_by_hand():
    """Sorted: -2, 0.5, 1 to -1, both, 1; the middle costs (1.5^2 + 0.5^2) / 2."""
    codes = np.array([[0.5], [1.0], [-2.0]])
    assert wasserstein_to_signs(codes).tolist() == [(1 + 1.25 + 0) / 3]


def test_wasserstein_to_signs_is_the_cheapest_matching():
    """Compares with all assignments of half of the codes to -1."""
    codes = np.random.default_rng(0).normal(size=6)
    costs = []
    for lower in combinations(range(6), 3):
        sign = np.where(np.isin(np.arange(6), lower), -1, 1)
        costs.append(np.mean((codes - sign) ** 2))
    assert wasserstein_to_signs(codes[:, None]).item() == pytest.approx(min(costs), rel=1e-13)


def test_wasserstein_to_signs_keeps_float64():
    codes = np.array([[1 + 1e-10], [-1.0]])
    assert wasserstein_to_signs(codes).item() == pytest.approx(1e-20 / 2, rel=1e-5)


# Bits together


def test_bit_correlation_is_that_of_numpy():
    codes = random_codes(50, 7, share=0.3)
    expected = np.corrcoef(codes.T.astype(float))
    np.testing.assert_allclose(bit_correlation(codes), expected, atol=1e-13)


def test_bit_correlation_of_equal_opposite_and_constant_bits():
    """Exactly 1, -1 and 0 for any balance of the bits; the diagonal of a constant bit is 0."""
    for seed in range(20):
        codes = random_codes(23, 4, seed, share=0.3).copy()
        codes[:, 1], codes[:, 2], codes[:, 3] = codes[:, 0], -codes[:, 0], 1
        expected = np.array([[1, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 0]])
        np.testing.assert_array_equal(bit_correlation(codes), expected)


def test_counts_go_on_over_blocks_of_rows():
    """There are several blocks of rows, the last of them not full."""
    codes = random_codes(20_011, 3)
    labels = np.random.default_rng(1).random((len(codes), 2)) < 0.3
    labels[:, 1] |= codes[:, 0] > 0
    expected = np.corrcoef(codes.T.astype(float))
    np.testing.assert_allclose(bit_correlation(codes), expected, atol=1e-12)
    expected = naive_information(codes, labels)
    np.testing.assert_allclose(mutual_information(codes, labels), expected, atol=1e-12)


def test_dead_and_duplicate_bits_by_hand():
    codes = flawed_codes()
    assert dead_bits(codes).tolist() == [1]
    assert duplicate_bits(codes).tolist() == [[0, 3], [0, 5], [3, 5]]
    assert dead_bits(random_codes(50, 6)).tolist() == []
    assert duplicate_bits(random_codes(50, 6)).shape == (0, 2)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n", [1, 3, 8, 17])
def test_duplicate_bits_are_naive(n, seed):
    """Few codes of many bits, so that pairs arise by chance."""
    codes = random_codes(n, 12, seed)
    expected = [
        [i, j]
        for i, j in combinations(range(12), 2)
        if (codes[:, i] == codes[:, j]).all() or (codes[:, i] == -codes[:, j]).all()
    ]
    assert duplicate_bits(codes).tolist() == expected


# Buckets


def test_buckets_by_hand():
    """Nine codes, held by 1, 1, 1, 2, 2, 4, 5, 9 and 3 items."""
    codes = np.repeat(random_codes(9, 70), [1, 1, 1, 2, 2, 4, 5, 9, 3], axis=0)
    found = bucket_statistics(codes)
    assert (found.distinct, found.largest) == (9, 9)
    assert found.histogram == {"1": 3, "2": 2, "3-4": 2, "5-8": 1, "9-16": 1}
    shares = np.array([1, 1, 1, 2, 2, 4, 5, 9, 3]) / 28
    assert found.entropy == pytest.approx(-np.sum(shares * np.log2(shares)), rel=1e-13)


@pytest.mark.parametrize(("largest", "last"), [(1, "1"), (2, "2"), (4, "3-4"), (5, "5-8")])
def test_histogram_ends_with_the_largest_bucket(largest, last):
    found = bucket_statistics(np.ones((largest, 3), np.int8))
    assert list(found.histogram)[-1] == last
    assert sum(found.histogram.values()) == found.histogram[last] == 1
    assert found.entropy == 0.0


@pytest.mark.parametrize("bits", [1, 4, 8, 9])
def test_buckets_are_a_counter(bits):
    codes = random_codes(200, bits)
    sizes = Counter(map(bytes, codes))
    found = bucket_statistics(codes)
    assert (found.distinct, found.largest) == (len(sizes), max(sizes.values()))
    assert found.entropy == pytest.approx(naive_entropy(list(map(bytes, codes))), rel=1e-12)
    assert sum(found.histogram.values()) == len(sizes)
    assert found.histogram["3-4"] == sum(3 <= size <= 4 for size in sizes.values())


# What bits tell about labels


def naive_information(codes, labels):
    """I(B; Y) = H(B) + H(Y) - H(B, Y) over the items that have a label."""

    def information(bit, label):
        both = list(zip(bit, label, strict=True))
        return naive_entropy(bit) + naive_entropy(label) - naive_entropy(both)

    if labels.ndim == 1:
        codes, labels = codes[labels != -1], labels[labels != -1]
        return [information(bit, labels.tolist()) for bit in codes.T.tolist()]
    known = (labels != 0).any(axis=1)
    codes, labels = codes[known], labels[known]
    return [
        [information(bit, label) for label in (labels != 0).T.tolist()] for bit in codes.T.tolist()
    ]


def test_mutual_information_by_hand():
    """A bit that is the class, its complement, one that is independent, and one of each."""
    labels = np.array([3, 3, 7, 7])
    codes = np.array([[1, -1, 1, 1], [1, -1, -1, -1], [-1, 1, 1, -1], [-1, 1, -1, -1]], np.int8)
    quarter = 2 * 0.25 * log2(2) + 0.5 * log2(4 / 3) - 0.25 * log2(2) + 0.25 * log2(2 / 3)
    np.testing.assert_allclose(mutual_information(codes, labels), [1, 1, 0, quarter], atol=1e-15)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64])
def test_mutual_information_with_class_ids_is_naive(dtype):
    codes = random_codes(60, 6, share=0.3).copy()
    labels = frozen(np.random.default_rng(1).integers(-1, 4, size=60).astype(dtype))
    codes[:, 0] = np.where(labels == 2, 1, -1)
    expected = naive_information(codes, labels)
    np.testing.assert_allclose(mutual_information(codes, labels), expected, atol=1e-13)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float32])
def test_mutual_information_with_multi_hot_labels_is_naive(dtype):
    """Some items have no label, and one label has no item or all items."""
    codes = random_codes(60, 6, share=0.3)
    labels = np.random.default_rng(1).random((60, 4)) < 0.3
    labels[:, 2] = codes[:, 1] > 0
    labels[:, 3] = False
    assert not labels.any(axis=1).all()
    found = mutual_information(codes, frozen(labels.astype(dtype)))
    assert found.shape == (6, 4)
    np.testing.assert_allclose(found, naive_information(codes, labels), atol=1e-13)


def test_mutual_information_of_one_label_a_bit_is_that_of_two_classes():
    codes, ids = random_codes(40, 3), np.random.default_rng(1).integers(2, size=40)
    ids[:5] = codes[:5, 0] > 0
    expected = mutual_information(codes, ids)
    np.testing.assert_array_equal(mutual_information(codes, np.eye(2)[ids])[:, 1], expected)


def test_independent_and_constant_bits_have_exactly_no_information():
    codes = np.array([[1, 1], [1, -1], [1, 1], [1, -1], [1, 1], [1, -1]], np.int8)
    assert mutual_information(codes, np.array([0, 0, 1, 1, 2, 2])).tolist() == [0, 0]


# Two encodings


def test_flip_rate_by_hand():
    first = np.array([[1, 1, -1], [-1, 1, -1]], np.int8)
    second = np.array([[1, -1, -1], [1, -1, -1]], np.int8)
    mean, per_bit = flip_rate(first, second)
    assert mean == 3 / 6
    assert per_bit.tolist() == [1 / 2, 2 / 2, 0]


def test_flip_rate_of_the_same_and_of_opposite_codes():
    codes = random_codes(9, 5)
    assert flip_rate(codes, codes).mean == 0.0
    assert flip_rate(codes, -codes).per_bit.tolist() == [1.0] * 5


# Collapse


def test_collapse_reason_of_constant_bits():
    codes = random_codes(100, 8).copy()
    assert collapse_reason(codes) is None
    codes[:, :4] = 1
    assert collapse_reason(codes) is None  # a half is not more than a half
    codes[:, 4] = -1
    assert collapse_reason(codes) == "5 of 8 bits are the same for all 100 codes"
    codes[:] = codes[0]
    assert collapse_reason(codes) == "all 100 codes are the same"


def test_collapse_reason_of_one_large_bucket():
    """No bit is dead, but nearly all items have one code."""
    codes = np.ones((100, 8), np.int8)
    codes[90:] = random_codes(10, 8)
    codes[90] = -1
    assert len(dead_bits(codes)) == 0
    assert collapse_reason(codes) is None
    codes[91] = 1
    assert collapse_reason(codes) == "91 of 100 codes are the same"
    assert collapse_reason(codes[:1]) is None  # nothing to compare with


def test_good_codes_have_not_collapsed():
    """Two classes with one code each, which is enough, and a single bit."""
    assert (
        collapse_reason(
            np.repeat(random_codes(1, 16), 20, axis=0) * np.array([[1], [-1]] * 10, np.int8)
        )
        is None
    )
    assert collapse_reason(random_codes(1000, 1)) is None


def test_shares_of_the_rule():
    """The training log uses the first of them too."""
    assert COLLAPSE_DEAD_SHARE == 0.5 and COLLAPSE_BUCKET_SHARE == 0.9


# All of it


def real_codes():
    rng = np.random.default_rng(0)
    return frozen(rng.normal(0.2, size=(41, 6)).astype(np.float32))


def test_code_health_is_its_parts():
    codes, labels = real_codes(), np.random.default_rng(1).integers(-1, 3, size=41)
    signs = np.where(codes >= 0, 1, -1).astype(np.int8)
    health = code_health(codes, labels)
    assert (health.items, health.bits) == (41, 6)
    assert health.bit_balance == bit_balance(signs)
    np.testing.assert_array_equal(health.bit_entropy, bit_entropy(signs))
    np.testing.assert_array_equal(health.bit_correlation, bit_correlation(signs))
    np.testing.assert_array_equal(health.dead_bits, dead_bits(signs))
    np.testing.assert_array_equal(health.duplicate_bits, duplicate_bits(signs))
    assert health.buckets == bucket_statistics(signs)
    np.testing.assert_array_equal(health.mutual_information, mutual_information(signs, labels))
    assert health.quantization_error == pytest.approx(quantization_error(codes), rel=1e-14)
    np.testing.assert_array_equal(health.wasserstein_to_signs, wasserstein_to_signs(codes))
    assert health.collapse is None


def test_code_health_of_signs_has_no_measures_of_real_values():
    codes = flawed_codes()
    health = code_health(codes)
    left_out = {name for name, value in health._asdict().items() if value is None}
    assert left_out == {
        "mutual_information",
        "quantization_error",
        "wasserstein_to_signs",
        "collapse",
    }
    assert health.duplicate_bits.tolist() == duplicate_bits(codes).tolist()


def test_zero_counts_as_plus_one():
    assert code_health(np.array([[0.0, -0.0], [-1.0, 1.0]])).dead_bits.tolist() == [1]


@pytest.mark.parametrize("multi_hot", [False, True])
def test_code_health_does_not_depend_on_the_order_of_the_items(multi_hot):
    """Equal to the last digit, where a plain sum of squares differs."""
    rng = np.random.default_rng(2)
    codes = np.exp(3 * rng.normal(size=(501, 7))) * rng.choice([-1, 1], size=(501, 7))
    codes[300:] = codes[:201]
    labels = rng.integers(5, size=501)
    labels = np.eye(5, dtype=np.int8)[labels] if multi_hot else labels
    orders = [rng.permutation(501) for _ in range(10)]
    assert len({quantization_error(codes[order]) for order in orders}) > 1
    expected = code_health(codes, labels).to_json()
    assert all(code_health(codes[order], labels[order]).to_json() == expected for order in orders)


@pytest.mark.parametrize("labels", [None, np.arange(41) % 3, np.eye(3)[np.arange(41) % 3]])
def test_json_holds_all_and_reads_back(labels):
    for codes in (real_codes(), np.ones((41, 6), np.int8)):
        health = code_health(codes, labels)
        plain = health.to_json()
        assert tuple(plain) == health._fields
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        assert plain["buckets"]["largest"] == health.buckets.largest
        pairs = np.abs(health.bit_correlation[np.triu_indices(health.bits, k=1)])
        assert plain["bit_correlation"] == {"mean": pairs.mean(), "largest": pairs.max()}


def test_one_bit_has_no_pairs_to_correlate():
    health = code_health(np.array([[0.5], [-1.0]]), np.array([0, 1]))
    assert health.to_json()["bit_correlation"] is None


# Mistakes

OF_SIGNS = (
    bit_balance,
    bit_entropy,
    bit_correlation,
    dead_bits,
    duplicate_bits,
    bucket_statistics,
    collapse_reason,
    code_health,
)


@pytest.mark.parametrize("function", OF_SIGNS)
def test_codes_other_than_signs_are_refused(unchecked, function):
    for shape in ((0, 4), (4, 0), (4,)):
        with pytest.raises(ValueError, match=r"shape \[items, bits\]"):
            function(np.ones(shape, np.int8))
    with pytest.raises(ValueError, match=r"codes .*\+1, got 0"):
        function(np.array([[1, 0]], np.int8))
    with pytest.raises(TypeError, match="got uint8"):
        function(np.ones((4, 4), np.uint8))


@pytest.mark.parametrize("function", [wasserstein_to_signs, quantization_error, code_health])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_codes_that_are_not_finite(unchecked, function, wrong):
    with pytest.raises(ValueError, match="codes .*finite"):
        function(np.array([[1.0, wrong]]))
    with pytest.raises(ValueError, match=r"shape \[items, bits\]"):
        function(np.ones((0, 4)))


def test_encodings_of_different_items(unchecked):
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(4, 4\)"):
        flip_rate(random_codes(3, 4), random_codes(4, 4))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, int), "4 codes and 3 labels"),
        (np.zeros((4, 2, 2), int), r"labels .*\(4, 2, 2\)"),
        (np.array([0, 1, -2, 0]), "labels .*-1 for none, got -2"),
        (np.array([0.0, 1.5, 0.0, 0.0]), "labels .*1.5"),
        (np.array([[0, 2]] * 4), "must be 0 or 1"),
        (np.array([[0, np.nan]] * 4), "must be 0 or 1"),
        (np.full(4, -1), "no item has a label"),
        (np.zeros((4, 2)), "no item has a label"),
    ],
)
def test_labels_that_do_not_fit(unchecked, labels, message):
    with pytest.raises(ValueError, match=message):
        code_health(random_codes(4, 3), labels)


def test_codes_whose_squares_are_not_finite_are_refused_or_left_out():
    codes = np.array([[1e200, -1.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match="codes .*1e.150"):
        code_health(codes)
    found = code_health(codes, form=CodeFormat("real-valued", 2))
    assert found.quantization_error is None and found.bit_balance == 0.5
    for dtype in (np.float16, np.float32):
        largest = np.full((2, 2), np.finfo(dtype).max)
        assert np.isfinite(code_health(largest).quantization_error)
