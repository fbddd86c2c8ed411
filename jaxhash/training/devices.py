"""The devices of this process: their kind, their memory, and its peak use."""

import os
import platform
from typing import Any

import jax

from jaxhash.utils.hardware import (
    cores_used,
    cpu_model,
    free_memory,
    peak_process_bytes,
    physical_memory,
)


def hardware() -> dict[str, Any]:
    """Describes the machine and the part of it that this process may use."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "cpu": cpu_model(),
        "cpu_cores": os.cpu_count(),
        "cpu_cores_used": cores_used(),
        "memory_bytes": physical_memory(),
        "machine": platform.machine(),
    }


def device_memory() -> int:
    """Returns the bytes available per device; CPU devices share the free memory."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    return free_memory() // jax.local_device_count()


def peak_device_bytes() -> int | None:
    """Returns the peak memory of the first device in this process; None if it is not counted."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("peak_bytes_in_use")


def peak_bytes() -> int:
    """Returns the peak memory of the first device, or of the process if that is not counted."""
    on_device = peak_device_bytes()
    return peak_process_bytes() if on_device is None else on_device
