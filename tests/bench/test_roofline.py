"""The bounds of a program by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxhash.bench.compile.program import CompiledProgram, Memory
from jaxhash.bench.compile.roofline import count_work, roofline
from jaxhash.bench.compile.targets import Chip, Target

CHIP = Chip("toy", peak_flops=1e6, memory_bytes=10**6, bandwidth=1e3, link_bandwidth=1e2, source="")


def program(function, *shape, devices=8):
    mapped = jax.pmap(function, axis_name="devices")
    text = mapped.lower(jax.ShapeDtypeStruct((devices, *shape), jnp.float32)).compile().as_text()
    target = Target("toy:8", "tpu", CHIP, devices, hosts=1)
    return CompiledProgram("step", target, 0.0, 0.0, None, None, Memory(0, 0, 0, 0, 0, 0), text)


def test_each_bound_by_hand():
    made = program(lambda x: lax.psum(x @ x.T, "devices"), 16, 32)
    work, bounds = count_work(made), roofline(made)
    assert work.flops == work.float32_flops == 2 * 16 * 16 * 32
    assert work.sent_bytes == 2 * 7 / 8 * 4 * 16 * 16
    assert work.exchanges == 1 and not work.loops
    assert bounds.compute_seconds == pytest.approx(work.flops / 1e6)
    assert bounds.memory_seconds == pytest.approx(work.bytes / 1e3)
    assert bounds.link_seconds == pytest.approx(work.sent_bytes / 1e2)
    assert bounds.bottleneck == "links" and bounds.seconds == bounds.link_seconds


def test_loops_of_unknown_rounds_are_counted_and_named():
    def search(x):
        return lax.while_loop(lambda x: x[0] < 9, lambda x: lax.psum(jnp.sin(x), "devices"), x)

    made = program(search, 16)
    once, often = count_work(made, rounds=1), count_work(made, rounds=7)
    assert often.sent_bytes == 7 * once.sent_bytes and often.exchanges == 7
    assert len(often.loops) == 1 and "while" in often.loops[0]
    assert any("7 rounds" in said for said in roofline(made, often).assumptions)
