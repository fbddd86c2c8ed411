"""A measurement has the median, the quartiles, the bytes to move and their share of the bandwidth."""

import jax.numpy as jnp
import pytest

from jaxhash.bench.config import Setting
from jaxhash.bench.losses import LOSSES
from jaxhash.bench.measure import bytes_to_move, measure_losses, time_prepared
from jaxhash.bench.prepare import (
    PreparedLoss,
)


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
    monkeypatch.setattr("jaxhash.bench.measure.time_alternately", lambda calls, **_: times)
    prepared = {("l2", "forward+backward"): PreparedLoss(lambda: None, 0.5, 77)}
    setting = Setting(batch=16, bits=16, devices=2)
    [point] = time_prepared(
        prepared, setting, repeats=5, budget_seconds=1.0, copy_bandwidth=10_240.0
    )
    assert point.setting == setting
    assert (point.median_seconds, point.quartiles_seconds) == (3.0, [2.0, 4.0])
    assert (point.repeats, point.compile_seconds, point.peak_bytes) == (5, 0.5, 77)
    assert point.moved_bytes == 2048
    assert point.copy_share == pytest.approx(1024 / 3.0 / 10_240.0)
    [point] = time_prepared(prepared, setting, repeats=5, budget_seconds=1.0)
    assert point.copy_share is None


def test_losses_of_ones_own():
    points = measure_losses(
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
