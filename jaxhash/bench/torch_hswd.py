"""HSWD as its paper released it: two sorts in PyTorch. Needs the extra ``jaxhash[compare]``."""

from collections.abc import Callable

import jax
import numpy as np
import torch
from jaxtyping import Float, Shaped

from jaxhash.bench.config import Pass
from jaxhash.bench.prepare import PreparedLoss, raise_out_of_memory


def released_hswd(
    codes: Float[torch.Tensor, "n bits"], noise: Float[torch.Tensor, "n bits"]
) -> Float[torch.Tensor, ""]:
    """Computes the mean squared difference of the sorted codes and the sorted signs of the noise."""
    ordered = torch.sort(codes, dim=0).values
    target = torch.sort(torch.sign(noise), dim=0).values
    return torch.mean((ordered - target) ** 2)


def torch_device(platform: str) -> str | None:
    """Returns PyTorch's name of JAX's platform, or None if PyTorch cannot use it."""
    if platform == "cpu":
        return "cpu"
    return "cuda" if platform == "gpu" and torch.cuda.is_available() else None


def prepare_torch(which: Pass, codes: Float[jax.Array, "n bits"], key: jax.Array) -> PreparedLoss:
    """Prepares the released form on a copy of the codes and calls it once.

    PyTorch draws the noise by its own generator, which is seeded from the key.

    Raises:
        OutOfMemory: if the device has not enough memory.
    """
    torch.manual_seed(int(jax.random.bits(key)))
    return prepare_form(lambda copy: released_hswd(copy, torch.randn_like(copy)), which, codes)


def prepare_form(
    loss: Callable[[Float[torch.Tensor, "n bits"]], Float[torch.Tensor, ""]],
    which: Pass,
    codes: Float[jax.Array, "n bits"],
) -> PreparedLoss:
    """Prepares a loss in PyTorch on a copy of the codes and calls it once; nothing is compiled.

    Raises:
        OutOfMemory: if the device has not enough memory.
    """
    copy = to_torch(codes)
    copy.requires_grad_(which == "forward+backward")

    def call():
        copy.grad = None
        value = loss(copy)
        if copy.requires_grad:
            value.backward()
        if copy.is_cuda:
            torch.cuda.synchronize()
        return value.detach(), copy.grad

    with raise_out_of_memory():
        call()
    return PreparedLoss(call, compile_seconds=None, peak_bytes=None)


def to_torch(array: Shaped[jax.Array, "..."]) -> Shaped[torch.Tensor, "..."]:
    """Copies an array to the device of PyTorch that it lies on in JAX."""
    device = torch_device(array.devices().pop().platform)
    is_floating = np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"
    values = np.array(array.astype(np.float32) if is_floating else array)
    return torch.tensor(values, device=device, dtype=getattr(torch, array.dtype.name))
