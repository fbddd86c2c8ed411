"""Slow operations in compiled programs, and the rounds of loops that no compiler wrote down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxhash.bench.compile.execution import trip_count, walk
from jaxhash.bench.compile.hlo import parse
from jaxhash.bench.compile.slow_operations import REASONS, find_slow_operations


def compiled(function, *shapes):
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    return jax.jit(function).lower(*arrays).compile().as_text()


ROWS, INDEX = ((100, 8), "float32"), ((50,), "int32")

CASES = [
    (lambda x: jnp.sort(x, 0), [ROWS], ["sort"]),
    (lambda x: lax.top_k(x, 3), [ROWS], ["sort"]),
    (lambda x: lax.map(lambda row: jnp.sin(row @ row), x), [ROWS], ["loop"]),
    (lambda x: jax.pure_callback(np.sin, x, x), [ROWS], ["host callback"]),
    (lambda x: jnp.sin(x).sum(0), [ROWS], []),
]


@pytest.mark.parametrize(("function", "shapes", "kinds"), CASES)
def test_what_is_slow_is_found(function, shapes, kinds):
    found = find_slow_operations(compiled(function, *shapes))
    assert [operation.kind for operation in found] == kinds
    assert all(operation.kind in REASONS and operation.origin for operation in found)


@pytest.mark.parametrize("rows", [100, 1000])
def test_a_scatter_is_found_whether_or_not_the_compiler_makes_a_loop_of_it(rows):
    text = compiled(lambda x, i: x.at[i].add(1.0), ((rows, 64), "float32"), INDEX)
    (found,) = find_slow_operations(text)
    assert found.kind in ("scatter", "compiler loop") and "scatter" in found.origin


def test_64_bit_types():
    with jax.enable_x64(True):
        text = compiled(lambda i: jnp.sin(i.astype("float64")) + i.astype("int64"), INDEX)
    dtypes = {f.dtype for f in find_slow_operations(text) if f.kind == "64-bit"}
    assert dtypes == {"f64", "s64"}


def test_rounds_of_a_loop_and_what_is_inside():
    def program(x):
        x, _ = lax.scan(lambda x, _: (x.at[x[0].astype(int)].set(1.0), None), x, length=6)
        return lax.while_loop(lambda x: x[0] < 9, lambda x: jnp.sort(x) + 1, x)

    found = find_slow_operations(compiled(program, ((30,), "float32")))
    loops = [operation.rounds for operation in found if operation.kind == "loop"]
    assert sorted(loops, key=str) == [6, None]
    (sort,) = (operation for operation in found if operation.kind == "sort")
    assert sort.times == 1 and sort.loop


LOOP = """
%condition (state: (s32[], f32[4], s32[])) -> pred[] {{
  %state = (s32[]{{:T(128)}}, f32[4]{{0:T(128)S(1)}}, s32[]{{:T(128)}}) parameter(0)
  %counter = s32[]{{:T(128)}} get-tuple-element(%state), index=0
  %carried = s32[]{{:T(128)}} get-tuple-element(%state), index=2
  %constant = s32[]{{:T(128)}} constant({stop})
  ROOT %lt = pred[]{{:T(512)}} compare(%counter, %{limit}), direction={direction}
}}
%body (state: (s32[], f32[4], s32[])) -> (s32[], f32[4], s32[]) {{
  %state = (s32[]{{:T(128)}}, f32[4]{{0:T(128)S(1)}}, s32[]{{:T(128)}}) parameter(0)
  %counter = s32[]{{:T(128)}} get-tuple-element(%state), index=0
  %copy = s32[]{{:T(128)S(6)}} copy(%counter)
  %step = s32[]{{:T(128)}} constant({step})
  %next = s32[]{{:T(128)}} {grow}(%copy, %step)
  %value = f32[4]{{0:T(128)S(1)}} get-tuple-element(%state), index=1
  %carried = s32[]{{:T(128)}} get-tuple-element(%state), index=2
  ROOT %new = (s32[]{{:T(128)}}, f32[4]{{0:T(128)S(1)}}, s32[]{{:T(128)}}) tuple(%next, %value, %carried)
}}
ENTRY %main (in: f32[4]) -> f32[4] {{
  %in = f32[4]{{0:T(128)}} parameter(0)
  %start = s32[]{{:T(128)}} constant({start})
  %stop = s32[]{{:T(128)}} constant({stop})
  %begin = s32[]{{:T(128)}} copy(%start)
  %state = (s32[]{{:T(128)}}, f32[4]{{0:T(128)}}, s32[]{{:T(128)}}) tuple(%begin, %in, %stop)
  %loop = (s32[], f32[4], /*index=2*/s32[]) while(%state), condition=%condition, body=%body
  ROOT %out = f32[4]{{0:T(128)}} get-tuple-element(%loop), index=1
}}
"""

LOOPS = [
    (dict(start=0, stop=12, step=1), 12),
    (dict(start=3, stop=12, step=1), 9),
    (dict(start=0, stop=11, step=4), 3),
    (dict(start=5, stop=5, step=1), 0),
    (dict(start=0, stop=12, step=1, limit="carried"), 12),
    (dict(start=0, stop=12, step=1, direction="GT"), None),
    (dict(start=1, stop=12, step=2, grow="multiply"), None),
]


@pytest.mark.parametrize(("numbers", "rounds"), LOOPS)
def test_rounds_are_read_from_the_loop(numbers, rounds):
    """As XLA:TPU leaves a loop: the counter behind copies, the limit constant or carried along."""
    numbers = {"limit": "constant", "direction": "LT", "grow": "add", **numbers}
    program = parse(LOOP.format(**numbers))
    (loop,) = (visit for visit in walk(program) if visit.instruction.opcode == "while")
    assert trip_count(program, loop.computation, loop.instruction) == rounds
    inside = [visit.times for visit in walk(program) if visit.instruction.name == "next"]
    assert inside == [1 if rounds is None else rounds]


@pytest.mark.parametrize("sends", [False, True])
@pytest.mark.parametrize("origin", ["jit(step)/Dense_0/dot_general", "jit(step)/scatter-add"])
def test_a_product_that_is_sent_in_parts_is_not_slow(origin, sends):
    """XLA:TPU spreads a product and the exchange of its parts over the rounds of a loop."""
    text = LOOP.format(
        start=0, stop=2, step=1, limit="constant", direction="LT", grow="add"
    ).replace("body=%body", f'body=%body, metadata={{op_name="{origin}"}}')
    if sends:
        sent = "%sent = f32[4]{0} collective-permute(%value), source_target_pairs={{0,1},{1,0}}"
        text = text.replace("  ROOT %new", f"  {sent}\n  ROOT %new")
    kinds = [found.kind for found in find_slow_operations(text)]
    assert kinds == ([] if sends and "dot_general" in origin else ["compiler loop"])
