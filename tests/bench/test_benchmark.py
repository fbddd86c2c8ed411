"""Which settings a loss is measured at, with losses whose times are made up."""

import itertools

import jax
import pytest

from jaxhash.bench import benchmark
from jaxhash.bench.benchmark import Benchmark
from jaxhash.bench.config import BenchConfig, Setting
from jaxhash.bench.measure import Measurement
from jaxhash.bench.prepare import OutOfMemory, PreparedLoss

PASS = ("forward",)


@pytest.fixture
def run_benchmark(monkeypatch):
    """A function that runs a configuration, given the seconds of each loss at a setting."""
    monkeypatch.setattr(benchmark, "random_codes", lambda setting: (setting, None))

    def time_prepared(prepared, setting, **_):
        return [
            Measurement(*name, *setting, 5, one.call(), [0, 0], None, None, 1, None)
            for name, one in prepared.items()
        ]

    monkeypatch.setattr(benchmark, "time_prepared", time_prepared)

    def run(config, **seconds):
        def preparer(cost):
            def prepare_loss(which, setting, key):
                value = cost(setting)
                return PreparedLoss(lambda: value, None, 0)

            return prepare_loss

        losses = {name: preparer(cost) for name, cost in seconds.items()}
        made = Benchmark(losses, config, copy_bandwidth=1.0)
        for series in config.series():
            for index, setting in enumerate(series):
                made.measure(setting, series[:index])
        return made

    return run


def measured(benchmark, loss):
    return [(p.batch, p.bits) for p in benchmark.points if p.loss == loss]


SIZES = (8, 16, 32, 64)


def test_every_setting_of_a_product_once(run_benchmark):
    config = BenchConfig(passes=PASS, batch_sizes=(16, 8, 16), bits=(4, 2), limit_seconds=1.0)
    done = run_benchmark(config, quick=lambda s: 0.5, slow=lambda s: 0.9)
    for loss in ("quick", "slow"):
        assert measured(done, loss) == [(8, 2), (16, 2), (8, 4), (16, 4)]
    assert done.stops == []


def test_dtypes_and_devices_are_series_of_their_own(run_benchmark):
    config = BenchConfig(
        passes=("forward", "forward+backward"),
        batch_sizes=(16, 8),
        bits=(4,),
        dtypes=("float32", "bfloat16"),
        devices=(2, 1),
    )
    points = run_benchmark(config, any=lambda s: 0.1).points
    expected = itertools.product(("float32", "bfloat16"), (1, 2), (8, 16), config.passes)
    assert [(p.dtype, p.devices, p.batch, p.which) for p in points] == list(expected)


def test_a_loss_stops_at_the_limit_and_others_go_on(run_benchmark):
    config = BenchConfig(passes=PASS, batch_sizes=SIZES, bits=(4,), limit_seconds=1.0)
    done = run_benchmark(config, slow=lambda s: 2.0 if s.batch >= 16 else 0.1, quick=lambda s: 0.1)
    assert measured(done, "slow") == [(8, 4), (16, 4)]
    assert measured(done, "quick") == [(n, 4) for n in SIZES]
    [stop] = done.stops
    assert stop[:3] == ("slow", "forward", Setting(32, 4)) and "took 2 s" in stop.reason


def test_a_loss_stops_by_its_own_slope(run_benchmark):
    """Cubic: 0.05, 0.4 and then 3.2 s, more than twice the limit."""
    config = BenchConfig(passes=PASS, batch_sizes=SIZES, bits=(4,), limit_seconds=1.0)
    done = run_benchmark(config, cubic=lambda s: 0.05 * (s.batch / 8) ** 3)
    assert measured(done, "cubic") == [(8, 4), (16, 4)]
    assert done.stops[0].setting.batch == 32 and "about 3.2 s" in done.stops[0].reason


@pytest.mark.parametrize("error", [OutOfMemory, jax.errors.JaxRuntimeError])
def test_a_loss_stops_for_memory_or_where_the_compiler_refuses_it(run_benchmark, error):
    def cost(setting):
        if setting.batch > 8:
            raise error("no room\nat some line")
        return 0.1

    config = BenchConfig(passes=PASS, batch_sizes=SIZES, bits=(4,))
    done = run_benchmark(config, large=cost, small=lambda s: 0.1)
    assert measured(done, "large") == [(8, 4)] and len(measured(done, "small")) == len(SIZES)
    assert [(stop.loss, stop.setting.batch, stop.reason) for stop in done.stops] == [
        ("large", 16, "no room")
    ]


def test_series_that_cross(run_benchmark):
    """The crossing is measured once; what ended before it is not tried beside it, at fewer bits."""
    config = BenchConfig(
        passes=PASS, batch_sizes=SIZES, bits=(2, 4, 8, 16), through=(32, 4), limit_seconds=1.0
    )
    done = run_benchmark(
        config,
        quick=lambda s: 0.1,
        early=lambda s: 2.0 if s.batch >= 16 else 0.1,
        late=lambda s: 2.0 if s.batch >= 64 else 0.1,
        wide=lambda s: 2.0 if s.bits >= 8 else 0.1,
    )
    over_batch, over_bits = [(n, 4) for n in SIZES], [(32, 2), (32, 8), (32, 16)]
    assert measured(done, "quick") == over_batch + over_bits
    assert measured(done, "early") == over_batch[:2]
    assert measured(done, "late") == over_batch + over_bits
    assert measured(done, "wide") == over_batch + over_bits[:2]
    assert [(s.loss, *s.setting[:2]) for s in done.stops] == [("early", 32, 4), ("wide", 32, 16)]


def test_slope_along_the_bits(run_benchmark):
    """The shared setting counts for both series: 0.2, 0.4, then 1.6 is within twice the limit, 6.4 is not."""
    config = BenchConfig(
        passes=PASS, batch_sizes=(32,), bits=(2, 4, 8, 32), through=(32, 4), limit_seconds=1.0
    )
    costs = {2: 0.1, 4: 0.2, 8: 0.8}
    done = run_benchmark(config, square=lambda s: costs[s.bits])
    assert measured(done, "square") == [(32, 4), (32, 2), (32, 8)]
    assert "about 12.8 s" in done.stops[0].reason
