"""Arguments of every accepted form are converted; others are refused by name."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxhash.ops.arguments import (
    as_bool,
    as_floating,
    as_index,
    as_int,
    as_labels,
    as_mask,
    as_real,
    check_packed,
    check_shape,
    check_signs,
)

REAL = [bool, np.int8, np.uint8, np.int32, np.uint16, np.float16, np.float32, ml_dtypes.bfloat16]
each_kind = pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])


@each_kind
@pytest.mark.parametrize("dtype", REAL)
def test_zeros_and_ones(kind, dtype):
    array = kind(np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype))
    expected = [[False, True, True], [True, False, False]]
    same = as_bool("it", array)
    assert same.dtype == bool and isinstance(same, np.ndarray) == isinstance(array, np.ndarray)
    np.testing.assert_array_equal(same, expected)
    mask = as_mask("it", array, (2, 3))
    assert isinstance(mask, jax.Array) and mask.dtype == bool
    np.testing.assert_array_equal(mask, expected)
    assert as_mask("it", None, (2, 3)) is None


def test_of_traced_numbers_what_is_above_0_is_1():
    """Only 0 and 1 are accepted: neither counts of shared labels nor the -1 of some methods."""
    found = jax.jit(functools.partial(as_bool, "it"))(jnp.array([0, 1, 3, -1]))
    assert found.tolist() == [False, True, True, False]


def test_constants_within_a_program_are_looked_at():
    two = jnp.array([0, 2])
    with pytest.raises(ValueError, match="^it must be 0 or 1, got 2"):
        jax.jit(lambda x: x + as_bool("it", np.array([0, 2])))(1)
    with pytest.raises(ValueError, match="^it must be 0 or 1, got 2"):
        jax.jit(lambda x: x + as_bool("it", two))(1)


@each_kind
@pytest.mark.parametrize("wrong", [[0, 2], [-1, 1], [0.5, 1.0], [np.nan, 1.0], [256, 1]])
def test_other_numbers_are_not_0_and_1(kind, wrong):
    with pytest.raises(ValueError, match="^it must be 0 or 1"):
        as_bool("it", kind(wrong))


@pytest.mark.parametrize("dtype", [complex, str, object, "datetime64[s]"])
def test_other_dtypes_are_refused(unchecked, dtype):
    array = np.array([0, 1]).astype(dtype)
    for check in (as_bool, as_labels, as_index, check_signs, check_packed):
        with pytest.raises(TypeError, match="^it must be .*, got"):
            check("it", array)
    with pytest.raises(TypeError, match="^it must be real numbers"):
        as_real("it", array, (2,))
    with pytest.raises(TypeError, match="^it must be floating"):
        as_floating("it", array, ndim=1)


@pytest.mark.parametrize("value", [[0, 1], 1, None, "01"])
def test_what_is_no_array_is_refused(unchecked, value):
    for check in (as_bool, as_index, check_signs):
        with pytest.raises(TypeError, match="^it must be an array, got"):
            check("it", value)


def test_shapes():
    check_shape("it", np.ones((2, 3)), (2, None))
    for shape in ((3, 3), (3, None), (2,), (2, 3, None)):
        with pytest.raises(ValueError, match=r"^it must have shape .*, got \(2, 3\)"):
            check_shape("it", np.ones((2, 3)), shape)
    with pytest.raises(ValueError, match="^it must have 1 dimensions"):
        as_floating("it", jnp.ones((2, 3)), ndim=1)


@each_kind
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.uint32])
def test_ids(kind, dtype):
    ids = as_labels("it", kind(np.array([2, 0, 200 % 127]).astype(dtype)), 200)
    assert jnp.issubdtype(ids.dtype, jnp.signedinteger) and ids.tolist() == [2, 0, 73]


def test_ids_of_floats_are_taken_of_numpy_alone():
    ids = as_labels("it", np.array([2.0, -1.0]))
    assert ids.dtype == np.int64 and ids.tolist() == [2, -1]
    with pytest.raises(TypeError, match="^it must be integers, got float32"):
        as_labels("it", jnp.array([2.0, -1.0]))


@each_kind
def test_the_largest_byte_is_an_id_like_others(kind):
    """-1 in uint8 is 255, which must not mean "no label"."""
    ids = as_labels("it", kind(np.array([255, 1], np.uint8)))
    np.testing.assert_array_equal(ids == -1, [False, False])


@pytest.mark.parametrize(
    ("ids", "classes"),
    [([-2], None), ([3], 3), ([0.5], None), ([np.nan], None), (np.float16([2048]), None)],
)
def test_ids_that_are_none(ids, classes):
    with pytest.raises(ValueError, match="^it must be"):
        as_labels("it", np.asarray(ids), classes)


def test_labels_of_other_shapes():
    with pytest.raises(ValueError, match="^it must be class ids"):
        as_labels("it", np.zeros((2, 3, 1), int))
    with pytest.raises(ValueError, match="^multi-hot it must have 4 columns"):
        as_labels("it", np.zeros((2, 3), int), 4)
    with pytest.raises(ValueError, match="^multi-hot it must be 0 or 1"):
        as_labels("it", np.array([[0, 2]]))
    with pytest.raises(TypeError, match="^it must be integers, got bool"):
        as_labels("it", np.array([True, False]))


def test_real_numbers_within_bounds():
    np.testing.assert_array_equal(as_real("it", np.array([0, 1]), (2,), minimum=0.0), [0, 1])
    assert np.isnan(as_real("it", np.array([np.nan]), (1,), minimum=0.0)).all()  # of padding
    with pytest.raises(ValueError, match=r"^it must be in \[0.0, 1.0\], got 2"):
        as_real("it", np.array([0, 2]), (2,), minimum=0.0, maximum=1.0)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32])
def test_signs(dtype):
    check_signs("it", np.array([[1, -1]], dtype))
    for wrong in ([[0, 1]], [[1, 2]]):
        with pytest.raises(ValueError, match="^it .*-1"):
            check_signs("it", np.array(wrong, dtype))
    for other in (bool, np.uint8):
        with pytest.raises(TypeError, match="^it .*-1"):
            check_signs("it", np.array([[1, 1]], other))


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_as_int(value):
    number = as_int("it", value)
    assert type(number) is int and number == 3
    with pytest.raises(ValueError, match="^it .*4, got 3"):
        as_int("it", value, minimum=4)


@pytest.mark.parametrize("value", [3.0, np.float32(3), True, np.True_, "3", None])
def test_other_values_are_no_integers(unchecked, value):
    with pytest.raises(TypeError, match="^it .*integer"):
        as_int("it", value)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_ids_that_the_signed_dtype_does_not_have(dtype):
    """The largest would be -1, and so mean "no label"."""
    largest = np.array([np.iinfo(dtype).max], dtype)
    if dtype == np.uint32:
        assert as_index("labels", largest) == 2**32 - 1
    for ids in (largest,)[dtype == np.uint32 :] + (jnp.array([2**32 - 1], jnp.uint32),):
        with pytest.raises(ValueError, match="^labels"):
            as_index("labels", ids)


def test_signed_numbers_are_no_bools():
    """False would be 0, half way between -1 and +1."""
    for array in (np.array([True]), np.array([1], np.uint8)):
        with pytest.raises(TypeError, match="^targets"):
            as_real("targets", array, (1,), minimum=-1.0, maximum=1.0)
