"""Every training step compiles for a TPU slice, exchanges what is meant, and does nothing slowly.

The compiler is the one that users have; nothing is executed.
"""

import pytest
from compiled_steps import compile_step, exchanged_rows, state_bytes

from jaxhash.bench.compile.slow_operations import find_slow_operations
from jaxhash.objectives import METHODS, QUANTIZERS

pytestmark = pytest.mark.slow

_CODES, _VIEWS, _CODES_AND_INPUTS = {"codes": 1}, {"codes": 2}, {"codes": 1, "inputs": 1}

#: What a step gathers of the rows of the whole batch, to pair them. The others gather nothing: HSWD,
#: the penalties of single codes, the centers, the classifiers.
GATHERED = {
    **dict.fromkeys(["hashnet", "dpsh", "dhn", "dbdh", "lcdsh", "idhn", "dch", "dsh"], _CODES),
    **dict.fromkeys(["qsmih", "wglhh", "dtsh", "mihash", "tie-aware-ap", "dsdh"], _CODES),
    **dict.fromkeys(["dsdh-released", "asymmetric-dsh", "supervised-deep-hashing"], _CODES),
    **dict.fromkeys(["greedyhash-u", "bihalf", "semantic-structure-hashing"], _CODES_AND_INPUTS),
    "cibhash": _VIEWS,
    "shrewd": _VIEWS,  # for the semantic loss, and for the divergence
    "shred": _VIEWS,
    "dfh": {"codes": 2, "labels": 1},  # for the bank, and for the codes of the classes
} | {f"quantizer {name}": _CODES for name in ("swd", "ot", "sinkhorn", "koleo", "empirical-kl")}

#: What is slow and cannot be otherwise: SWD sorts projections, exact OT is solved by SciPy.
SLOW = {"quantizer swd": {"sort"}, "quantizer ot": {"host callback"}}

NAMES = [*METHODS, *(f"quantizer {name}" for name in QUANTIZERS)]

#: An objective of each kind, for the mappings that are not the default.
KINDS = ["dhn", "csq", "cibhash", "hpdh"]


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
@pytest.mark.parametrize("mapping", ["shard_map", "jit"])
def test_a_step_under_other_mappings(v5e, mapping, name):
    check(*compile_step(name, v5e, mapping=mapping), name)


def test_hswd_gathers_nothing_where_the_step_of_one_device_is_mapped(v5e):
    """Under ``jax.jit`` the compiler spreads the search, whose blocks of rows cross devices."""
    mapped, state = compile_step("quantizer hswd", v5e, mapping="shard_map")
    check(mapped, state, "quantizer hswd")
    spread, _ = compile_step("quantizer hswd", v5e, mapping="jit")
    assert exchanged_rows(spread)[0].keys() <= {"codes"}
    assert slow_kinds(spread) == set()


@pytest.mark.parametrize("name", ["hashnet", "asymmetric-dsh"])
def test_tables_are_spread(v5e, name):
    """The codes of the batch are gathered, not the rows of the bank; a device holds its part."""
    program, state = compile_step(name, v5e, sharded_tables=True)
    assert exchanged_rows(program)[0] == GATHERED[name]
    assert slow_kinds(program) == set()
    tables = state_bytes(state.objective_state)
    assert program.memory.aliased < state_bytes(state) - tables * 3 / 4
