"""Every training step compiles for a TPU slice, exchanges what is meant, and does nothing slowly.

The compiler is the one that users have; nothing is executed.
"""

import pytest
from compiled_steps import GATHERED, KINDS, compile_step, exchanged_rows, state_bytes

from jaxhash.bench.compile.slow_operations import find_slow_operations
from jaxhash.objectives import METHODS, QUANTIZERS

pytestmark = pytest.mark.slow

#: What is slow and cannot be otherwise: SWD sorts projections, exact OT is solved by SciPy, and once an
#: epoch a graph of nearest neighbors is made and labels pass along its edges.
SLOW = {
    "quantizer swd": {"sort"},
    "quantizer ot": {"host callback"},
    "affinity-propagation": {"sort", "scatter"},
}

NAMES = [*METHODS, *(f"quantizer {name}" for name in QUANTIZERS)]


def check(program, state, name):
    gathered, summed = exchanged_rows(program)
    assert gathered == GATHERED.get(name, {})
    assert summed.keys() <= {"codes"} & gathered.keys()  # their gradient
    assert slow_kinds(program) == SLOW.get(name, set())
    assert program.memory.aliased >= state_bytes(state)


def slow_kinds(program):
    """What the compiler serializes or emulates: loops that JAX wrote are none, nor one scatter."""
    return {
        found.kind
        for found in find_slow_operations(program.text)
        if found.kind != "loop"
        and not (found.kind == "scatter" and found.times == 1 and not found.loop)
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_step_under_pmap(v5e, name):
    check(*compile_step(name, v5e), name)


@pytest.mark.parametrize("name", KINDS)
def test_a_step_under_shard_map(v5e, name):
    check(*compile_step(name, v5e, mapping="shard_map"), name)


@pytest.mark.parametrize("name", KINDS)
def test_a_step_under_jit_exchanges_codes_alone(v5e, name):
    """The compiler spreads it: it may pass codes on instead of gathering them, in any number."""
    program, state = compile_step(name, v5e, mapping="jit")
    gathered, summed = exchanged_rows(program)
    assert not {"inputs", "activations"} & (gathered.keys() | summed.keys())
    assert bool(gathered) <= ("codes" in GATHERED.get(name, {}))
    assert slow_kinds(program) == set()
    assert program.memory.aliased >= state_bytes(state)


@pytest.mark.parametrize("name", ["hashnet", "asymmetric-dsh"])
def test_tables_are_spread(v5e, name):
    """The codes of the batch are gathered, not the rows of the bank; a device holds its part."""
    program, state = compile_step(name, v5e, sharded_tables=True)
    assert exchanged_rows(program)[0] == GATHERED[name]
    assert slow_kinds(program) == set()
    tables = state_bytes(state.objective_state)
    assert program.memory.aliased < state_bytes(state) - tables * 3 / 4
