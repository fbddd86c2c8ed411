"""What a loss asks of accelerators that are not here: operations, bytes and memory, but no time."""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxhash.bench.compile.program import compile_function
from jaxhash.bench.compile.roofline import count_work
from jaxhash.bench.compile.targets import Target, target_devices
from jaxhash.bench.config import Pass, Setting
from jaxhash.bench.losses import Loss
from jaxhash.bench.measure import bytes_to_move
from jaxhash.bench.prepare import AXIS, over_devices


class CompiledLoss(NamedTuple):
    """What the compiled program of one loss at one setting asks of each device."""

    loss: str
    which: Pass
    batch: int
    bits: int
    dtype: str
    devices: int
    flops: int
    """Operations of matrix products."""
    accessed_bytes: int
    """Bytes read from memory and written to it."""
    sent_bytes: int
    """Bytes sent to other devices."""
    loops: int
    """Loops whose rounds depend on data; each counts `jaxhash.bench.compile.roofline.ROUNDS`."""
    compile_seconds: float
    """Time of lowering and compiling, on the machine that compiled."""
    peak_bytes: int
    """Arguments, outputs, temporaries and code of the program."""
    moved_bytes: int
    """Bytes that any implementation must move on all devices: see `bytes_to_move`."""

    @property
    def setting(self) -> Setting:
        """The size, dtype and devices of the codes."""
        return Setting(self.batch, self.bits, self.dtype, self.devices)


def compile_loss(
    name: str, loss: Loss, which: Pass, setting: Setting, target: Target
) -> CompiledLoss:
    """Compiles a loss for devices of a target.

    Raises:
        DoesNotFitError: if a device has too little memory.
        UserError: if the compiler is not installed.
    """
    mesh = Mesh(np.array(target_devices(target)[: setting.devices]), (AXIS,))
    rows = NamedSharding(mesh, PartitionSpec(AXIS if setting.devices > 1 else None))
    whole = NamedSharding(mesh, PartitionSpec())
    codes = jax.ShapeDtypeStruct((setting.batch, setting.bits), setting.dtype, sharding=rows)
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)
    program = compile_function(over_devices(loss, which, mesh), (codes, key), target, name=name)
    work = count_work(program)
    return CompiledLoss(
        name,
        which,
        *setting,
        flops=work.flops,
        accessed_bytes=work.bytes,
        sent_bytes=round(work.sent_bytes),
        loops=len(work.loops),
        compile_seconds=program.lower_seconds + program.compile_seconds,
        peak_bytes=program.memory.total,
        moved_bytes=bytes_to_move(which, setting),
    )
