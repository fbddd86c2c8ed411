"""The host of this process: its cores, its memory and the versions of packages."""

import os
import platform
import re
import resource
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


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


def cpu_model() -> str:
    """The name of the processor."""
    lines = _text("/proc/cpuinfo").splitlines()
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def cores_used() -> int | None:
    """The cores that the process is allowed, which taskset or a container may narrow."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
