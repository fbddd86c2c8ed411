"""Turns a loss into a call that can be timed: codes, compilation, devices, memory."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key

from jaxhash.bench.config import Pass, Setting
from jaxhash.bench.losses import Loss
from jaxhash.utils.hardware import physical_memory

#: Name of the mapped axis that the batch is sharded over.
AXIS = "devices"


class OutOfMemory(Exception):
    """A loss needs more memory than available; the message is the reason in words."""


class PreparedLoss(NamedTuple):
    """A loss ready to be timed."""

    call: Callable[[], Any]
    """Computes the loss once and returns when the device is done."""
    compile_seconds: float | None
    """Time of lowering and compiling; None if nothing is compiled."""
    peak_bytes: int | None
    """Arguments, outputs and temporaries of the compiled program, on each device; None if unknown.
    Memory that a callback allocates on the host is not counted."""


Codes = Float[Array, "n bits"]
#: A function of pass, codes and key: `prepare_loss` of one loss, or `torch_hswd.prepare_torch`.
PrepareLoss = Callable[[Pass, Codes, Key[Array, ""]], PreparedLoss]


def random_codes(setting: Setting) -> tuple[Codes, Key[Array, ""]]:
    """Returns standard normal codes, sharded over the setting's devices, and a key; always the same."""
    key = jax.random.key(0)
    shape = (setting.batch, setting.bits)
    codes = jax.random.normal(key, shape, jnp.float32).astype(setting.dtype)
    if setting.devices == 1:
        return codes, key
    mesh = Mesh(np.array(jax.local_devices()[: setting.devices]), (AXIS,))
    codes = jax.device_put(codes, NamedSharding(mesh, PartitionSpec(AXIS)))
    return codes, jax.device_put(key, NamedSharding(mesh, PartitionSpec()))


def prepare_loss(loss: Loss, which: Pass, codes: Codes, key: Key[Array, ""]) -> PreparedLoss:
    """Compiles a loss for these codes, over the devices they lie on, and calls it once.

    Raises:
        OutOfMemory: if the loss needs more memory than available.
    """
    sharding = codes.sharding
    one = Mesh(np.array(list(codes.devices())[:1]), (AXIS,))
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else one
    program = jax.jit(over_devices(loss, which, mesh))
    with raise_out_of_memory():
        start = time.perf_counter()
        compiled = program.lower(codes, key).compile()
        compile_seconds = time.perf_counter() - start
        peak_bytes = _peak_bytes(compiled)
        _check_memory(peak_bytes, codes)

        def call():
            return jax.block_until_ready(compiled(codes, key))

        call()
    return PreparedLoss(call, compile_seconds, peak_bytes)


@contextlib.contextmanager
def raise_out_of_memory() -> Iterator[None]:
    """Raises `OutOfMemory` in place of the errors of JAX and PyTorch about memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        message = str(error).lower()
        if isinstance(error, MemoryError) or "resource_exhausted" in message or "memory" in message:
            raise OutOfMemory("the device has not enough memory") from error
        raise


def over_devices(loss: Loss, which: Pass, mesh: Mesh) -> Callable:
    """Returns the loss, or its value and gradient, as a function of the whole codes and the key.

    Args:
        loss: the loss.
        which: value alone, or value and gradient.
        mesh: devices that share the rows of the codes, along `AXIS`.
    """
    backward = which == "forward+backward"
    axis = AXIS if mesh.size > 1 else None

    def value(codes, key):
        return loss(codes, key, axis)

    function = jax.value_and_grad(value) if backward else value
    if axis is None:
        return function
    rows, whole = PartitionSpec(AXIS), PartitionSpec()
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(rows, whole),
        out_specs=(whole, rows) if backward else whole,
        check_vma=False,  # the losses sum over the devices: see jaxhash.losses
    )


def _peak_bytes(compiled: Any) -> int | None:
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    return (
        memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    ) - memory.alias_size_in_bytes


def _check_memory(peak_bytes: int | None, codes: Array) -> None:
    """Raises OutOfMemory on a CPU, where the system would kill the process.

    Other devices raise an error of their own.
    """
    devices = codes.devices()
    if peak_bytes is None or any(device.platform != "cpu" for device in devices):
        return
    needed, available = peak_bytes * len(devices), physical_memory()
    if needed > 0.75 * available:
        raise OutOfMemory(
            f"it needs {needed / 2**30:.3g} GiB, more than 3/4 of the machine's "
            f"{available / 2**30:.3g} GiB"
        )
