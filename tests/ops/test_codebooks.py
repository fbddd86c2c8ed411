"""Codebooks: the distance against brute force and against what coding theory allows."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.ops.codebooks import (
    codebook,
    label_codes,
    linear_codebook,
    minimum_distance,
    sum_over_labels,
)


def brute_force(codes):
    return min(int((a != b).sum()) for a, b in itertools.combinations(codes, 2))


def plotkin(classes, bits):
    """Returns the Plotkin bound on the distance, from the pairs that differ in each bit."""
    half = classes // 2
    return bits * half * (classes - half) // (classes * (classes - 1) // 2)


# The distance


@pytest.mark.parametrize(
    "classes, bits",
    [(2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (10, 5), (10, 12), (21, 20), (21, 13), (38, 24)]
    + [(100, 16), (128, 7), (80, 48), (97, 48), (100, 48), (150, 60), (200, 92), (150, 100)]
    + [(100, 20), (300, 64), (300, 65), (129, 64), (130, 63)],
)
def test_distance_is_that_of_brute_force(classes, bits):
    book = codebook(classes, bits)
    assert book.codes.shape == (classes, bits) and book.codes.dtype == np.int8
    assert set(np.unique(book.codes)) == {-1, 1}
    assert book.distance == brute_force(book.codes) == minimum_distance(book.codes)
    assert 1 <= book.distance <= plotkin(classes, bits)


@pytest.mark.parametrize("bits", [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 52, 64, 100, 128])
def test_hadamard_lengths_have_two_codes_a_bit_half_apart(bits):
    """For more classes than bits Plotkin allows no more; up to them, codes are orthogonal."""
    book = codebook(2 * bits, bits)
    assert book.distance == bits // 2 == plotkin(2 * bits, bits)
    assert book.construction == f"Hadamard matrix of order {bits}"
    codes = codebook(bits, bits).codes.astype(int)
    np.testing.assert_array_equal(codes @ codes.T, bits * np.eye(bits))


@pytest.mark.parametrize(
    "classes, bits, known",
    [
        (4, 3, 2),
        (8, 7, 4),
        (16, 7, 3),
        (16, 8, 4),
        (32, 16, 8),
        (128, 15, 5),
        (32, 31, 16),
        (64, 31, 15),
        (1024, 64, 28),
        (65536, 16, 1),
        (32768, 16, 2),
        (2**16, 64, 24),
        (2**18, 64, 22),
        (26, 50, 26),
        (52, 50, 25),
    ],
)
def test_known_codes_are_reached(classes, bits, known):
    """Simplex, Hamming, first-order Reed-Muller, BCH, parity, and cut Hadamard codes."""
    assert codebook(classes, bits).distance == known


@pytest.mark.parametrize(
    "classes, bits, least", [(1000, 48, 14), (1000, 32, 10), (100, 24, 8), (1000, 100, 36)]
)
def test_lengths_between_are_not_much_worse(classes, bits, least):
    assert codebook(classes, bits).distance >= least


def test_a_single_class_and_two():
    assert codebook(1, 5).distance == 5
    pair = codebook(2, 5)
    assert pair.distance == 5
    np.testing.assert_array_equal(pair.codes[0], -pair.codes[1])


@pytest.mark.parametrize("bits", [1, 2, 3, 8, 12])
def test_every_word_is_used_when_there_is_a_class_for_each(bits):
    book = codebook(2**bits, bits)
    assert book.distance == 1 and len(np.unique(book.codes, axis=0)) == 2**bits


@pytest.mark.slow
def test_a_hundred_thousand_classes():
    book = codebook(100_000, 64)
    assert book.distance == 22 == minimum_distance(book.codes)


# Balance


@pytest.mark.parametrize("classes, bits", [(1024, 48), (256, 16), (2048, 24), (512, 64)])
def test_linear_codes_of_a_power_of_two_are_balanced(classes, bits):
    np.testing.assert_array_equal(codebook(classes, bits).codes.sum(axis=0, dtype=int), 0)


@pytest.mark.parametrize("classes, bits", [(1000, 48), (10_000, 24), (3000, 64)])
def test_other_linear_codes_nearly_are(classes, bits):
    assert np.abs(codebook(classes, bits).codes.mean(axis=0)).max() < 0.05


@pytest.mark.parametrize("classes", [10, 21, 64, 100])
def test_no_bit_is_constant(classes):
    sums = codebook(classes, 64).codes.sum(axis=0, dtype=int)
    assert np.abs(sums).max() < classes
    if classes <= 64:
        assert (sums**2).mean() == classes


# Seeds


def test_seeds_permute_and_flip_but_keep_the_distance():
    books = [codebook(100, 48, seed=seed) for seed in (0, 0, 1, 2)]
    np.testing.assert_array_equal(books[0].codes, books[1].codes)
    assert not np.array_equal(books[0].codes, books[2].codes)
    assert not np.array_equal(books[2].codes, books[3].codes)
    assert {brute_force(b.codes) for b in books} == {books[0].distance}


@pytest.mark.parametrize("classes, bits", [(10, 16), (1000, 32), (60, 9)])
def test_a_seed_changes_more_than_the_order_of_the_bits(classes, bits):
    first, second = (codebook(classes, bits, seed=seed).codes for seed in (0, 1))
    assert not np.array_equal(np.sort(first, axis=1), np.sort(second, axis=1))
    assert not np.array_equal(np.sort(first, axis=0), np.sort(second, axis=0))


# By formula


@pytest.mark.parametrize(
    "classes, bits, seed", [(200, 16, 0), (257, 48, 1), (1000, 64, 2), (60, 9, 0)]
)
def test_the_formula_gives_the_codes_of_the_table(classes, bits, seed):
    table, formula = (make(classes, bits, seed=seed) for make in (codebook, linear_codebook))
    np.testing.assert_array_equal(formula.codes(formula.words), table.codes)
    labels = jnp.array([classes - 1, -1, 0, 7])
    found = jax.jit(formula.codes_of)(labels)
    np.testing.assert_array_equal(found, sum_over_labels(labels, jnp.asarray(table.codes)))
    assert np.isnan(jax.jit(formula.codes_of)(jnp.array([classes]))).all()


def test_codes_without_a_formula_are_refused():
    with pytest.raises(ValueError, match="20 classes and 64 bits"):
        linear_codebook(20, 64)


# Minimum distance


@pytest.mark.parametrize("rows", [1, 2, 5000])
def test_minimum_distance_over_blocks(rows):
    """A pair of equal rows is found across the borders of blocks."""
    codes = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (rows, 64))
    assert minimum_distance(codes) == (64 if rows == 1 else minimum_distance(codes[::-1]))
    if rows > 2:
        for i, j in [(0, rows - 1), (4095, 4096), (4097, rows - 1)]:
            twin = codes.copy()
            twin[j] = twin[i]
            assert minimum_distance(twin) == 0


# Labels


def test_label_codes_of_ids():
    codes = jnp.asarray(codebook(5, 8).codes)
    ties = jnp.full(8, -1, jnp.int8)
    found = label_codes(jnp.array([3, -1, 0]), codes, ties)
    np.testing.assert_array_equal(found, [codes[3], ties, codes[0]])


def test_label_codes_of_several_labels():
    rng = np.random.default_rng(0)
    codes = rng.choice(np.array([-1, 1], np.int8), (6, 16))
    ties = rng.choice(np.array([-1, 1], np.int8), 16)
    labels = rng.integers(2, size=(9, 6))
    labels[4] = 0
    expected = np.zeros((9, 16))
    for i, j in itertools.product(range(9), range(16)):
        votes = sum(int(codes[c, j]) for c in range(6) if labels[i, c])
        expected[i, j] = ties[j] if votes == 0 else np.sign(votes)
    found = label_codes(*map(jnp.asarray, (labels, codes, ties)))
    assert found.dtype == jnp.int8
    np.testing.assert_array_equal(found, expected)
    single = label_codes(jnp.asarray(np.eye(6, dtype=np.uint8)), *map(jnp.asarray, (codes, ties)))
    np.testing.assert_array_equal(single, codes)


# Errors


@pytest.mark.parametrize(
    "classes, bits, words",
    [(9, 3, ("classes=9", "bits=3")), (0, 3, ("classes",)), (2, 0, ("bits",)), (3, 1, ("bits=1",))],
)
def test_refusals_name_the_argument(classes, bits, words):
    with pytest.raises(ValueError) as error:
        codebook(classes, bits)
    assert all(word in str(error.value) for word in words)


BOOK = jnp.array([[1, 1], [-1, 1], [1, -1]], jnp.int8)
TIES = jnp.array([1, -1], jnp.int8)


def test_integers_of_numpy_are_accepted():
    expected = codebook(5, 64, seed=3)
    found = codebook(np.array([0, 4]).max() + 1, np.int32(64), seed=np.uint8(3))
    np.testing.assert_array_equal(found.codes, expected.codes)
    assert found[1:] == expected[1:]


@pytest.mark.parametrize("argument", ["classes", "bits", "seed"])
@pytest.mark.parametrize("value", [2.0, True, "2"])
def test_arguments_that_are_not_integers_are_refused(unchecked, argument, value):
    with pytest.raises(TypeError, match=f"^{argument} .*integer"):
        codebook(**{"classes": 2, "bits": 8, "seed": 0} | {argument: value})


@pytest.mark.parametrize(
    ("error", "labels"),
    [
        (ValueError, jnp.array([3])),
        (ValueError, jnp.array([0, -2])),
        (ValueError, np.array([[0, 2, 0]])),
        (ValueError, np.array([[0, 1]])),
        (TypeError, jnp.array([True, False])),
        (TypeError, np.array(["0"])),
    ],
)
def test_labels_out_of_range_are_refused(unchecked, error, labels):
    for function in (
        lambda: label_codes(labels, BOOK, TIES),
        lambda: sum_over_labels(labels, BOOK),
    ):
        with pytest.raises(error, match="labels"):
            function()


def test_traced_ids_out_of_range_are_marked():
    ids = jnp.array([0, -1, 3, -2])
    nan = np.nan
    np.testing.assert_array_equal(
        jax.jit(sum_over_labels)(ids, BOOK), [[1, 1], [0, 0], [nan, nan], [nan, nan]]
    )
    np.testing.assert_array_equal(
        jax.jit(label_codes)(ids, BOOK, TIES), [[1, 1], [1, -1], [0, 0], [0, 0]]
    )


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_multi_hot_rows_of_every_dtype(dtype):
    rows = np.array([[1, 0, 1], [0, 0, 0]]).astype(dtype)
    np.testing.assert_array_equal(sum_over_labels(rows, BOOK), [[2, 0], [0, 0]])
    np.testing.assert_array_equal(label_codes(rows, BOOK, TIES), [[1, -1], [1, -1]])


def test_codes_of_0_and_1_are_refused():
    wrong = jnp.array([[0, 1], [1, 0], [1, 1]], jnp.int8)
    for codes, ties in ((wrong, TIES), (BOOK, wrong[0])):
        with pytest.raises(ValueError, match="-1 and"):
            label_codes(jnp.array([0]), codes, ties)
    with pytest.raises(ValueError, match="^codes .*-1 and"):
        minimum_distance(np.asarray(wrong))
