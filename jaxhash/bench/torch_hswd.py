"""HSWD as its paper released it: two sorts in PyTorch. Needs the extra ``jaxhash[compare]``."""

import jax
import numpy as np
import torch
from jaxtyping import Float

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
    """Prepares the released form on a copy of the codes and calls it once; nothing is compiled.

    PyTorch draws the noise by its own generator, which is seeded from the key.

    Raises:
        OutOfMemory: if the device has not enough memory.
    """
    device = torch_device(codes.devices().pop().platform)
    values = np.array(codes.astype(np.float32))
    copy = torch.tensor(values, device=device, dtype=getattr(torch, codes.dtype.name))
    copy.requires_grad_(which == "forward+backward")
    torch.manual_seed(int(jax.random.bits(key)))

    def call():
        copy.grad = None
        loss = released_hswd(copy, torch.randn_like(copy))
        if copy.requires_grad:
            loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss.detach(), copy.grad

    with raise_out_of_memory():
        call()
    return PreparedLoss(call, compile_seconds=None, peak_bytes=None)
