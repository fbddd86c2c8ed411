"""The host of this process: its cores, its memory and the versions of packages."""

import contextlib
import ctypes
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


def limit_malloc_arenas() -> None:
    """Lets all threads of this process share one arena of glibc's malloc, unless ``MALLOC_ARENA_MAX`` says else.

    Batches are made in one thread and freed in another. With an arena for each thread, what lies
    unused between them grows with the steps of a long training. Other C libraries have no arenas.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX of malloc.h


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
