"""Calls are timed in alternation: order, rounds, budget, and the agreement of several processes."""

import threading

import pytest

from jaxhash.training import timing
from jaxhash.training.timing import (
    MIN_ROUNDS,
    MIN_TURN_SECONDS,
    WARMUP_CALLS,
    time_alternately,
)


class Clock:
    """Time that passes in calls only, by what each costs."""

    def __init__(self, **costs):
        self.now, self.order = 0.0, []
        self.calls = {
            name: lambda name=name, cost=cost: self._call(name, cost)
            for name, cost in costs.items()
        }

    def _call(self, name, cost):
        self.order.append(name)
        self.now += cost

    def __call__(self):
        return self.now


def test_calls_alternate_after_the_warm_up():
    clock = Clock(a=1.0, b=2.0, c=4.0)
    seconds = time_alternately(clock.calls, repeats=7, budget_seconds=1e9, clock=clock)
    assert (
        clock.order
        == ["a"] * WARMUP_CALLS + ["b"] * WARMUP_CALLS + ["c"] * WARMUP_CALLS + list("abc") * 7
    )
    assert seconds == {"a": [1.0] * 7, "b": [2.0] * 7, "c": [4.0] * 7}


def test_short_calls_fill_a_turn_of_which_the_second_half_counts():
    clock = Clock(a=MIN_TURN_SECONDS / 4.5, b=1.0)
    seconds = time_alternately(clock.calls, repeats=2, budget_seconds=1e9, clock=clock)
    assert clock.order == ["a"] * WARMUP_CALLS + ["b"] * WARMUP_CALLS + [*"aaaaab"] * 2
    assert seconds == {"a": [pytest.approx(MIN_TURN_SECONDS / 4.5)] * 6, "b": [1.0] * 2}


def test_slow_calls_warm_up_once():
    clock = Clock(a=3.0)
    time_alternately(clock.calls, repeats=1, budget_seconds=2.0, clock=clock)
    assert clock.order == ["a", "a"]


@pytest.mark.parametrize(
    ("repeats", "budget", "rounds"),
    [(200, 21.0, 7), (200, 20.0, 7), (200, 0.1, MIN_ROUNDS), (2, 0.1, 2), (6, 1e9, 6)],
)
def test_rounds_end_with_the_budget(repeats, budget, rounds):
    """Three seconds a round; the warm-up is not charged."""
    clock = Clock(a=1.0, b=2.0)
    seconds = time_alternately(clock.calls, repeats=repeats, budget_seconds=budget, clock=clock)
    assert [len(times) for times in seconds.values()] == [rounds, rounds]


def test_several_processes_make_as_many_calls_as_the_slowest(monkeypatch):
    """Two threads stand for them, of which one is five times as slow: each waits for the other's word."""
    together, words, orders = threading.Barrier(2, timeout=60), {}, {}

    def all_hosts(mine):
        words[threading.current_thread().name] = mine
        together.wait()
        found = all(words.values())
        together.wait()
        return found

    def work(cost):
        clock = Clock(a=cost * MIN_TURN_SECONDS / 10, b=cost)
        time_alternately(clock.calls, repeats=50, budget_seconds=20.0, clock=clock)
        orders[cost] = clock.order

    monkeypatch.setattr(timing, "all_hosts", all_hosts)
    threads = [threading.Thread(target=work, args=(cost,)) for cost in (1.0, 5.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert orders[1.0] == orders[5.0]
    alone = Clock(a=5.0 * MIN_TURN_SECONDS / 10, b=5.0)
    monkeypatch.setattr(timing, "all_hosts", lambda mine: mine)
    time_alternately(alone.calls, repeats=50, budget_seconds=20.0, clock=alone)
    assert orders[5.0] == alone.order
