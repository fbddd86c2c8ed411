"""What is set of the host of this process."""

import os
import platform
import subprocess
import sys

import pytest

#: Allocates in four threads, and prints the number of malloc's arenas.
_ARENAS = """
import ctypes, sys, threading
from jaxhash.utils.hardware import limit_malloc_arenas
if sys.argv[1] == "limited":
    limit_malloc_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
barrier = threading.Barrier(4)
def allocate():
    barrier.wait()
    libc.malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are those of glibc")
@pytest.mark.parametrize(
    ("words", "setting", "one"), [("limited", {}, True), ("free", {}, False), ("limited", {"MALLOC_ARENA_MAX": "8"}, False)]
)  # fmt: skip
def test_threads_share_one_arena_unless_the_user_says_else(words, setting, one):
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    run = subprocess.run(
        [sys.executable, "-c", _ARENAS, words],
        env=environment | setting,
        capture_output=True,
        text=True,
    )
    assert (run.stdout.count("<heap nr=") == 1) == one, run.stdout + run.stderr
