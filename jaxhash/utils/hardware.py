"""The host of this process: its cores, its memory and the versions of packages."""

import os
import platform
import re
import resource
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns the versions of Python and of the packages."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def physical_memory() -> int:
    """Returns the bytes of the machine's main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory() -> int:
    """Returns the bytes that this process may still allocate, by machine, container and its own limit."""
    free = [physical_memory()]
    if found := re.search(r"^MemAvailable: *(\d+)", _read("/proc/meminfo"), re.MULTILINE):
        free.append(int(found[1]) * 1024)
    if (limit := _read("/sys/fs/cgroup/memory.max").strip()).isdecimal():
        free.append(int(limit) - _resident_bytes())
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        pages = _read("/proc/self/statm").split()
        free.append(most - int(pages[0]) * resource.getpagesize() if pages else most)
    return max(0, min(free))


def peak_process_bytes() -> int:
    """Returns the peak resident memory of the process, in bytes."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident_bytes() -> int:
    pages = _read("/proc/self/statm").split()
    return int(pages[1]) * resource.getpagesize() if pages else 0


def _read(path: str) -> str:
    """Returns the text of a file of the system; empty if it cannot be read."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def cpu_model() -> str:
    """Returns the name of the processor."""
    lines = _read("/proc/cpuinfo").splitlines()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def cores_used() -> int | None:
    """Returns the number of cores that the process may use, which taskset or a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
