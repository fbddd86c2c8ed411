"""Every public loss: errors, and dtypes of masks, labels and codes."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from conformance import (
    BITS,
    CONFORMANCE,
    STEPS,
    annotation,
    each,
    parts,
    program,
    public_losses,
    value_and_slope,
)

from jaxhash import losses
from jaxhash.losses import PairCounts

PRNG_KEY = jax.dtypes.prng_key


#: Losses whose labels may be weights.
WEIGHTED = ("cross_entropy", "cross_entropy-weights", "propagated_cross_entropy")


@pytest.mark.parametrize(
    "name", [name for name, row in CONFORMANCE.items() if "pair_counts" in row.signature]
)
def test_blocks_of_columns_add_up_to_all(name):
    """A graded similarity has no kinds of pairs: there the sum of the numbers is enough."""
    row = CONFORMANCE[name]
    where, similar = row.data["where"], row.data.get("similar", row.data["where"])
    kinds = [(where & kind).sum() for kind in (similar > 0, similar <= 0)]
    counts = PairCounts(*map(jnp.int32, kinds))

    def value(codes, columns, **options):
        of_pairs = {"where", "similar"} & row.data.keys()
        data = {name: row.data[name][:, columns] for name in of_pairs}
        others = jnp.asarray(row.data["others"][columns])
        return row.loss(codes, others=others, **data, **row.options, **options)

    codes = jnp.asarray(row.arrays["codes"])
    share = partial(jax.value_and_grad(value), pair_counts=counts)
    whole, *blocks = jax.jit(
        lambda codes: (
            jax.value_and_grad(value)(codes, slice(None)),
            share(codes, slice(2)),
            share(codes, slice(2, None)),
        )
    )(codes)
    total = jax.tree.map(jnp.add, *blocks)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), total, whole)


#: Labels and classifiers of any number of classes, with which no other argument has to agree.
ANY_COLUMNS = {
    ("proto_triplet", "labels"),
    ("psh_pairs", "labels"),
    ("linear_cross_entropy", "kernel"),
    ("linear_cross_entropy-samples", "kernel"),
}

#: Dtypes of masks and labels of 0 and 1.
DTYPES = (bool, np.int8, np.uint8, np.int32, np.float16, np.float32, ml_dtypes.bfloat16)


def each_with(quick):
    """A test for each row; rows that are not named are slow tests."""
    slow = pytest.mark.slow
    names = [n if n in quick else pytest.param(n, marks=slow) for n in CONFORMANCE]
    return pytest.mark.parametrize("name", names)


def cast(arrays, dtype):
    """The arrays with those of bool in another dtype, and of NumPy, as which they have values."""
    return {
        n: np.asarray(a).astype(dtype) if a.dtype == bool else jnp.asarray(a)
        for n, a in arrays.items()
    }


def test_every_loss_is_in_the_table():
    tested = {row.loss.__name__ for row in CONFORMANCE.values()}
    assert public_losses() == tested | {step.__name__ for step in STEPS}


@each_with({"hswd", "koleo", "nearest_neighbor_kl", "semantic_similarity"})
def test_a_batch_without_rows_costs_nothing(name):
    trained, rest = parts(name)
    row = CONFORMANCE[name]
    empty = {n: a[:0] if "n" in row.axes_of(n) else a for n, a in (trained | rest).items()}
    empty = {n: a[:, :0] if "all" in row.axes_of(n) else a for n, a in empty.items()}
    assert jax.jit(row.value)(empty) == 0


@pytest.mark.parametrize(
    ("name", "argument", "where"),
    [
        ("csq", "centers", "where"),
        ("distance_to_codes", "targets", "where"),
        ("orthohash", "centers", "where_classes"),
    ],
)
def test_signs_of_valid_rows_are_checked(unchecked, name, argument, where):
    """Codes of 0 and 1 would silently be other codes; padding may hold anything."""
    arrays = CONFORMANCE[name].arrays
    signs = np.array(arrays[argument])
    with pytest.raises(ValueError, match=f"^{argument} must be -1 and"):
        CONFORMANCE[name].value(arrays | {argument: (signs > 0).astype(np.float32)})
    signs[2] = np.zeros(BITS)
    masked = arrays | {argument: signs, where: np.arange(len(signs)) != 2}
    assert np.isfinite(CONFORMANCE[name].value(masked))


def test_codes_without_bits_are_refused(unchecked):
    for name in CONFORMANCE:
        trained, rest = parts(name)
        empty = {n: a[:, :0] if a.shape[1:] == (BITS,) else a for n, a in (trained | rest).items()}
        first = CONFORMANCE[name].first
        empty[first] = empty[first][:, :0]
        with pytest.raises(
            ValueError, match="^(codes|logits|anchors) must have at least one column"
        ):
            CONFORMANCE[name].value(empty)


def computation(name, rest):
    """Returns the program with all other arguments constant, and its constants."""
    trained, _ = parts(name)
    closed = jax.make_jaxpr(lambda trained: CONFORMANCE[name].value(trained | rest))(trained)
    constants = [np.asarray(c) for c in closed.consts if not jnp.issubdtype(c.dtype, PRNG_KEY)]
    return re.sub("0x[0-9a-f]+", "", str(closed.jaxpr)), constants


@each
def test_zeros_and_ones_of_every_dtype(name):
    """The traced programs are identical, so the results are too."""
    _, rest = parts(name)
    labels = {"labels": rest.pop("labels").astype(float)} if name in WEIGHTED else {}
    program, constants = computation(name, labels | cast(rest, bool))
    for dtype in (np.int32, ml_dtypes.bfloat16):
        found, of_dtype = computation(name, labels | cast(rest, dtype))
        assert found == program
        jax.tree.map(np.testing.assert_array_equal, of_dtype, constants)


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_of_every_dtype(name):
    trained, rest = parts(name)
    expected, _ = value_and_slope(name, trained, rest)
    for dtype in (np.uint8, np.float16):
        value, _ = value_and_slope(name, trained, cast(rest, dtype))
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_zeros_and_ones_of_a_step(step):
    expected = step(**cast(STEPS[step], bool))
    for dtype in DTYPES:
        np.testing.assert_array_equal(step(**cast(STEPS[step], dtype)), expected)


@each_with({"hashnet"})
def test_zeros_and_ones_that_are_traced(name):
    trained, rest = parts(name)
    expected = program(name)(trained, rest)
    for dtype in (np.int32, np.float32):
        found = program(name)(trained, cast(rest, dtype))
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@each
def test_other_values_and_dtypes_are_refused_by_name(unchecked, name):
    trained, rest = parts(name)
    for argument in (n for n, a in rest.items() if a.dtype == bool):
        bools = np.asarray(rest[argument])
        wrong = [-bools.astype(np.int32), 2 * bools, bools - np.float32(0.5)]
        for values in wrong[: 1 if argument == "labels" and name in WEIGHTED else None]:
            with pytest.raises(ValueError, match=rf"\b{argument} must be"):
                value_and_slope(name, trained, rest | {argument: values})
        for values in (bools.astype(complex), bools.astype(str), bools.astype(object)):
            with pytest.raises(TypeError, match=rf"\b{argument} must be"):
                value_and_slope(name, trained, rest | {argument: values})
        with pytest.raises(ValueError, match=rf"\b{argument} must"):
            value_and_slope(name, trained, rest | {argument: bools[..., None]})


def test_similarity_by_hand():
    """One similar pair with u.v = 2, one dissimilar one with -1: log(1 + e^-2) + log(1 + e^-1)."""
    codes, others = jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 1.0], [-1.0, 0.0]])
    expected = np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))
    for dtype in DTYPES:
        for similar in (np.array([[1, 0]], dtype), jnp.array([[1, 0]], dtype)):
            assert losses.hashnet(codes, others, similar, scale=1.0) == pytest.approx(expected)


@each
def test_numpy_codes_are_accepted(unchecked, name):
    """In float64 too, which gives a float32 loss without x64."""
    row, (trained, rest) = CONFORMANCE[name], parts(name)
    arrays = {n: np.asarray(a) for n, a in (trained | rest).items()}
    wide = {n: a.astype(float) if a.dtype == np.float32 else a for n, a in arrays.items()}
    for some in (arrays, wide):
        assert jax.eval_shape(lambda some=some: row.value(some)).dtype == np.float32
    if name == "hashnet":
        np.testing.assert_allclose(row.value(wide), row.value(trained | rest), rtol=1e-6)


@each
def test_errors_name_the_argument(unchecked, name):
    row, (trained, rest) = CONFORMANCE[name], parts(name)
    arrays = trained | rest
    for argument, array in arrays.items():
        kind, _ = annotation(row.loss, argument)
        wrong = [(array[..., None], ValueError)]
        if argument != row.first and row.axes_of(argument)[0] == "n":
            wrong.append((array[1:], ValueError))
        if argument != row.first and array.ndim == 2 and (name, argument) not in ANY_COLUMNS:
            wrong.append((array[:, 1:], ValueError))
        if kind == "Float" and argument != "target":  # a number may stand for a sample
            wrong.append((array.astype(int), TypeError))
        for value, error in wrong:
            with pytest.raises(error, match=rf"\b{argument}\b"):
                row.value(arrays | {argument: value})
