"""What a measurement was made on: hardware, versions."""

import os
import platform
import re
import resource
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax


def hardware() -> dict[str, Any]:
    """The machine, with how much of it this process may use."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "cpu": _cpu_model(),
        "cpu_cores": os.cpu_count(),
        "cpu_cores_used": cores_used(),
        "memory_bytes": physical_memory(),
        "machine": platform.machine(),
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of Python and of the packages."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def physical_memory() -> int:
    """Bytes of the machine's main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory() -> int:
    """Bytes that this process may still ask for: of the machine, its container or its own limit."""
    free = [physical_memory()]
    if found := re.search(r"^MemAvailable: *(\d+)", _text("/proc/meminfo"), re.MULTILINE):
        free.append(int(found[1]) * 1024)
    if (limit := _text("/sys/fs/cgroup/memory.max").strip()).isdecimal():
        free.append(int(limit) - _resident_bytes())
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        pages = _text("/proc/self/statm").split()
        free.append(most - int(pages[0]) * resource.getpagesize() if pages else most)
    return max(0, min(free))


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


def peak_process_bytes() -> int:
    """The most main memory that the process has held."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident_bytes() -> int:
    pages = _text("/proc/self/statm").split()
    return int(pages[1]) * resource.getpagesize() if pages else 0


def _text(path: str) -> str:
    """What the system says there; nothing where it says nothing."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _cpu_model() -> str:
    lines = _text("/proc/cpuinfo").splitlines()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def cores_used() -> int | None:
    """The cores that the process is allowed, which taskset or a container may narrow."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
