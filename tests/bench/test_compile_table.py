"""What is printed of a compiled program: from JSON, without a number that the JSON does not hold."""

import dataclasses
import io
import json
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from rich.console import Console

from jaxhash.bench.compile.analysis import analyze, group_collectives
from jaxhash.bench.compile.collectives import find_collectives
from jaxhash.bench.compile.program import CompiledProgram, Memory
from jaxhash.bench.compile.table import print_report
from jaxhash.bench.compile.targets import parse_target

TARGET = parse_target("h200:8")


def step(x):
    total = partial(lax.psum, axis_name="devices")
    x = lax.while_loop(lambda x: x[0, 0] < 9, lambda x: total(jnp.sin(x)), x)
    return total(x @ x.T) + total(jnp.cos(x @ x.T))


@pytest.fixture(scope="module")
def program():
    mapped = jax.pmap(step, axis_name="devices")
    text = mapped.lower(jax.ShapeDtypeStruct((8, 16, 32), jnp.float32)).compile().as_text()
    memory = Memory(2048, 1024, 4096, 0, 512, 7680)
    return CompiledProgram("training step", TARGET, 0.5, 1.5, None, None, memory, text)


def printed(*programs, remedies=()):
    content = {
        "target": dataclasses.asdict(TARGET),
        "programs": list(programs),
        "remedies": list(remedies),
    }
    out = io.StringIO()
    print_report(json.loads(json.dumps(content)), Console(file=out, width=140))
    return out.getvalue()


def test_a_program_that_fits(program):
    entry = analyze(program, items=128)
    assert entry["fits"] and entry["flops"] is None
    assert (
        entry["work"]["flops"] == 2 * 2 * 16 * 16 * 32 or entry["work"]["flops"] == 2 * 16 * 16 * 32
    )
    text = printed(entry)
    assert "training step on h200:8" in text and "7.5 KiB of 141 GiB" in text
    assert f"bottleneck: {entry['roofline']['bottleneck']}" in text
    assert f"{128 / entry['roofline']['seconds']:,.0f} examples/s" in text
    assert "f32[16,16]" in text and "1 a round" in text and "loop of unknown rounds" in text


def test_equal_collectives_are_one_row(program):
    found = find_collectives(program.text, 8)
    rows = group_collectives(found)
    assert sum(row["count"] for row in rows) == len(found)
    sent = [row["sent_bytes"] * row["count"] for row in rows]
    assert sent == sorted(sent, reverse=True)


def test_layers_that_do_the_same_are_one_row(program):
    entry = analyze(program, items=128)
    sent, slow = entry["collectives"][0], entry["slow_operations"][0]
    layers = [f"jit(step)/stage{i}_0/mlp{j}/dot_general" for i in range(30) for j in (1, 2)]
    entry["collectives"] = [{**sent, "origin": origin, "count": 2} for origin in layers]
    entry["slow_operations"] = [{**slow, "origin": origin} for origin in layers]
    lines = [line for line in printed(entry).splitlines() if "mlp" in line]
    assert len(lines) == 4 and "smaller ones" not in printed(entry)
    assert all("stage*/mlp" in line for line in lines)
    assert all(f"{60 * sent['times']}" in line for line in lines[:2])
    assert all(f"{30 * slow['times']}" in line for line in lines[2:])


def test_what_does_not_fit_says_what_would():
    refused = {
        "name": "training step",
        "fits": False,
        "needed_bytes": 2**38,
        "message": "Ran out of memory",
    }
    remedies = [
        {"options": {"remat": True}, "needed": 2**30, "available": 2**35, "reason": ""},
        {"options": {"chunk_size": 4}, "needed": 2**36, "available": 2**35, "reason": ""},
        {
            "options": {"spread_banks": "always"},
            "needed": None,
            "available": 1,
            "reason": "no bank",
        },
    ]
    text = printed(refused, remedies=remedies)
    assert "256 GiB of 141 GiB" in text and "Ran out of memory" in text
    assert "`remat`: fits, needs 1 GiB of 32 GiB" in text
    assert "`chunk_size=4`: does not fit, needs 64 GiB" in text
    assert "does not apply: no bank" in text
