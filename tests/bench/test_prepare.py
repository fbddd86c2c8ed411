"""The loss and its gradient are timed, over devices too, within the memory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.bench import prepare as prepare_module
from jaxhash.bench.config import Setting
from jaxhash.bench.losses import LOSSES
from jaxhash.bench.prepare import (
    OutOfMemory,
    prepare_loss,
    raise_out_of_memory,
    random_codes,
)


def test_codes_are_normal_and_always_the_same():
    codes, key = random_codes(Setting(4096, 16))
    again, same_key = random_codes(Setting(4096, 16, "bfloat16", 8))
    assert codes.shape == (4096, 16) and codes.dtype == jnp.float32
    assert abs(float(codes.mean())) < 0.02 and abs(float(codes.std()) - 1) < 0.02
    np.testing.assert_array_equal(codes.astype(jnp.bfloat16), again)
    assert {shard.data.shape for shard in again.addressable_shards} == {(512, 16)}
    assert jax.random.key_data(key).tolist() == jax.random.key_data(same_key).tolist()


@pytest.mark.parametrize("name", ["l2", "sort", "select"])
@pytest.mark.parametrize("devices", [1, 2])
def test_what_is_timed_is_value_and_gradient_of_the_whole_batch(name, devices):
    """The oracle is the bare loss on one device."""
    codes, key = random_codes(Setting(16, 4))
    value, gradient = jax.value_and_grad(LOSSES[name])(codes, key, None)
    inputs = random_codes(Setting(16, 4, devices=devices))
    np.testing.assert_allclose(
        prepare_loss(LOSSES[name], "forward", *inputs).call(), value, rtol=1e-5
    )
    both = prepare_loss(LOSSES[name], "forward+backward", *inputs)
    np.testing.assert_allclose(both.call()[0], value, rtol=1e-5)
    np.testing.assert_allclose(both.call()[1], gradient, rtol=1e-5, atol=1e-8)
    assert len(both.call()[1].devices()) == devices
    assert both.compile_seconds > 0


@pytest.mark.parametrize(("name", "devices"), itertools.product(["swd", "ot", "hashnet"], [1, 2]))
def test_every_other_loss_can_be_called(name, devices):
    inputs = random_codes(Setting(4, 2, devices=devices))
    value, gradient = prepare_loss(LOSSES[name], "forward+backward", *inputs).call()
    assert np.isfinite(value) and np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_peak_memory_is_of_arguments_outputs_and_temporaries():
    """Codes and gradient of the elementwise loss; the sort needs room for itself."""
    codes, key = random_codes(Setting(64, 64))
    peak = {
        name: prepare_loss(LOSSES[name], "forward+backward", codes, key).peak_bytes
        for name in ("l2", "sort")
    }
    assert 2 * codes.nbytes + 4 <= peak["l2"] < 3 * codes.nbytes + 100 < peak["sort"]


def test_key_is_an_argument():
    """A constant key would let the compiler draw the target once and for all."""
    codes, key = random_codes(Setting(8, 2))
    seen = []
    prepare_loss(lambda c, k, axis: seen.append(k) or jnp.sum(c), "forward", codes, key)
    assert isinstance(seen[0], jax.core.Tracer)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 1"), RuntimeError("CUDA out of memory.")],
)
def test_want_of_memory_is_told_apart(error):
    with pytest.raises(OutOfMemory, match="not enough memory"), raise_out_of_memory():
        raise error
    with pytest.raises(RuntimeError, match="shape"), raise_out_of_memory():
        raise RuntimeError("wrong shape")


@pytest.mark.parametrize("devices", [1, 2])
def test_more_than_the_machine_has_is_not_called(monkeypatch, devices):
    """The devices of a CPU share its memory."""
    codes, key = random_codes(Setting(1024, 64, devices=devices))
    needed = devices * prepare_loss(LOSSES["l2"], "forward", codes, key).peak_bytes
    monkeypatch.setattr(prepare_module, "physical_memory", lambda: needed / 0.74)
    prepare_loss(LOSSES["l2"], "forward", codes, key)
    monkeypatch.setattr(prepare_module, "physical_memory", lambda: needed / 0.76)
    with pytest.raises(OutOfMemory, match="more than 3/4 of the machine's"):
        prepare_loss(LOSSES["l2"], "forward", codes, key)
