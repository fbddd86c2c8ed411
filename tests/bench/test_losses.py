"""Every public loss of codes can be timed, on labels that do not depend on the devices."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxhash import losses
from jaxhash.bench.config import Setting
from jaxhash.bench.losses import CLASSES, KERNEL, LOSSES, LabeledCodes
from jaxhash.bench.prepare import AXIS, prepare_loss, random_codes

#: Names in the benchmark that differ from those of the functions.
OTHER_NAMES = {
    "hswd": "select",
    "l2_quantization": "l2",
    "sliced_wasserstein": "swd",
    "optimal_transport": "ot",
}
#: A matrix of all pairs, of which `mean_likelihood` is the mean.
LEFT_OUT = {"pairwise_likelihood"}


def is_loss_of_codes(function):
    """Returns whether a public name is a loss of a batch of codes: no step of an alternation."""
    if not inspect.isfunction(function):
        return False
    first, *_ = inspect.signature(function).parameters.values()
    return first.name == "codes" and "n bits" in str(first.annotation)


def test_every_public_loss_of_codes_can_be_timed():
    public = {name for name, value in vars(losses).items() if is_loss_of_codes(value)} - LEFT_OUT
    assert len(public) > 40
    assert {OTHER_NAMES.get(name, name) for name in public} == set(LOSSES) - {"sort", KERNEL}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_a_scalar_with_a_gradient(name):
    codes, key = jax.ShapeDtypeStruct((8, 4), jnp.bfloat16), jax.random.key(0)
    value, gradient = jax.eval_shape(
        jax.value_and_grad(lambda codes, key: LOSSES[name](codes, key, None)), codes, key
    )
    assert value.shape == () and (gradient.shape, gradient.dtype) == (codes.shape, codes.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LOSSES if name != KERNEL])
def test_two_devices_have_the_value_and_gradient_of_one(name):
    one, two = (
        prepare_loss(LOSSES[name], "forward+backward", *random_codes(Setting(16, 8, devices=n)))
        for n in (1, 2)
    )
    for found, expected in zip(two.call(), one.call(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
    assert np.abs(one.call()[1]).max() > 0


def test_devices_have_their_rows_of_the_same_labels():
    key, codes = jax.random.key(3), jnp.arange(12.0).reshape(6, 2)
    whole = LabeledCodes(codes, key, None)
    mesh = jax.make_mesh(
        (2,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2]
    )

    def parts(codes):
        batch = LabeledCodes(codes, key, AXIS)
        return batch.ids, batch.similar, batch.signs, batch.targets, batch.others[None]

    rows = PartitionSpec(AXIS)
    ids, similar, signs, targets, others = jax.jit(
        jax.shard_map(parts, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    )(codes)
    expected = np.asarray(whole.ids)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(similar, expected[:, None] == expected)
    np.testing.assert_array_equal(signs, 2.0 * np.asarray(similar) - 1)
    np.testing.assert_array_equal(targets, np.asarray(whole.class_codes)[expected])
    np.testing.assert_array_equal(others, [codes, codes])
    assert set(expected.tolist()) <= set(range(CLASSES)) and len(set(expected.tolist())) > 1
