"""The released form in PyTorch, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.bench.config import Setting
from jaxhash.bench.prepare import random_codes

torch = pytest.importorskip("torch", reason="PyTorch, the extra [compare], is not installed")


@pytest.fixture
def form():
    from jaxhash.bench import torch_hswd

    return torch_hswd


def test_value_and_gradient_are_those_of_numpy(form):
    rng = np.random.default_rng(0)
    codes, noise = rng.normal(size=(2, 9, 5)).astype(np.float32)
    ours = torch.tensor(codes, requires_grad=True)
    value = form.released_hswd(ours, torch.tensor(noise))
    value.backward()
    signs = np.sort(np.sign(noise), axis=0)
    gradient = np.empty_like(codes)
    order = np.argsort(codes, axis=0)
    difference = np.take_along_axis(codes, order, axis=0) - signs
    np.put_along_axis(gradient, order, 2 * difference / codes.size, axis=0)
    np.testing.assert_allclose(value.item(), (difference**2).mean(), rtol=1e-6)
    np.testing.assert_allclose(ours.grad.numpy(), gradient, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_timed(form, dtype):
    codes, key = random_codes(Setting(16, 4, dtype))
    assert form.prepare_torch("forward", codes, key).call()[1] is None
    prepared = form.prepare_torch("forward+backward", codes, key)
    (first, gradient), (second, again) = prepared.call(), prepared.call()
    assert gradient.shape == again.shape == (16, 4) and gradient.dtype == getattr(torch, dtype)
    assert first != second  # noise drawn afresh in each call
    expected = 2 / 64 * (np.abs(codes.astype(jnp.float32)) + 1)  # twice the size, at most
    assert (np.abs(again.float().numpy()) <= expected * 1.02).all()  # not summed over calls
    assert (prepared.compile_seconds, prepared.peak_bytes) == (None, None)


def test_device(form, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [form.torch_device(name) for name in ("cpu", "gpu", "tpu")] == ["cpu", None, None]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [form.torch_device(name) for name in ("cpu", "gpu", "tpu")] == ["cpu", "cuda", None]
