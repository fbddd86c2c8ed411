"""A C++ exception that nobody catches ends a process once JAX's client has had time to say why."""

import os
import signal
import subprocess
import sys

import pytest

#: Code of a process with a parent, whose thread ends as one of Gloo does with an exception.
TERMINATE = """
import ctypes, os, threading, time
from jaxhash.training import guard
guard.supervise()
from jax._src.lib import _jax
from jaxhash.training import distributed
distributed._heartbeat, distributed.SHUTDOWN_SECONDS = 0, {seconds}
distributed._delay_terminate()
threading.Thread(target=ctypes.CDLL(_jax.__file__)._ZSt9terminatev, daemon=True).start()
time.sleep(1)
"""

CLIENT_FAILURE = """
os.write(2, b"coordination_service.cc: tasks are unhealthy (stopped sending heartbeats):\\n1\\n")
os.abort()
"""


def start(code, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--distributed"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_client_names_the_lost_process_first():
    process = start(TERMINATE.format(seconds=3600) + CLIENT_FAILURE)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (75, "jaxhash: process 1 is gone; start all again\n")


def test_without_a_lost_process_the_exception_is_printed():
    process = start(TERMINATE.format(seconds=0) + "time.sleep(100)")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGABRT
    assert errors.startswith("terminate called") and "SIGABRT" in errors.splitlines()[-1]


#: Code of three processes. One kills itself; then the other two, or all but process 0 where none is
#: lost, call a collective with different sizes.
MISMATCH = """
import os, signal, sys, time
from jaxhash.training import guard
guard.supervise()
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxhash.training import distributed

def total(size, devices):
    mesh = Mesh(np.array(devices), "devices")
    rows = NamedSharding(mesh, PartitionSpec("devices"))
    ones = jax.make_array_from_callback(
        (len(devices) * size,), rows, lambda _: np.ones(size, np.float32)
    )
    replicated = NamedSharding(mesh, PartitionSpec())
    sums = jax.jit(lambda ones: ones.reshape(-1, size).sum(0), out_shardings=replicated)
    sums(ones).block_until_ready()

distributed.initialize_distributed(None, None, None, heartbeat=10)
lost, this = int(sys.argv[1]), jax.process_index()
total(8, jax.devices())
if this == lost:
    os.kill(os.getpid(), signal.SIGKILL)
left_out = max(lost, 0)
try:
    if this != left_out:
        size = 8 if this == (left_out + 1) % 3 else 4096
        total(size, [device for device in jax.devices() if device.process_index != left_out])
    time.sleep(120)
except Exception as error:
    distributed.exit_with_error(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", [-1, 0, 2])
def test_collectives_that_do_not_match(reserve_port, lost):
    """Gloo throws. Where no process was lost before (-1), process 1 is: it fails by a bug."""
    address = f"localhost:{reserve_port()}"
    processes = [
        start(
            MISMATCH,
            str(lost),
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="3",
            JAX_PROCESS_ID=str(index),
            JAX_NUM_CPU_DEVICES="1",
        )
        for index in range(3)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    first = 1 if lost < 0 else lost
    for index, process in enumerate(processes):
        if index != first:
            assert (process.returncode, errors[index]) == (
                75,
                f"jaxhash: process {first} is gone; start all again\n",
            )
    if lost < 0:
        assert processes[first].returncode == 128 + signal.SIGABRT
        assert "EnforceNotMet" in errors[first] and "mismatch" in errors[first]
