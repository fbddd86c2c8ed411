"""The clock: calls in alternation, and the bandwidth of a plain copy."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.training.distributed import all_hosts

Name = TypeVar("Name", bound=Hashable)

#: Calls of each name before the clock counts, unless they take longer than the budget.
WARM_UP = 3
#: Rounds at least, however long they take, unless fewer are asked for.
FEWEST_ROUNDS = 5
#: Seconds of a turn at least.
TURN = 0.02


def alternate(
    calls: Mapping[Name, Callable[[], Any]],
    *,
    repeats: int,
    budget_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, list[float]]:
    """Seconds of each call, made in rounds of one turn each, so that drift meets all alike.

    There are ``repeats`` rounds, or as many as begin within the budget, but at least five of them.
    Of several processes, whose calls wait for one another, all make as many as the slowest has time for.
    """
    for call in calls.values():
        start = clock()
        for done in range(WARM_UP):
            if done and not all_hosts(clock() - start < budget_seconds):
                break
            call()
    seconds = {name: [] for name in calls}
    start = clock()
    for done in range(repeats):
        if done >= FEWEST_ROUNDS and not all_hosts(clock() - start < budget_seconds):
            break
        for name, call in calls.items():
            seconds[name] += _turn(call, clock)
    return seconds


def _turn(call: Callable[[], Any], clock: Callable[[], float]) -> list[float]:
    """Seconds of calls in a row: one, or as many as fill a turn, without their first half.

    The first calls of a turn meet what the last one left behind, another's data in the caches and,
    after PyTorch, its threads, which keep a core busy for a while with waiting.
    """
    seconds = []
    start = clock()
    while not seconds or all_hosts(clock() - start < TURN):
        before = clock()
        call()
        seconds.append(clock() - before)
    return seconds[len(seconds) // 2 :]


def copy_bandwidth(device: jax.Device) -> dict[str, float]:
    """Bytes a second, read and written, of a kernel that adds 1 to a large array: the median call.

    The array is donated. With a fresh output each time, a CPU would spend most of the time on
    clearing new pages of memory.
    """
    mebibytes = 64 if device.platform == "cpu" else 256
    held = [jax.device_put(jnp.zeros(mebibytes * 2**18, jnp.float32), device)]
    add = jax.jit(lambda array: array + 1, donate_argnums=0)

    def call():
        held[0] = jax.block_until_ready(add(held[0]))

    seconds = np.median(alternate({"copy": call}, repeats=50, budget_seconds=2.0)["copy"])
    return {
        "bytes_per_second": float(2 * held[0].nbytes / seconds),
        "array_bytes": held[0].nbytes,
    }
