"""The processes of a distributed job, one per host: how they start, exchange values, and end."""

import contextlib
import ctypes
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import jax
import numpy as np
from jax._src import clusters, distributed  # the only access to the client, which has barriers
from jax._src.lib import _jax
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from jaxhash.utils.errors import UserError, first_line

T = TypeVar("T")

#: Seconds that a process waits for the others before it exits.
SHUTDOWN_SECONDS = 10

#: Matches errors of JAX that the end of another process can cause.
_PEER_FAILURE = re.compile(r"\b(Gloo|NCCL|RPC|UNAVAILABLE|DEADLINE_EXCEEDED|[Bb]arrier|by peer)\b")

#: Seconds without a heartbeat after which a process counts as lost.
_heartbeat = 30

#: Which arguments say who takes part.
_NUMBERS_REMEDY = "`processes=N` and `process=I` say who takes part"

#: The function that C++ calls for an uncaught exception; kept here because C++ keeps no reference.
_terminate_handler = None


def initialize_distributed(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    heartbeat: int | None = None,
) -> None:
    """Joins a distributed job; call it before anything else uses JAX.

    An argument that is None is read from ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` or
    ``JAX_PROCESS_ID``, or is found by JAX from the cluster (Slurm, MPI, Cloud TPU, Kubernetes).

    Args:
        coordinator: address and port of process 0, HOST:PORT.
        processes: number of processes.
        process: index of this process, from 0.
        heartbeat: seconds without a heartbeat after which a process counts as lost, and JAX ends
            the others; 30 by default.

    Raises:
        UserError: if the arguments do not suffice, or the other processes cannot be reached.
    """
    global _heartbeat
    _heartbeat = heartbeat or _heartbeat
    numbers = _from_environment(processes, process)
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"`coordinator` must be HOST:PORT, got {coordinator}")
    try:
        jax.distributed.initialize(coordinator, *numbers, heartbeat_timeout_seconds=_heartbeat)
    except (ValueError, RuntimeError, TypeError) as error:
        raise UserError(
            f"`distributed`: {first_line(error).rstrip('.')}; `coordinator=HOST:PORT`, "
            f"{_NUMBERS_REMEDY}"
        ) from error
    _delay_terminate()


def number_process(processes: int | None, process: int | None) -> tuple[int, int]:
    """Finds the number of processes and the index of this one, where they share no devices.

    Arguments that are None are found as in `initialize_distributed`; call this, too, before anything
    else uses JAX. The processes are not connected. Where a cluster starts several on a host, each gets
    the GPU of its index there.

    Args:
        processes: number of processes.
        process: index of this process, from 0.

    Raises:
        UserError: if a number is neither given nor found.
    """
    numbers = _from_environment(processes, process)
    _, *numbers, gpus = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        "no coordinator", *numbers, None, None, None
    )
    if None in numbers:
        raise UserError(f"`distributed`: {_NUMBERS_REMEDY}")
    for name in ("jax_cuda_visible_devices", "jax_rocm_visible_devices") if gpus else ():
        jax.config.update(name, ",".join(map(str, gpus)))
    return tuple(numbers)


def _from_environment(processes: int | None, process: int | None) -> list[int | None]:
    """Returns number and index of processes, read from the environment where they are None.

    Raises:
        UserError: if the environment holds something else than a number.
    """
    numbers = {"JAX_NUM_PROCESSES": processes, "JAX_PROCESS_ID": process}
    for name, given in numbers.items():
        value = os.environ.get(name, "")
        if given is None and value:
            if not value.isdecimal():
                raise UserError(f"{name} must be a whole number, got {value!r}")
            numbers[name] = int(value)
    return list(numbers.values())


def _delay_terminate() -> None:
    """Delays the end of this process by an uncaught C++ exception, as `wait_if_peer_failed` does.

    When a process is lost, the collectives of the others may no longer match, and a thread of Gloo
    then throws. Without the delay this would end the process before JAX's client knows the reason.
    """
    global _terminate_handler
    handler_type = ctypes.CFUNCTYPE(None)
    with contextlib.suppress(AttributeError, OSError):  # another C++ runtime
        set_terminate = ctypes.CDLL(_jax.__file__)["_ZSt13set_terminatePFvvE"]
        set_terminate.argtypes, set_terminate.restype = [handler_type], handler_type

        def wait_and_terminate() -> None:
            time.sleep(_heartbeat + SHUTDOWN_SECONDS)
            terminate()  # prints the exception and aborts

        _terminate_handler = handler_type(wait_and_terminate)
        terminate = set_terminate(_terminate_handler)


def wait_if_peer_failed(error: BaseException | None) -> None:
    """Sleeps if the error may come from the loss of another process; JAX then ends this process."""
    while error is not None:
        if not isinstance(error, UserError) and _PEER_FAILURE.search(str(error)):
            time.sleep(_heartbeat + SHUTDOWN_SECONDS)
            return
        error = error.__cause__ or error.__context__


def exit_with_error(error: BaseException) -> NoReturn:
    """Prints an error of this process and exits at once, so that the other processes notice."""
    wait_if_peer_failed(error)
    traceback.print_exception(error)
    _exit_at_once(1)


def shut_down(status: int) -> None:
    """Waits until all processes end; exits at once, with the status, if some do not."""
    try:
        distributed.global_state.client.wait_at_barrier("parting", 1000 * SHUTDOWN_SECONDS)
    except Exception:
        _exit_at_once(status)


@contextlib.contextmanager
def as_single_process() -> Iterator[None]:
    """Makes JAX tell of this process and its own devices alone, for work that waits for no other process.

    Whoever asks JAX for devices or processes inside is told so, in all threads. It is not enough that this
    library asks for local devices: Orbax saves no array of one process where JAX counts several, whatever
    its options. The ``process_index`` of a device stays what it is.

    Example:
        >>> with as_single_process():
        ...     jax.process_count(), jax.devices() == jax.local_devices()
        (1, True)
    """
    if jax.process_count() == 1:
        yield
        return
    alone = {
        "process_count": lambda backend=None: 1,
        "process_index": lambda backend=None: 0,
        "devices": lambda backend=None: jax.local_devices(backend=backend),
        "device_count": lambda backend=None: jax.local_device_count(backend),
    }
    joined = {name: getattr(jax, name) for name in alone}
    try:
        for name, function in alone.items():
            setattr(jax, name, function)
        yield
    finally:
        for name, function in joined.items():
            setattr(jax, name, function)


def _exit_at_once(status: int) -> NoReturn:
    """Exits without JAX's own shutdown, which would wait for processes that wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def is_main_process() -> bool:
    """Returns whether this is process 0, which prints and writes all files but checkpoints."""
    return jax.process_index() == 0


def broadcast_from_host0(make: Callable[[], T]) -> T:
    """Calls ``make`` in process 0 only, and returns its result in all processes.

    Args:
        make: returns a value that JSON can hold.

    Raises:
        UserError: in all processes, if ``make`` raises a UserError or an OSError.

    Example:
        >>> broadcast_from_host0(lambda: [1, 2])
        [1, 2]
    """
    if not jax.distributed.is_initialized() or jax.process_count() == 1:  # needs no device
        return make()
    outcome = {}
    if is_main_process():
        try:
            outcome = {"value": make()}
        except (UserError, OSError) as error:
            outcome = {"error": str(error)}
    outcome = json.loads(_broadcast_bytes(json.dumps(outcome).encode()))
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome["value"]


def all_hosts(value: bool) -> bool:
    """Returns whether the value is true in all processes."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.array(value)).all())


def allgather(rows: np.ndarray) -> np.ndarray:
    """Stacks the arrays of all processes, which have one shape, along a new leading axis."""
    if jax.process_count() == 1:
        return rows[None]
    return np.asarray(multihost_utils.process_allgather(rows))


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Adds the arrays of all processes, which have one shape and 64-bit numbers.

    Integers are exact, and so are floats where but one process has other numbers than 0.
    """
    if jax.process_count() == 1:
        return values
    words = np.ascontiguousarray(values).view(np.uint32)  # JAX would cut numbers to 32 bits
    return allgather(words).view(values.dtype).sum(axis=0)


def fetch(tree: PyTree) -> PyTree[np.ndarray]:
    """Copies arrays to the host of each process, also those that are sharded over all of them."""

    def fetch_leaf(leaf):
        is_local = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
        if is_local or leaf.is_fully_replicated:
            return jax.device_get(leaf)
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(fetch_leaf, tree)


def _broadcast_bytes(content: bytes) -> bytes:
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    own = np.frombuffer(content, np.uint8) if is_main_process() else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(own)).tobytes()
