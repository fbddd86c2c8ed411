"""Alternation, bytes, and that what is timed is the loss and its gradient, over devices too."""

import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.bench import prepare as preparing
from jaxhash.bench import timing
from jaxhash.bench.config import Setting
from jaxhash.bench.losses import LOSSES
from jaxhash.bench.measure import bytes_to_move, measure, time_in_turn
from jaxhash.bench.prepare import OutOfMemory, Prepared, draw_codes, prepare, refusing_memory
from jaxhash.bench.timing import FEWEST_ROUNDS, TURN, WARM_UP, alternate, copy_bandwidth


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
    seconds = alternate(clock.calls, repeats=7, budget_seconds=1e9, clock=clock)
    assert clock.order == ["a"] * WARM_UP + ["b"] * WARM_UP + ["c"] * WARM_UP + list("abc") * 7
    assert seconds == {"a": [1.0] * 7, "b": [2.0] * 7, "c": [4.0] * 7}


def test_short_calls_fill_a_turn_of_which_the_second_half_counts():
    clock = Clock(a=TURN / 4.5, b=1.0)
    seconds = alternate(clock.calls, repeats=2, budget_seconds=1e9, clock=clock)
    assert clock.order == ["a"] * WARM_UP + ["b"] * WARM_UP + [*"aaaaab"] * 2
    assert seconds == {"a": [pytest.approx(TURN / 4.5)] * 6, "b": [1.0] * 2}


def test_slow_calls_warm_up_once():
    clock = Clock(a=3.0)
    alternate(clock.calls, repeats=1, budget_seconds=2.0, clock=clock)
    assert clock.order == ["a", "a"]


@pytest.mark.parametrize(
    ("repeats", "budget", "rounds"),
    [(200, 21.0, 7), (200, 20.0, 7), (200, 0.1, FEWEST_ROUNDS), (2, 0.1, 2), (6, 1e9, 6)],
)
def test_rounds_end_with_the_budget(repeats, budget, rounds):
    """Three seconds a round; the warm-up is not charged."""
    clock = Clock(a=1.0, b=2.0)
    seconds = alternate(clock.calls, repeats=repeats, budget_seconds=budget, clock=clock)
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
        clock = Clock(a=cost * TURN / 10, b=cost)
        alternate(clock.calls, repeats=50, budget_seconds=20.0, clock=clock)
        orders[cost] = clock.order

    monkeypatch.setattr(timing, "all_hosts", all_hosts)
    threads = [threading.Thread(target=work, args=(cost,)) for cost in (1.0, 5.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert orders[1.0] == orders[5.0]
    alone = Clock(a=5.0 * TURN / 10, b=5.0)
    monkeypatch.setattr(timing, "all_hosts", lambda mine: mine)
    alternate(alone.calls, repeats=50, budget_seconds=20.0, clock=alone)
    assert orders[5.0] == alone.order


@pytest.mark.parametrize(
    ("dtype", "which", "count"),
    [
        ("float32", "forward", 128 * 64 * 4),
        ("float32", "forward+backward", 128 * 64 * 8),
        ("bfloat16", "forward", 128 * 64 * 2),
        ("float16", "forward+backward", 128 * 64 * 4),
    ],
)
def test_bytes_to_move(dtype, which, count):
    assert bytes_to_move(which, Setting(128, 64, dtype, devices=8)) == count


def test_point_of_known_times(monkeypatch):
    """Median and quartiles, and the share of a device's bandwidth: 1,024 bytes on each of two."""
    times = {("l2", "forward+backward"): [5.0, 1.0, 2.0, 4.0, 3.0]}
    monkeypatch.setattr("jaxhash.bench.measure.alternate", lambda calls, **_: times)
    prepared = {("l2", "forward+backward"): Prepared(lambda: None, 0.5, 77)}
    setting = Setting(batch=16, bits=16, devices=2)
    [point] = time_in_turn(
        prepared, setting, repeats=5, budget_seconds=1.0, copy_bandwidth=10_240.0
    )
    assert point.setting == setting
    assert (point.median_seconds, point.quartiles_seconds) == (3.0, [2.0, 4.0])
    assert (point.repeats, point.compile_seconds, point.peak_bytes) == (5, 0.5, 77)
    assert point.moved_bytes == 2048
    assert point.copy_share == pytest.approx(1024 / 3.0 / 10_240.0)
    [point] = time_in_turn(prepared, setting, repeats=5, budget_seconds=1.0)
    assert point.copy_share is None


def test_codes_are_normal_and_always_the_same():
    codes, key = draw_codes(Setting(4096, 16))
    again, same_key = draw_codes(Setting(4096, 16, "bfloat16", 8))
    assert codes.shape == (4096, 16) and codes.dtype == jnp.float32
    assert abs(float(codes.mean())) < 0.02 and abs(float(codes.std()) - 1) < 0.02
    np.testing.assert_array_equal(codes.astype(jnp.bfloat16), again)
    assert {shard.data.shape for shard in again.addressable_shards} == {(512, 16)}
    assert jax.random.key_data(key).tolist() == jax.random.key_data(same_key).tolist()


@pytest.mark.parametrize("name", ["l2", "sort", "select"])
@pytest.mark.parametrize("devices", [1, 2])
def test_what_is_timed_is_value_and_gradient_of_the_whole_batch(name, devices):
    """The oracle is the bare loss on one device."""
    codes, key = draw_codes(Setting(16, 4))
    value, gradient = jax.value_and_grad(LOSSES[name])(codes, key, None)
    inputs = draw_codes(Setting(16, 4, devices=devices))
    np.testing.assert_allclose(prepare(LOSSES[name], "forward", *inputs).call(), value, rtol=1e-5)
    both = prepare(LOSSES[name], "forward+backward", *inputs)
    np.testing.assert_allclose(both.call()[0], value, rtol=1e-5)
    np.testing.assert_allclose(both.call()[1], gradient, rtol=1e-5, atol=1e-8)
    assert len(both.call()[1].devices()) == devices
    assert both.compile_seconds > 0


@pytest.mark.parametrize(("name", "devices"), itertools.product(["swd", "ot", "hashnet"], [1, 2]))
def test_every_other_loss_can_be_called(name, devices):
    inputs = draw_codes(Setting(4, 2, devices=devices))
    value, gradient = prepare(LOSSES[name], "forward+backward", *inputs).call()
    assert np.isfinite(value) and np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_peak_memory_is_of_arguments_outputs_and_temporaries():
    """Codes and gradient of the elementwise loss; the sort needs room for itself."""
    codes, key = draw_codes(Setting(64, 64))
    peak = {
        name: prepare(LOSSES[name], "forward+backward", codes, key).peak_bytes
        for name in ("l2", "sort")
    }
    assert 2 * codes.nbytes + 4 <= peak["l2"] < 3 * codes.nbytes + 100 < peak["sort"]


def test_key_is_an_argument():
    """A constant key would let the compiler draw the target once and for all."""
    codes, key = draw_codes(Setting(8, 2))
    seen = []
    prepare(lambda c, k, axis: seen.append(k) or jnp.sum(c), "forward", codes, key)
    assert isinstance(seen[0], jax.core.Tracer)


def test_losses_of_ones_own():
    points = measure(
        {"mine": lambda codes, key, axis: jnp.mean(codes**2), "l2": LOSSES["l2"]},
        Setting(batch=8, bits=2),
        passes=["forward+backward"],
        repeats=3,
    )
    assert [(p.loss, p.which) for p in points] == [
        ("mine", "forward+backward"),
        ("l2", "forward+backward"),
    ]
    assert all(point.repeats >= 3 for point in points)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 1"), RuntimeError("CUDA out of memory.")],
)
def test_want_of_memory_is_told_apart(error):
    with pytest.raises(OutOfMemory, match="not enough memory"), refusing_memory():
        raise error
    with pytest.raises(RuntimeError, match="shape"), refusing_memory():
        raise RuntimeError("wrong shape")


@pytest.mark.parametrize("devices", [1, 2])
def test_more_than_the_machine_has_is_not_called(monkeypatch, devices):
    """The devices of a CPU share its memory."""
    codes, key = draw_codes(Setting(1024, 64, devices=devices))
    needed = devices * prepare(LOSSES["l2"], "forward", codes, key).peak_bytes
    monkeypatch.setattr(preparing, "physical_memory", lambda: needed / 0.74)
    prepare(LOSSES["l2"], "forward", codes, key)
    monkeypatch.setattr(preparing, "physical_memory", lambda: needed / 0.76)
    with pytest.raises(OutOfMemory, match="more than 3/4 of the machine's"):
        prepare(LOSSES["l2"], "forward", codes, key)


def test_copy_bandwidth(monkeypatch):
    """64 MiB read and written in 2 s, as timed; the array is really the one that is added to."""
    called = []

    def timed(calls, **_):
        called.extend(call() for call in calls.values())
        return {name: [1.0, 2.0, 9.0] for name in calls}

    monkeypatch.setattr("jaxhash.bench.timing.alternate", timed)
    measured = copy_bandwidth(jax.devices()[0])
    assert called and measured == {"bytes_per_second": 2.0**26, "array_bytes": 2**26}
