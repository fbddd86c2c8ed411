"""Measures the memory bandwidth of a device by a plain copy."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.training.timing import time_alternately


def copy_bandwidth(device: jax.Device) -> dict[str, float]:
    """Measures the bytes a second, read and written, of a kernel that adds 1 to a large array.

    The result is that of the median call. The array is donated: with a fresh output each time, a
    CPU would spend most of the time on clearing new pages of memory.
    """
    mebibytes = 64 if device.platform == "cpu" else 256
    array = [jax.device_put(jnp.zeros(mebibytes * 2**18, jnp.float32), device)]
    add = jax.jit(lambda values: values + 1, donate_argnums=0)

    def call():
        array[0] = jax.block_until_ready(add(array[0]))

    seconds = np.median(time_alternately({"copy": call}, repeats=50, budget_seconds=2.0)["copy"])
    return {
        "bytes_per_second": float(2 * array[0].nbytes / seconds),
        "array_bytes": array[0].nbytes,
    }
