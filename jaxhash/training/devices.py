"""The devices of this process: what they are, and the memory they have and have held."""

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
    """The machine, with how much of it this process may use."""
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
    """Bytes that arrays may take on each device; those of a CPU share what is free."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    return free_memory() // jax.local_device_count()


def peak_device_bytes() -> int | None:
    """The most memory that the first device has held in this process; None where it keeps no count."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("peak_bytes_in_use")


def peak_bytes() -> int:
    """The most memory that the first device has held in this process, or else the process itself."""
    on_device = peak_device_bytes()
    return peak_process_bytes() if on_device is None else on_device
