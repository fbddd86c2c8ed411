"""Codes and labels of every accepted form are read alike; others are refused."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from oracles import frozen

from jaxhash.metrics import CodeFormat, distance_counts, infer_code_format
from jaxhash.metrics._labels import read_labels

QUERIES, ITEMS, BITS = 5, 21, 11


def random_bits(seed=0, bits=BITS):
    """Draws the bits of queries and items; both values occur on both sides."""
    rng = np.random.default_rng(seed)
    return tuple(rng.random((n, bits)) < 0.5 for n in (QUERIES, ITEMS))


def signs(bits, dtype):
    return np.where(bits, 1, -1).astype(dtype)


def logits(bits, dtype):
    size = np.random.default_rng(1).uniform(0.01, 3, bits.shape)
    return (size * signs(bits, float)).astype(dtype)


BINARY = [np.uint8, np.int8, np.int32, np.uint64, np.float16, np.float32, np.float64]
FORMS = {
    "bool": ("bool", lambda bits: bits.copy()),
    "packed": ("packed", lambda bits: np.packbits(bits, axis=1)),
    **{f"0/1 {d.__name__}": ("0/1", lambda bits, d=d: bits.astype(d)) for d in BINARY},
    **{
        f"-1/+1 {d.__name__}": ("-1/+1", lambda bits, d=d: signs(bits, d))
        for d in (np.int8, np.int64, np.float16, np.float32)
    },
    **{
        f"logits {d.__name__}": ("real-valued", lambda bits, d=d: logits(bits, d))
        for d in (np.float16, np.float32, np.float64)
    },
    "integer logits": ("real-valued", lambda bits: 3 * signs(bits, np.int16)),
    "logits with infinity": ("real-valued", lambda bits: signs(bits, float) * np.inf),
}
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every other row": lambda codes: np.repeat(codes, 2, axis=0)[::2],
    "backwards": lambda codes: codes[::-1, ::-1].copy()[::-1, ::-1],
    "transposed": lambda codes: codes.T.copy().T,
}


def count(codes, bits=None, **options):
    labels = [np.arange(n) % 3 for n in (QUERIES, ITEMS)]
    return distance_counts(codes[0], labels[0], codes[1], labels[1], bits=bits, **options)


# Codes


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_bits(form):
    kind, make = FORMS[form]
    bits = random_bits()
    sides = [frozen(make(some)) for some in bits]
    before = [codes.copy() for codes in sides]
    found = infer_code_format(*sides, bits=BITS)
    assert found == CodeFormat(kind, BITS)
    for codes, expected, copy in zip(sides, bits, before, strict=True):
        read = found.read(codes)
        assert read.dtype == bool
        np.testing.assert_array_equal(read, expected)
        np.testing.assert_array_equal(codes, copy)


@pytest.mark.parametrize("form", ["bool", "packed", "0/1 uint8", "-1/+1 int8", "logits float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_form_and_layout_has_the_same_counts(form, layout):
    bits = random_bits()
    codes = [frozen(LAYOUTS[layout](FORMS[form][1](some))) for some in bits]
    np.testing.assert_equal(count(codes, bits=BITS), count(bits))


@pytest.mark.parametrize("form", ["bool", "packed", "logits float64"])
def test_file_that_is_mapped_into_memory(tmp_path, form):
    bits = random_bits()
    mapped = []
    for name, some in zip("qd", bits, strict=True):
        np.save(tmp_path / f"{name}.npy", FORMS[form][1](some))
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    np.testing.assert_equal(count(mapped, bits=BITS, block=8), count(bits))


@pytest.mark.parametrize(
    ("query", "database", "kind"),
    [
        ("0/1 int8", "0/1 float32", "0/1"),
        ("bool", "0/1 uint8", "0/1"),
        ("-1/+1 int8", "-1/+1 float32", "-1/+1"),
        ("-1/+1 int8", "logits float32", "real-valued"),
        ("logits float64", "-1/+1 int8", "real-valued"),
    ],
)
def test_two_forms_that_mean_the_same(query, database, kind):
    bits = random_bits()
    codes = [FORMS[form][1](some) for form, some in zip((query, database), bits, strict=True)]
    assert infer_code_format(*codes) == CodeFormat(kind, BITS)
    np.testing.assert_equal(count(codes), count(bits))


@pytest.mark.parametrize(
    ("query", "database"),
    [
        *itertools.product(["bool", "0/1 int8", "0/1 uint8"], ["-1/+1 int8", "logits float64"]),
        *itertools.product(["bool", "0/1 int8", "-1/+1 int8", "logits float64"], ["packed"]),
    ],
)
def test_two_forms_that_do_not_match_are_refused(query, database):
    """Both sides have as many columns: 16 bits, or two bytes and two bits."""
    query_bits, bits = random_bits(bits=16)
    query_codes, codes = FORMS[query][1](query_bits), FORMS[database][1](bits)
    query_codes = query_codes[:, : codes.shape[1]]
    for sides in ((query_codes, codes), (codes, query_codes)):
        with pytest.raises(ValueError, match="codes"):
            infer_code_format(*sides)


def test_side_of_ones_matches_each_form():
    """The format of a query of ones is decided by the database."""
    ones = np.ones((1, 4), np.int8)
    for form in ("0/1 int8", "-1/+1 int8", "logits float32"):
        kind, make = FORMS[form]
        codes = make(random_bits(bits=4)[1])
        assert infer_code_format(ones, codes) == CodeFormat(kind, 4)
        assert infer_code_format(codes, ones) == CodeFormat(kind, 4)


@pytest.mark.parametrize("bits", [1, 5, 7, 8, 9, 16, 61, 64])
def test_packed_codes_of_any_length(bits):
    sides = random_bits(bits=bits)
    packed = [np.packbits(some, axis=1) for some in sides]
    found = infer_code_format(*packed, bits=bits)
    assert found == CodeFormat("packed", bits)
    for some, codes in zip(sides, packed, strict=True):
        np.testing.assert_array_equal(found.read(codes), some)


def test_packed_codes_without_their_length_fill_their_bytes():
    packed = [np.packbits(some, axis=1) for some in random_bits(bits=11)]
    assert infer_code_format(*packed) == CodeFormat("packed", 16)


def test_uint8_of_zeros_and_ones_are_bits_unless_the_length_says_otherwise():
    codes = np.array([[0, 1], [1, 1]], np.uint8)
    assert infer_code_format(codes, codes) == CodeFormat("0/1", 2)
    assert infer_code_format(codes, codes, bits=2) == CodeFormat("0/1", 2)
    assert infer_code_format(codes, codes, bits=16) == CodeFormat("packed", 16)
    other = np.array([[0, 2]], np.uint8)
    assert (
        infer_code_format(codes, other)
        == infer_code_format(other, codes)
        == CodeFormat("packed", 16)
    )


def test_column_of_uint8_that_is_one_bit_either_way():
    bits = np.array([[True], [False]])
    for codes in (bits.astype(np.uint8), np.packbits(bits, axis=1)):
        np.testing.assert_array_equal(infer_code_format(codes, codes, bits=1).read(codes), bits)


# Zeros

ZEROS = np.array([[1.5, 0.0, -0.0], [-1.0, 0.0, 2.0]])


@pytest.mark.parametrize(
    ("zero", "expected"),
    [("+1", [[1, 1, 1], [0, 1, 1]]), ("-1", [[1, 0, 0], [0, 0, 1]])],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_exact_zeros_are_counted_and_read_by_the_rule(zero, expected, dtype):
    codes = (2 * ZEROS).astype(dtype)
    found = infer_code_format(codes, codes[:1], zero=zero)
    assert found == CodeFormat("real-valued", 3, zero, zeros=5)
    np.testing.assert_array_equal(found.read(codes), np.array(expected, bool))


def test_packed_codes_of_the_wrong_dtype_are_refused(unchecked):
    packed = np.array([[3, -100], [0, 77]], np.int8)
    with pytest.raises(ValueError, match="query codes .*int8"):
        infer_code_format(packed, packed)


def test_signs_of_zeros_are_real_valued():
    """Codes as `numpy.sign` returns them."""
    assert infer_code_format(np.sign(ZEROS), np.sign(ZEROS)).zeros == 6


def test_exact_zeros_can_be_refused():
    with pytest.raises(ValueError, match="6 .*zero.*'error'"):
        infer_code_format(ZEROS, ZEROS, zero="error")


@pytest.mark.parametrize("form", ["bool", "0/1 int8", "packed", "-1/+1 int8", "logits float32"])
def test_rule_for_zeros_does_not_touch_other_forms(form):
    bits = random_bits()
    codes = [FORMS[form][1](some) for some in bits]
    for zero in ("+1", "-1", "error"):
        np.testing.assert_equal(count(codes, bits=BITS, zero=zero), count(bits))


# Codes that are none

GOOD = np.array([[0.5, -1.0]])


@pytest.mark.parametrize(
    ("query", "database", "message"),
    [
        (GOOD, [[0.5, np.nan]], "database codes hold NaN"),
        ([[np.nan, 1.0]], GOOD, "query codes hold NaN"),
        (GOOD, [[0.5, -1.0, 2.0]], "2 bits, .*3"),
        (np.uint8([[7]]), np.uint8([[7, 8]]), "1 bytes, .*2"),
        (np.zeros((0, 2)), GOOD, r"query codes .*\(0, 2\)"),
        (GOOD, np.zeros((3, 0)), r"database codes .*\(3, 0\)"),
        (GOOD[0], GOOD, r"query codes .*\(2,\)"),
        (GOOD, GOOD[None], r"database codes .*\(1, 1, 2\)"),
        ([[0.5, 2.0]], [[0.5, 0.0]], "no negative value"),
        (np.uint16([[5]]), np.uint16([[9]]), "packed codes are uint8"),
        ([[np.inf, 2.0]], [[2.0, 3.0]], "no negative value"),
        ([[0, 1]], [[-1, 1]], "query codes are 0 and 1"),
        ([[-3, 1]], [[0, 1]], "database codes are 0 and 1"),
    ],
)
def test_other_codes_are_refused(unchecked, query, database, message):
    with pytest.raises(ValueError, match=message):
        infer_code_format(np.array(query), np.array(database))


@pytest.mark.parametrize("dtype", [object, np.str_, np.complex64, "datetime64[s]"])
def test_codes_that_are_not_numbers_are_refused(dtype):
    codes = np.ones((2, 2), int).astype(dtype)
    with pytest.raises(TypeError, match="database codes"):
        infer_code_format(GOOD, codes)


@pytest.mark.parametrize(
    ("codes", "bits", "message"),
    [
        (GOOD, 3, "bits=3, .*2 columns"),
        (np.array([[True, False]]), 16, "bits=16, .*2 columns"),
        (np.uint8([[7, 8]]), 17, "bits=17 do not fit 2 bytes"),
        (np.uint8([[7, 8]]), 8, "bits=8 do not fit 2 bytes"),
        (np.uint8([[7, 8]]), 0, "bits=0 do not fit 2 bytes"),
        (np.uint8([[0, 1]]), 3, "bits=3 do not fit 2 bytes"),
        (np.uint8([[7, 8]]), 12, "bits=12, .*query codes"),
    ],
)
def test_length_that_does_not_fit(codes, bits, message):
    with pytest.raises(ValueError, match=message):
        infer_code_format(codes, codes, bits=bits)


def test_bits_after_the_last_are_found_on_either_side():
    good, bad = np.uint8([[7, 16]]), np.uint8([[7, 16], [7, 17]])
    assert infer_code_format(good, good, bits=12).bits == 12
    for sides in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="bits set"):
            infer_code_format(*sides, bits=12)


def test_unknown_rule_for_zeros_is_an_error(unchecked):
    with pytest.raises(ValueError, match=r"zero .*'\+1'.*'-1'.*'error'.*'0'"):
        infer_code_format(GOOD, GOOD, zero="0")


@pytest.mark.parametrize("bad", [np.nan, 0.0])
def test_values_of_late_rows_are_checked(bad):
    """Bad values in a later block of rows are found."""
    codes = np.full((2**16 + 3, 1), -1.0)
    codes[[0, -1]] = bad
    if np.isnan(bad):
        with pytest.raises(ValueError, match="database codes .*NaN"):
            infer_code_format(GOOD[:, :1], codes)
    else:
        assert infer_code_format(GOOD[:, :1], codes).zeros == 2


# Labels


def pairs(query_labels, labels, relevance="shared"):
    """The number of labels that a query and an item share, [queries, items], as it is counted.

    Item i lies alone at the distance i from every query.
    """
    items = len(labels)
    codes = np.arange(items)[:, None] > np.arange(items)
    some = distance_counts(
        np.zeros((len(query_labels), items), bool), query_labels, codes, labels, relevance=relevance
    )
    np.testing.assert_array_equal(some.total[:, :items], 1)
    if some.gains is None:
        return some.relevant[:, :items]
    np.testing.assert_array_equal(some.gains.sum(axis=2), some.relevant)
    assert some.gains.max(initial=0) <= 1
    return (some.gains * np.arange(1, some.gains.shape[2] + 1)).sum(axis=2)[:, :items]


IDS = np.array([3, -1, 0, 3, 7]), np.array([0, 3, 3, -1, 5, 7, 12, -1])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.float16, np.float64])
@pytest.mark.parametrize("relevance", ["shared", "equal", "graded"])
def test_ids_are_relevant_where_they_are_equal(dtype, relevance):
    query, items = IDS
    expected = (query[:, None] == items) & (query != -1)[:, None]
    found = pairs(*(frozen(ids.astype(dtype)) for ids in IDS), relevance)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("query", "items"),
    [
        (np.int64([2**63 - 1, 0, 2**62]), np.int64([2**62, 2**63 - 1, 1, -1])),
        (np.uint64([2**63 - 1, 2**53, 1]), np.uint64([2**53 + 1, 2**53, 2**63 - 1])),
        (np.float64([2.0**53, 2.0**62]), np.int64([2**53, 2**62, -1])),
        (np.int64([5, 5]), np.int64([-1, -1, -1])),
        (np.int64([-1, -1]), np.int64([0, -1, 1])),
        (np.arange(300), np.arange(40) * 7),
    ],
)
def test_ids_may_be_large_many_or_missing(query, items):
    expected = np.array([[q == d != -1 for d in items.tolist()] for q in query.tolist()])
    np.testing.assert_array_equal(pairs(query, items), expected)


def multi_hot(classes, share=0.4, seed=0):
    """Draws rows of queries and items; the first has no label, the second all labels."""
    rng = np.random.default_rng(seed)
    sides = [rng.random((n, classes)) < share for n in (6, 17)]
    for rows in sides:
        rows[:2] = [[False], [True]]
    return sides


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int8, np.int64, np.uint64, np.float16, np.float32]
)
def test_multi_hot_of_any_type(dtype):
    query, items = multi_hot(5)
    expected = (query.astype(int) @ items.T.astype(int)) > 0
    found = pairs(*(frozen(np.asfortranarray(rows.astype(dtype))) for rows in (query, items)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("classes", [2, 7, 8, 81])
@pytest.mark.parametrize("share", [0.1, 0.7])
def test_graded_relevance_is_the_number_of_labels_in_common(classes, share):
    query, items = multi_hot(classes, share)
    expected = query.astype(int) @ items.T.astype(int)
    np.testing.assert_array_equal(pairs(query, items, "graded"), expected)


def test_graded_relevance_where_nothing_has_a_label():
    query, items = np.zeros((2, 3), bool), np.ones((4, 3), bool)
    for sides in ((query, items), (items, query), (query, query)):
        np.testing.assert_array_equal(pairs(*sides, "graded"), 0)


@pytest.mark.parametrize("classes", [2, 3, 9, 70])
def test_equal_relevance_is_the_same_set(classes):
    query, items = multi_hot(classes)
    items[2:5] = query[2:5]
    items[5] = ~query[5]
    expected = [[bool(q.any()) and np.array_equal(q, d) for d in items] for q in query]
    assert np.any(expected)
    np.testing.assert_array_equal(pairs(query, items, "equal"), expected)


def test_multi_hot_of_two_types():
    query, items = multi_hot(5)
    np.testing.assert_array_equal(pairs(query.astype(float), items), pairs(query, items))


@pytest.mark.parametrize(
    ("query", "items", "message"),
    [
        (np.arange(3), np.arange(4), "2 query codes and 3 labels"),
        (np.arange(2), np.arange(5), "4 database codes and 5 labels"),
        (np.arange(2), np.eye(4), r"one kind .*\(2,\) and \(4, 4\)"),
        (np.eye(2), np.eye(4), r"one kind .*\(2, 2\) and \(4, 4\)"),
        (np.zeros((2, 1, 1)), np.arange(4), r"query labels .*\(2, 1, 1\)"),
        (np.zeros((2, 0)), np.zeros((4, 0)), r"query labels .*\(2, 0\)"),
        (np.array(1), np.arange(4), r"query labels .*\(\)"),
        ([0, -2], np.arange(4), "query labels .*-1 for none, got -2"),
        (np.arange(2), [0.0, 1.0, 2.5, 3.0], "database labels .*integer"),
        (np.arange(2), [0, 1, np.nan, 3], "database labels .*integer"),
        ([np.inf, 0], np.arange(4), "query labels .*integer"),
        ([True, False], np.arange(4), "query labels .*integer"),
        (np.uint64([2**64 - 1, 0]), np.arange(4), "query labels .*got 1844674407"),
        (np.arange(2), [0, 1, 2, 2.0**63], "database labels .*got 9.22"),
        (np.ones((2, 1)), np.ones((4, 1)), r"2 or more classes\], got shape \(2, 1\)"),
        (np.eye(2, 3) * 2, np.eye(4, 3), "query labels .*0 or 1, got 2"),
        (np.eye(2, 3), -np.eye(4, 3), "database labels .*got -1"),
        (np.eye(2, 3), np.eye(4, 3) * np.nan, "database labels .*got nan"),
    ],
)
@pytest.mark.parametrize("relevance", ["shared", "equal", "graded"])
def test_labels_that_do_not_fit(unchecked, query, items, message, relevance):
    with pytest.raises(ValueError, match=message):
        read_labels(np.array(query), np.array(items), queries=2, items=4, relevance=relevance)


@pytest.mark.parametrize("dtype", [object, np.str_, np.complex64])
def test_labels_that_are_no_numbers(dtype):
    with pytest.raises(TypeError, match="database labels"):
        read_labels(np.arange(2), np.arange(4).astype(dtype), queries=2, items=4)


def test_unknown_relevance_is_an_error(unchecked):
    with pytest.raises(ValueError, match="relevance .*'shared'.*'equal'.*'graded'.*'near'"):
        read_labels(np.arange(2), np.arange(4), queries=2, items=4, relevance="near")


def test_bfloat16_is_floating():
    """bfloat16 is no dtype of NumPy itself."""
    codes = np.asarray(jnp.array([[0.5, -0.25, 0.0]], jnp.bfloat16))
    found = infer_code_format(codes, codes)
    assert (found.kind, found.zeros) == ("real-valued", 2)
    assert found.read(codes).tolist() == [[True, False, True]]
    broken = np.asarray(jnp.array([[jnp.nan, -1.0, 0.0]], jnp.bfloat16))
    with pytest.raises(ValueError, match="query codes .*NaN"):
        infer_code_format(broken, codes)
