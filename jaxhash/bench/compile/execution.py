"""How often the instructions of a compiled program run: `walk` follows its loops, branches and calls.

The compilers for CPU and GPU write down how many rounds a loop has, where they know; the one for TPU
does not. `trip_count` then reads it from the loop: a counter that starts at a constant, grows by a
constant, and is compared with one.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from jaxhash.bench.compile.hlo import Computation, Instruction, Program

#: Instructions whose result is their operand.
_COPIES = ("copy", "bitcast", "convert", "reshape", "copy-start", "copy-done", "opt-barrier")


class Visit(NamedTuple):
    """An instruction where it runs.

    Attributes:
        instruction: the instruction.
        computation: the computation it is in.
        times: runs of it in one run of the program, with every branch taken.
        loop: origin of the innermost loop around it with unknown rounds, or "".
        is_branch: whether it is inside a branch that may not be taken.
        is_fused: whether it is inside a fusion, so that it reads and writes no memory.
    """

    instruction: Instruction
    computation: Computation
    times: int = 1
    loop: str = ""
    is_branch: bool = False
    is_fused: bool = False


def walk(program: Program, rounds: int = 1) -> Iterator[Visit]:
    """Yields every instruction that the program may run, those inside of fusions included.

    Computations that only say how two elements are combined, as of a reduction, are left out.

    Args:
        program: the program.
        rounds: rounds that a loop counts for if its rounds depend on data; one in a branch that may
            not be taken.
    """
    yield from _walk(program, rounds, Visit(None, program.computations[program.entry]))


def _walk(program: Program, rounds: int, place: Visit) -> Iterator[Visit]:
    for instruction in place.computation.instructions.values():
        yield place._replace(instruction=instruction)
        assumed = 1 if place.is_branch else rounds
        for name, times, change in _inner(program, assumed, place.computation, instruction):
            inner = program.computations[name]
            change = {"computation": inner, "times": place.times * times, **change}
            yield from _walk(program, rounds, place._replace(**change))


def _inner(
    program: Program, rounds: int, computation: Computation, instruction: Instruction
) -> Iterator[tuple[str, int, dict]]:
    """Yields the computations that an instruction runs, how often, and what changes in them."""
    kind = instruction.opcode
    if kind == "while":
        known = trip_count(program, computation, instruction)
        change = {} if known is not None else {"loop": instruction.origin or instruction.name}
        for name in instruction.called("condition", "body"):
            yield name, rounds if known is None else known, change
    elif kind == "conditional":
        branches = "branch_computations", "true_computation", "false_computation"
        for name in instruction.called(*branches):
            yield name, 1, {"is_branch": True}
    elif kind == "fusion":
        for name in instruction.called("calls"):
            yield name, 1, {"is_fused": True}
    elif kind in ("call", "async-start"):
        for name in instruction.called("calls", "to_apply"):
            yield name, 1, {}


def trip_count(program: Program, computation: Computation, loop: Instruction) -> int | None:
    """Returns the rounds of a loop, or None if they depend on data.

    Args:
        program: the program.
        computation: the computation that the loop is in.
        loop: its ``while`` instruction.
    """
    written = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if written:
        return int(written[1])
    condition, body = (program.computations[loop.called(part)[0]] for part in ("condition", "body"))
    test = _source(condition, condition.root)
    if test.opcode != "compare" or "direction=LT" not in test.attributes:
        return None
    counter, limit = (_element(condition, name) for name in test.operands)
    last = _constant(condition, test.operands[1])
    if last is None and _growth(body, limit) == 0:
        last = _initial(computation, loop, limit)
    first, step = _initial(computation, loop, counter), _growth(body, counter)
    if first is None or last is None or not step:
        return None
    return max(0, -(-(last - first) // step))


def _source(computation: Computation, name: str) -> Instruction:
    """Returns the instruction that made a value, behind copies and tuples."""
    made = computation.instructions[name]
    if made.opcode in _COPIES:
        return _source(computation, made.operands[0])
    if made.opcode == "get-tuple-element":
        whole = _source(computation, made.operands[0])
        if whole.opcode == "tuple":
            return _source(computation, whole.operands[_index(made)])
    return made


def _index(made: Instruction) -> int:
    return int(re.search(r"\bindex=(\d+)", made.attributes)[1])


def _constant(computation: Computation, name: str) -> int | None:
    """Returns the value of an integer constant."""
    made = _source(computation, name)
    is_integer = made.opcode == "constant" and re.fullmatch(r"-?\d+", made.literal)
    return int(made.literal) if is_integer else None


def _element(computation: Computation, name: str) -> int | None:
    """Returns which element of the state of a loop a value is."""
    made = _source(computation, name)
    if made.opcode != "get-tuple-element":
        return None
    whole = _source(computation, made.operands[0])
    return _index(made) if whole.opcode == "parameter" else None


def _initial(computation: Computation, loop: Instruction, element: int | None) -> int | None:
    """Returns the constant that an element of the state of a loop starts with."""
    state = _source(computation, loop.operands[0])
    if element is None or state.opcode != "tuple":
        return None
    return _constant(computation, state.operands[element])


def _growth(body: Computation, element: int | None) -> int | None:
    """Returns the constant that a round adds to an element of the state of a loop."""
    state = _source(body, body.root)
    if element is None or state.opcode != "tuple":
        return None
    new = _source(body, state.operands[element])
    if _element(body, new.name) == element:
        return 0
    if new.opcode != "add":
        return None
    added = [_constant(body, name) for name in new.operands if _element(body, name) != element]
    return added[0] if len(added) == 1 else None
