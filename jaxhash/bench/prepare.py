"""From a loss to a call that can be timed: codes, compilation, devices, memory."""

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

#: Name of the mapped axis that the batch is spread over.
AXIS = "devices"


class OutOfMemory(Exception):
    """A loss needs more memory than there is; the message is the reason in words."""


class Prepared(NamedTuple):
    """A loss ready to be timed."""

    call: Callable[[], Any]
    """Computes once and returns when the device is done."""
    compile_seconds: float | None
    """Lowering and compiling; None where nothing is compiled."""
    peak_bytes: int | None
    """Arguments, outputs and temporaries of the compiled program, on each device; None if unknown.
    What a callback allocates on the host is not in it."""


Codes = Float[Array, "n bits"]
#: What makes a loss ready for codes: `prepare` with the loss in it, or PyTorch's.
Prepare = Callable[[Pass, Codes, Key[Array, ""]], Prepared]


def draw_codes(setting: Setting) -> tuple[Codes, Key[Array, ""]]:
    """Standard normal codes, spread over the setting's devices, and a key; always the same."""
    key = jax.random.key(0)
    shape = (setting.batch, setting.bits)
    codes = jax.random.normal(key, shape, jnp.float32).astype(setting.dtype)
    if setting.devices == 1:
        return codes, key
    mesh = Mesh(np.array(jax.local_devices()[: setting.devices]), (AXIS,))
    codes = jax.device_put(codes, NamedSharding(mesh, PartitionSpec(AXIS)))
    return codes, jax.device_put(key, NamedSharding(mesh, PartitionSpec()))


def prepare(loss: Loss, which: Pass, codes: Codes, key: Key[Array, ""]) -> Prepared:
    """Compile a loss for these codes, over the devices they lie on, and call it once.

    Raises:
        OutOfMemory: if it needs more memory than there is.
    """
    program = jax.jit(_over_devices(loss, which, codes))
    with refusing_memory():
        start = time.perf_counter()
        compiled = program.lower(codes, key).compile()
        compile_seconds = time.perf_counter() - start
        peak_bytes = _peak_bytes(compiled)
        _refuse_more_than_there_is(peak_bytes, codes)

        def call():
            return jax.block_until_ready(compiled(codes, key))

        call()
    return Prepared(call, compile_seconds, peak_bytes)


@contextlib.contextmanager
def refusing_memory() -> Iterator[None]:
    """Turn what JAX and PyTorch raise for want of memory into `OutOfMemory`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error).lower()
        if isinstance(error, MemoryError) or "resource_exhausted" in said or "memory" in said:
            raise OutOfMemory("the device has not enough memory") from error
        raise


def _over_devices(loss: Loss, which: Pass, codes: Codes) -> Callable:
    """The loss, or its value and gradient, as a function of the whole codes and the key."""
    backward = which == "forward+backward"
    axis = AXIS if len(codes.devices()) > 1 else None

    def value(codes, key):
        return loss(codes, key, axis)

    function = jax.value_and_grad(value) if backward else value
    if axis is None:
        return function
    rows, whole = PartitionSpec(AXIS), PartitionSpec()
    return jax.shard_map(
        function,
        mesh=codes.sharding.mesh,
        in_specs=(rows, whole),
        out_specs=(whole, rows) if backward else whole,
        check_vma=False,  # the losses sum over the devices themselves: see jaxhash.losses
    )


def _peak_bytes(compiled: Any) -> int | None:
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    return (
        memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    ) - memory.alias_size_in_bytes


def _refuse_more_than_there_is(peak_bytes: int | None, codes: Array) -> None:
    """On a CPU the system would kill the process; other devices refuse by themselves."""
    devices = codes.devices()
    if peak_bytes is None or any(device.platform != "cpu" for device in devices):
        return
    needed, there = peak_bytes * len(devices), physical_memory()
    if needed > 0.75 * there:
        raise OutOfMemory(
            f"it needs {needed / 2**30:.3g} GiB, more than 3/4 of the machine's "
            f"{there / 2**30:.3g} GiB"
        )
