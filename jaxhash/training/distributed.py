"""What the processes of one training, one a host, do together."""

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

import jax
import numpy as np
from jax._src import distributed  # no other way leads to its client, which knows barriers
from jax.experimental import multihost_utils

from jaxhash.utils.errors import UserError, first_line

T = TypeVar("T")


#: Seconds that a process which ends by an error waits for the others to do so too.
SHUTDOWN_SECONDS = 10

#: Words of JAX's errors that another process can be the reason of.
_PEER_FAILURE = re.compile(r"\b(Gloo|NCCL|RPC|UNAVAILABLE|DEADLINE_EXCEEDED|[Bb]arrier|by peer)\b")

#: Seconds after which a process that is not heard of is gone, unless others are asked for.
_heartbeat = 30


def initialize_distributed(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    heartbeat: int | None = None,
) -> None:
    """Become a process of a training on several hosts; before JAX is used for anything else.

    What is None is read from the variables ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and
    ``JAX_PROCESS_ID``, or found out from the cluster (Slurm, MPI, Cloud TPU, Kubernetes) by JAX.

    Args:
        coordinator: address and port of the first process, HOST:PORT.
        processes: how many there are.
        process: number of this one, from 0.
        heartbeat: seconds after which a process that is not heard of is gone, when JAX ends the
            others; 30 if not given.

    Raises:
        UserError: if that is not enough, or the others are not there.
    """
    global _heartbeat
    _heartbeat = heartbeat or _heartbeat
    numbers = {"JAX_NUM_PROCESSES": processes, "JAX_PROCESS_ID": process}
    for name, given in numbers.items():
        found = os.environ.get(name, "")
        if given is None and found:
            if not found.isdecimal():
                raise UserError(f"{name} must be a whole number, got {found!r}")
            numbers[name] = int(found)
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"--coordinator must be HOST:PORT, got {coordinator}")
    try:
        jax.distributed.initialize(
            coordinator, *numbers.values(), heartbeat_timeout_seconds=_heartbeat
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise UserError(
            f"--distributed: {first_line(error).rstrip('.')}; --coordinator HOST:PORT, --processes N and --process I say "
            "who takes part"
        ) from error


def wait_if_peer_failed(error: BaseException | None) -> None:
    """Where an error may come of another process's end, let JAX find that out, which ends this one."""
    while error is not None:
        if not isinstance(error, UserError) and _PEER_FAILURE.search(str(error)):
            time.sleep(_heartbeat + SHUTDOWN_SECONDS)
            return
        error = error.__cause__ or error.__context__


def exit_with_error(error: BaseException) -> NoReturn:
    """End this process of several by an error of its own, so that the others notice."""
    wait_if_peer_failed(error)
    traceback.print_exception(error)
    _exit_at_once(1)


def shut_down(status: int) -> None:
    """End this process of several, unless the others end too: then JAX lets them part."""
    try:
        distributed.global_state.client.wait_at_barrier("parting", 1000 * SHUTDOWN_SECONDS)
    except Exception:
        _exit_at_once(status)


def _exit_at_once(status: int) -> NoReturn:
    """At once: at an orderly end JAX would wait for the others, as they do for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def is_main_process() -> bool:
    """Whether this is the process that writes files, other than checkpoints, and says things."""
    return jax.process_index() == 0


def broadcast_from_host0(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; the others do not call ``make``.

    Args:
        make: returns what JSON can hold.

    Raises:
        UserError: in all of them, if it is raised there; also for an `OSError`.

    Example:
        >>> broadcast_from_host0(lambda: [1, 2])
        [1, 2]
    """
    if not jax.distributed.is_initialized() or jax.process_count() == 1:  # needs no device
        return make()
    outcome = {}
    if is_main_process():
        try:
            outcome = {"made": make()}
        except (UserError, OSError) as error:
            outcome = {"error": str(error)}
    outcome = json.loads(_from_first(json.dumps(outcome).encode()))
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome["made"]


def all_hosts(mine: bool) -> bool:
    """Whether it is so in every process."""
    if jax.process_count() == 1:
        return mine
    return bool(multihost_utils.process_allgather(np.array(mine)).all())


def allgather(rows: np.ndarray) -> np.ndarray:
    """The arrays of all processes, which have one shape, along a new leading axis."""
    if jax.process_count() == 1:
        return rows[None]
    return np.asarray(multihost_utils.process_allgather(rows))


def _from_first(content: bytes) -> bytes:
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    mine = np.frombuffer(content, np.uint8) if is_main_process() else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(mine)).tobytes()
