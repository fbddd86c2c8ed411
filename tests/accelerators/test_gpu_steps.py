"""Training steps compile for eight GPUs and exchange what they do on a TPU slice.

The compiler is the one that users have; nothing is executed.
"""

import pytest
from compiled_steps import GATHERED, KINDS, compile_step, exchanged_rows, state_bytes

from jaxhash.bench.compile.slow_operations import find_slow_operations

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", KINDS)
def test_a_step_for_eight_gpus(h200, name):
    program, state = compile_step(name, h200)
    gathered, summed = exchanged_rows(program)
    assert gathered == GATHERED.get(name, {})
    assert summed.keys() <= {"codes"} & gathered.keys()  # their gradient
    kinds = {found.kind for found in find_slow_operations(program.text)}
    assert not kinds & {"sort", "host callback"}
    assert program.memory.aliased >= state_bytes(state)
