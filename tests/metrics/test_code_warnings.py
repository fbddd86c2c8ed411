"""Warnings and refusals about codes that do not match those of the other side."""

import numpy as np
import pytest

from jaxhash.metrics import CodeFormat, code_warnings, evaluate_retrieval, infer_code_format

RNG = np.random.default_rng(0)
BITS = 16
REAL = {side: RNG.normal(size=(n, BITS)) for side, n in (("query", 30), ("database", 90))}
LABELS = {side: np.arange(len(codes)) % 3 for side, codes in REAL.items()}

#: Transformations that may be applied to one side by mistake, with a part of the warning.
TRANSFORMS = {
    "sigmoid": (lambda u: 1 / (1 + np.exp(-u)), "never negative"),
    "rectified": (lambda u: np.maximum(u, 0), "never negative"),
    "log of sigmoid": (lambda u: -np.log1p(np.exp(-u)), "never positive"),
    "another threshold": (lambda u: u + 1.5, "same threshold"),
    "another scale": (lambda u: 255 * u, "as large as"),
    "infinity": (lambda u: u * np.where(u > 1, np.inf, 1), "infinity"),
}


def warnings_of(codes):
    form = infer_code_format(codes["query"], codes["database"])
    return code_warnings(codes["query"], codes["database"], form)


@pytest.mark.parametrize("other", ["real", "signs"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("side", ["query", "database"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_one_transformed_side_is_warned_of(name, side, dtype, other):
    change, said = TRANSFORMS[name]
    codes = REAL if other == "real" else {key: np.sign(u) for key, u in REAL.items()}
    codes = {**codes, side: change(REAL[side])}
    found = warnings_of({key: u.astype(dtype) for key, u in codes.items()})
    assert any(said in line and f"{side} codes" in line for line in found), found


@pytest.mark.parametrize(
    "change",
    [
        lambda u: u,
        np.sign,
        lambda u: np.sign(u).astype(np.int8),
        lambda u: u > 0,
        lambda u: np.packbits(u > 0, axis=1),
        lambda u: 1e-3 * u,
    ],
    ids=["real", "signs", "int8", "bool", "packed", "small"],
)
def test_matching_sides_have_no_warnings(change):
    assert warnings_of({side: change(u) for side, u in REAL.items()}) == []


def test_few_queries_have_no_warnings():
    """Two queries of one class have most of their bits alike, by right."""
    assert warnings_of({**REAL, "query": np.full((2, BITS), 0.5)[:, :4].repeat(4, 1)[:1]}) == []


def test_packed_sides_are_compared():
    codes = {
        "query": np.full((30, 2), 255, np.uint8),
        "database": np.packbits(REAL["database"] > 0, 1),
    }
    [line] = warnings_of(codes)
    assert "100% of the bits of query codes are set" in line


def test_evaluate_retrieval_warns():
    sigmoid = TRANSFORMS["sigmoid"][0](REAL["query"])
    with pytest.warns(UserWarning) as found:
        evaluate_retrieval(sigmoid, LABELS["query"], REAL["database"], LABELS["database"])
    assert {True} == {"query codes" in str(each.message) for each in found} and len(found) == 3
    with pytest.warns(UserWarning, match="all 90 database codes"):
        one = np.tile(REAL["database"][:1], (90, 1))
        evaluate_retrieval(REAL["query"], LABELS["query"], one, LABELS["database"])


# What cannot be one search


@pytest.mark.parametrize("side", ["query", "database"])
def test_unpacked_and_packed_codes_of_as_many_columns_are_refused(side):
    """Eight columns of 0 and 1 beside eight bytes must not be read as 64 bits."""
    packed = RNG.integers(0, 256, (40, 8)).astype(np.uint8)
    codes = {
        "query": packed,
        "database": packed,
        side: RNG.integers(0, 2, (40, 8)).astype(np.uint8),
    }
    with pytest.raises(ValueError, match=f"{side} codes are 0 and 1, .* are packed") as caught:
        infer_code_format(codes["query"], codes["database"])
    assert caught.value.subject == f"{side} codes"
    stated = infer_code_format(codes["query"], codes["database"], bits=64)
    assert stated == CodeFormat("packed", 64)  # who says so knows


def test_packed_codes_of_a_dead_side_are_packed():
    packed = RNG.integers(0, 256, (40, 8)).astype(np.uint8)
    assert infer_code_format(np.zeros((9, 8), np.uint8), packed).kind == "packed"


def test_columns_that_fit_packed_codes_have_a_hint(unchecked):
    bits = REAL["database"] > 0
    with pytest.raises(ValueError, match="query codes look packed") as caught:
        infer_code_format(np.packbits(bits, axis=1), bits)
    assert caught.value.subject == "codes"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_float_ids_beyond_exact_integers_are_refused(dtype):
    from jaxhash.metrics import distance_counts

    limit = 2 ** (np.finfo(dtype).nmant + 1)
    codes = np.ones((3, 2), np.int8)
    sound = np.array([0, 1, limit - 1]).astype(dtype)
    np.testing.assert_array_equal(
        distance_counts(codes, sound, codes, sound).relevant.sum(axis=1), [1, 1, 1]
    )
    apart = np.array([0, limit, limit + 1])
    assert len(np.unique(apart.astype(dtype))) == 2  # what the check is for
    with pytest.raises(ValueError, match=f"database labels are {np.dtype(dtype)}") as caught:
        distance_counts(codes, apart, codes, apart.astype(dtype))
    assert caught.value.subject == "database labels"


def test_ids_that_overflowed_have_a_hint():
    from jaxhash.metrics import distance_counts

    codes, ids = np.ones((200, 2), np.int8), np.arange(200)
    with pytest.raises(ValueError, match="-128; int8 .*127"):
        distance_counts(codes, ids.astype(np.int8), codes, ids)
