"""Codes of a hash function: the same bits in any batch, against plain NumPy, and what is refused."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hash_functions import form_of, inputs_of, make_hasher, with_zeros

from jaxhash.data.input_form import InputForm
from jaxhash.retrieval import encode, stable_values
from jaxhash.retrieval.hasher import Hasher
from jaxhash.utils.errors import UserError

BITS = 16


@pytest.fixture(scope="module", params=["cnn", "linear", "mlp"])
def near_zero(request):
    """A hash function and 64 inputs, of which the first 16 have a value within rounding of zero."""
    shapes = {"cnn": (12, 12, 1), "linear": (300,), "mlp": (300,)}
    hasher = make_hasher(request.param, shapes[request.param], BITS)
    inputs = inputs_of(hasher, 64)
    return with_zeros(hasher, inputs), inputs


def one_by_one(hasher, inputs):
    return np.concatenate([hasher.encode(inputs[i : i + 1]) for i in range(len(inputs))])


def test_codes_do_not_depend_on_batches_order_or_devices(near_zero, monkeypatch):
    hasher, inputs = near_zero
    expected = one_by_one(hasher, inputs)
    assert len(jax.local_devices()) == 8
    orders = (np.arange(64), np.random.default_rng(1).permutation(64))
    for size in (1, 3, 7, 64):
        for order in orders:
            codes = hasher.encode(inputs[order], batch_size=size)
            np.testing.assert_array_equal(codes, expected[order])
    one = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one)
    alone = Hasher(hasher.model, hasher.variables, hasher.form)
    np.testing.assert_array_equal(alone.encode(inputs), expected)
    np.testing.assert_array_equal(alone.encode(inputs, batch_size=5), expected)


def test_without_repeated_rows_bits_do_depend_on_the_batch(monkeypatch):
    """The oracle of the test above: near enough to zero, a bit does change."""
    monkeypatch.setattr(stable_values, "TOLERANCE", 0.0)
    monkeypatch.setattr(stable_values, "_PROBES", 0)
    monkeypatch.setattr(stable_values, "_MARGIN", 0)
    hasher = make_hasher("cnn", (12, 12, 1), 64)
    inputs = inputs_of(hasher, 64)
    hasher = with_zeros(hasher, inputs)
    codes = hasher.encode(inputs)
    assert (codes != one_by_one(hasher, inputs)).any()


def test_few_rows_are_repeated_and_a_rougher_model_raises_the_tolerance():
    hasher = make_hasher("linear", (64,), 32)
    hasher.encode(inputs_of(hasher, 2048))
    program = hasher._codes
    assert program.repeated < 0.02 * 2048
    assert program.tolerance == stable_values.TOLERANCE

    rough = make_hasher("cnn", (12, 12, 1), 32, dtype="bfloat16")
    inputs = inputs_of(rough, 64)
    codes = rough.encode(inputs)
    np.testing.assert_array_equal(codes, one_by_one(rough, inputs))


def test_a_tolerance_that_is_too_small_is_raised(monkeypatch):
    """Batches that differ by 1e-3: the repeated rows show it, and all that are near are repeated."""
    monkeypatch.setattr(stable_values, "TOLERANCE", 1e-9)

    def apply(variables, inputs):
        error = 1e-3 if inputs.shape[0] > 1 else 0.0
        return inputs + error

    inputs = np.linspace(-2e-3, 1, 512, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    inputs[:, 0] += 1
    program = stable_values.StableProgram(apply, {})
    values = np.concatenate(list(program(inputs, 64)))
    np.testing.assert_array_equal(values >= 0, inputs >= 0)
    assert program.tolerance > 1e-3


def test_a_collapsed_model_is_encoded():
    hasher = make_hasher(head=lambda kernel, bias: (kernel * 0, bias * 0))
    codes = hasher.encode(inputs_of(hasher, 40))
    assert codes.tolist() == [[255, 240]] * 40


def test_codes_of_vectors_are_those_of_numpy():
    hasher = make_hasher("linear", (6,), 11, unit_norm=True)
    inputs = inputs_of(hasher, 9)
    inputs[4] = 0.0
    head = hasher.variables["params"]["head"]
    scaled = inputs * hasher.form.scale
    units = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-30)
    expected = units @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(hasher.encode_floats(inputs), expected, atol=1e-6)
    np.testing.assert_allclose(hasher.features(inputs), scaled, atol=1e-6)
    bits = np.unpackbits(hasher.encode(inputs), axis=1)
    assert bits.shape == (9, 16) and not bits[:, 11:].any()
    np.testing.assert_array_equal(bits[:, :11], expected >= 0)  # row 4 is exactly 0: +1
    assert bits[4, :11].all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_other_floats_are_converted(dtype):
    hasher = make_hasher("linear", (6,))
    inputs = inputs_of(hasher, 5).astype(dtype)
    expected = hasher.encode(inputs.astype(np.float32))
    np.testing.assert_array_equal(hasher.encode(inputs), expected)
    np.testing.assert_array_equal(hasher.encode(jnp.asarray(inputs, jnp.float32)), expected)


@pytest.mark.parametrize(("name", "shape"), [("cnn", (8, 8, 1)), ("linear", (6,))])
def test_no_inputs_have_no_codes(name, shape):
    hasher = make_hasher(name, shape)
    none = inputs_of(hasher, 0)
    assert hasher.encode(none).shape == (0, 2) and hasher.encode(none).dtype == np.uint8
    assert hasher.encode_floats(none).shape == (0, 12)
    assert hasher.features(none).shape[0] == 0
    assert hasher.preprocess([]).shape == none.shape


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 5, 300])
def test_inputs_that_are_not_finite_are_refused_by_row(value, n):
    """Also where a ReLU would hide them."""
    hasher = make_hasher("mlp", (6,))
    inputs = inputs_of(hasher, n)
    inputs[n - 1, 2] = value
    for encoder in (hasher.encode, hasher.encode_floats, hasher.features):
        with pytest.raises(UserError, match=f"^row {n - 1} .*not finite"):
            encoder(inputs)


def test_numbers_beyond_float32_and_weights_that_are_not_finite_are_refused():
    hasher = make_hasher("linear", (6,))
    with pytest.raises(UserError, match="row 1 .*not finite"):
        hasher.encode(np.array([np.ones(6), np.full(6, 1e300)]))
    broken = make_hasher("linear", (6,), head=lambda kernel, bias: (kernel, bias * np.nan))
    with pytest.raises(UserError, match="row 0 gets a code that is not finite"):
        broken.encode(inputs_of(broken, 2))


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((2, 7), np.float32), "shape"),
        (np.zeros(6, np.float32), "shape"),
        (np.zeros((), np.float32), "shape"),
        (np.zeros((2, 6), np.int64), "int64"),
        (np.zeros((2, 6), bool), "bool"),
        ([[0.0] * 6], "list"),
    ],
)
def test_arrays_of_another_form_are_refused(array, named, unchecked):
    hasher = make_hasher("linear", (6,))
    with pytest.raises(UserError, match=f"`array` must be vectors.*{named}"):
        hasher.encode(array)


@pytest.mark.parametrize("batch_size", [0, -3, True, 2.0])
def test_batch_sizes_are_checked(batch_size, unchecked):
    hasher = make_hasher("linear", (6,))
    with pytest.raises(UserError, match="`batch_size`"):
        hasher.encode(inputs_of(hasher, 2), batch_size=batch_size)


def test_digest_follows_from_what_determines_codes():
    hasher = make_hasher()
    same = make_hasher(made_by={"by": "somebody"})
    assert hasher.digest == same.digest and len(hasher.digest) == 64
    others = [
        make_hasher(seed=1),
        make_hasher(head_norm=True),
        make_hasher(image_size=10),
        make_hasher(preprocessing="imagenet", shape=(8, 8, 1)),
        Hasher(hasher.model, hasher.variables, dataclasses.replace(hasher.form, least=1.0)),
    ]
    assert len({other.digest for other in others} | {hasher.digest}) == 6


def test_training_options_of_the_backbone_do_not_change_the_digest():
    plain = make_hasher()
    trained = make_hasher(freeze_stages=1, freeze_norm=True, remat=True)
    assert plain.digest == trained.digest


def test_check_code_is_the_code_of_a_fixed_input():
    hasher = make_hasher("linear", (5,), 8)
    # 2654435761 i mod 2^32, its upper 8 bits: 0, 158, 60, 218, 120.
    values = np.array([0, 158, 60, 218, 120]) - 127.5
    np.testing.assert_allclose(hasher.check_input, [values / 128], rtol=1e-6)
    assert hasher.check_code == hasher.encode(hasher.check_input).tobytes().hex()
    image = make_hasher(shape=(1, 5, 1)).check_input
    assert image.dtype == np.uint8 and image.ravel().tolist() == [0, 158, 60, 218, 120]


class Own(nn.Module):
    """A module of the user's own."""

    @nn.compact
    def __call__(self, inputs, *, train=False, mask=None):
        return nn.Dense(5)(inputs)


def test_an_own_module_has_codes_and_no_features():
    form = InputForm("vectors", (3,), "float32", 0.0, 1.0, 1.0, 1.0)
    model = Own()
    hasher = Hasher(model, model.init(jax.random.key(0), np.zeros((1, 3), np.float32)), form)
    assert hasher.bits == 5 and hasher.encode(np.eye(3)).shape == (3, 1)
    assert hasher.config["encoder"] == {"own": "Own"}
    with pytest.raises(UserError, match="features"):
        hasher.features(np.eye(3))


def test_items_are_preprocessed():
    hasher = make_hasher()
    images = inputs_of(hasher, 3)
    np.testing.assert_array_equal(hasher.preprocess(images), images)
    np.testing.assert_array_equal(hasher.preprocess(list(images[..., 0])), images)
    np.testing.assert_array_equal(hasher.preprocess(images[..., 0]), images)
    for items in ("a.png", images[0, 0], np.zeros((5, 6, 3), np.uint8)):
        with pytest.raises(UserError, match="in brackets"):
            hasher.preprocess(items)


def test_batches_are_spread_over_devices(monkeypatch):
    hasher, seen = make_hasher(), []
    spread = encode.local_shardings
    monkeypatch.setattr(stable_values, "local_shardings", lambda n: seen.append(n) or spread(n))
    hasher.encode(inputs_of(hasher, 100), batch_size=44)
    assert set(seen) == {40, 1}  # a multiple of the 8 devices, and the rows that are repeated
    assert len(spread(40)[0].device_set) == 8


def test_form_of_images_has_the_size(tmp_path):
    model = make_hasher(image_size=10).model
    assert form_of(model, (8, 8, 1)).image_size == 10
