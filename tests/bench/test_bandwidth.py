"""The bandwidth of a copy counts the bytes read and written."""

import jax

from jaxhash.bench.bandwidth import copy_bandwidth


def test_copy_bandwidth(monkeypatch):
    """64 MiB read and written in 2 s, as timed; the array is really the one that is added to."""
    called = []

    def timed(calls, **_):
        called.extend(call() for call in calls.values())
        return {name: [1.0, 2.0, 9.0] for name in calls}

    monkeypatch.setattr("jaxhash.bench.bandwidth.time_alternately", timed)
    measured = copy_bandwidth(jax.devices()[0])
    assert called and measured == {"bytes_per_second": 2.0**26, "array_bytes": 2**26}
