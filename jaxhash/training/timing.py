"""Times calls in alternation, so that a change of the machine's speed affects all of them equally."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from jaxhash.training.distributed import all_hosts

Name = TypeVar("Name", bound=Hashable)

#: Number of untimed calls of each function, unless they take longer than the budget.
WARMUP_CALLS = 3
#: Least number of rounds, however long they take, unless fewer are asked for.
MIN_ROUNDS = 5
#: Least length of a turn in seconds.
MIN_TURN_SECONDS = 0.02


def time_alternately(
    calls: Mapping[Name, Callable[[], Any]],
    *,
    repeats: int,
    budget_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, list[float]]:
    """Times functions in rounds of one turn each, so that drift affects all of them equally.

    There are ``repeats`` rounds, or as many as begin within the budget, but at least five. In a job
    of several processes, whose calls wait for one another, all make as many rounds as the slowest.

    Args:
        calls: functions to time, by name.
        repeats: greatest number of rounds.
        budget_seconds: time in seconds after which no round begins, nor a warm-up call.
        clock: function that returns the time in seconds.

    Returns:
        The seconds of each call that counts, by name.
    """
    for call in calls.values():
        start = clock()
        for done in range(WARMUP_CALLS):
            if done and not all_hosts(clock() - start < budget_seconds):
                break
            call()
    seconds = {name: [] for name in calls}
    start = clock()
    for done in range(repeats):
        if done >= MIN_ROUNDS and not all_hosts(clock() - start < budget_seconds):
            break
        for name, call in calls.items():
            seconds[name] += _time_turn(call, clock)
    return seconds


def _time_turn(call: Callable[[], Any], clock: Callable[[], float]) -> list[float]:
    """Returns the seconds of calls in a row: one, or as many as fill a turn, without the first half.

    The first calls of a turn are slowed by the turn before: its data fill the caches, and the
    threads of PyTorch keep a core busy for a while.
    """
    seconds = []
    start = clock()
    while not seconds or all_hosts(clock() - start < MIN_TURN_SECONDS):
        before = clock()
        call()
        seconds.append(clock() - before)
    return seconds[len(seconds) // 2 :]
