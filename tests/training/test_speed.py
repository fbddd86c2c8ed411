"""Times of steps, profiles, and the cache of compiled programs."""

import jax
import jax.numpy as jnp
import pytest

from jaxhash.training import speed
from jaxhash.training.compilation_cache import compilation_cache
from jaxhash.training.speed import Profile, Speed, StepTimer


def test_times_of_a_step(monkeypatch):
    clock = map(float, [0, 1, 9, 10, 11, 20, 20, 21, 24, 30, 31, 34, 40, 42, 44])
    monkeypatch.setattr(speed.time, "monotonic", lambda: next(clock))
    timer = StepTimer()
    timer.start()  # at 1
    timer.launched()  # 8 s to compile and launch
    timer.ready(in_time=False)  # 1 s for the next batch
    assert timer.times() == {"step_seconds": 10.0, "wait_share": 0.1, "compile_seconds": 8.0}
    timer.start()  # time between steps does not count
    timer.launched()
    timer.ready(in_time=False)
    assert timer.times() == {"step_seconds": 4.0, "wait_share": 0.25}
    timer.start()
    timer.launched()
    timer.ready(in_time=True)  # the devices did not wait
    assert timer.times() == {"step_seconds": 4.0, "wait_share": 0.0}
    timer.start()
    timer.launched()  # the last step has no next batch
    assert timer.times() == {"step_seconds": 4.0, "wait_share": 0.0}


def test_speed_of_records():
    """The median of 1, 2 and 4 s; waits of 0.5, 0 and 3 s in 7; steps that compile do not count."""
    records = [
        {"step": 1, "step_seconds": 50.0, "wait_share": 0.9, "compile_seconds": 40.0},
        {"step": 2, "step_seconds": 1.0, "wait_share": 0.5},
        {"step": 3, "step_seconds": 9.0, "wait_share": 0.9, "compile_seconds": 8.0},  # resumed
        {"step": 4, "step_seconds": 2.0, "wait_share": 0.0},
        {"step": 5, "step_seconds": 4.0, "wait_share": 0.75},
    ]
    found = Speed.from_records(records, rows=100)
    assert found.compile_seconds == 8.0 and found.step_seconds == 2.0
    assert found.examples_per_second == 50.0
    assert found.wait_share == pytest.approx(3.5 / 7)
    assert found.peak_bytes > 2**20
    assert Speed.from_records([{"step": 1, "seconds": 3.0}], rows=100) is None


@pytest.mark.parametrize(
    ("start", "total", "traced"),
    [(0, 100, [6, 10]), (50, 100, [56, 60]), (0, 7, [3, 7]), (0, 2, [1, 2])],
)
def test_steps_in_a_profile(tmp_path, monkeypatch, start, total, traced):
    seen = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: seen.append(step))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: seen.append(step))
    profile = Profile(tmp_path, start=start, total_steps=total)
    for step in range(start + 1, total + 1):
        profile.before(step)
        profile.after(step, {})
    profile.close()
    assert seen == traced


def test_programs_are_cached_in_the_folder_inside_the_context_only(tmp_path):
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with compilation_cache(tmp_path / "cache"):
            jax.jit(lambda x: jnp.sin(x) * 3.5)(1.0)
        kept = list((tmp_path / "cache").iterdir())
        assert kept
        jax.jit(lambda x: jnp.cos(x) * 4.5)(1.0)
        assert list((tmp_path / "cache").iterdir()) == kept
        with compilation_cache(None):
            assert jax.config.jax_compilation_cache_dir is None
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "theirs"))
        with compilation_cache(tmp_path / "other"):  # an existing setting stays
            assert jax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
