"""Finds operations that accelerators run slowly: row after row, emulated, or on the host."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from jaxhash.bench.compile.execution import Visit, trip_count, walk
from jaxhash.bench.compile.hlo import Instruction, Program, parse

#: What each kind is slow at.
REASONS = {
    "sort": "many passes over the data, and on TPU up to a minute of compile time",
    "64-bit": "emulated by 32-bit operations on TPU; at most half the rate on GPU",
    "scatter": "one row after the other on TPU",
    "loop": "a round starts when the one before has ended",
    "compiler loop": "a loop that the compiler made of a single operation",
    "host callback": "waits for Python on the host",
}

_WIDE = ("s64", "u64", "f64", "c128")


class SlowOperation(NamedTuple):
    """An operation that accelerators run slowly.

    Attributes:
        kind: one of `REASONS`.
        name: name of the instruction.
        dtype: element type of its first array, or of the first one of 64 bits.
        shape: shape of that array.
        times: runs in a run of the program, with a single round of a loop of unknown rounds.
        rounds: rounds of a loop, or None if they depend on data; 1 for what is not a loop.
        loop: origin of the loop of unknown rounds that it is in, or "".
        is_branch: whether it is in a branch that may not be taken.
        origin: the JAX operation that it came from.
    """

    kind: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    times: int
    rounds: int | None
    loop: str
    is_branch: bool
    origin: str


def find_slow_operations(hlo_text: str) -> list[SlowOperation]:
    """Returns the slow operations of a compiled program, in the order of the text.

    Operations of one kind, origin and type are listed once if they are of 64 bits, since one JAX
    operation may become many.

    Args:
        hlo_text: text of the program, as ``compiled.as_text()`` returns it.
    """
    return list(slow_operations_of(parse(hlo_text)))


def slow_operations_of(program: Program) -> Iterator[SlowOperation]:
    """Yields the slow operations of a program that `parse` read."""
    seen = set()
    for visit in walk(program):
        made = visit.instruction
        wide = [array for array in made.arrays if array.dtype in _WIDE]
        for kind in _kinds(program, visit, bool(wide)):
            arrays = wide if kind == "64-bit" else made.arrays
            array = arrays[0] if arrays else None
            if kind == "64-bit" and (made.origin, array.dtype) in seen:
                continue
            if kind == "64-bit":
                seen.add((made.origin, array.dtype))
            is_loop = made.opcode == "while"
            yield SlowOperation(
                kind=kind,
                name=made.name,
                dtype=array.dtype if array else "",
                shape=array.shape if array else (),
                times=visit.times,
                rounds=trip_count(program, visit.computation, made) if is_loop else 1,
                loop=visit.loop,
                is_branch=visit.is_branch,
                origin=made.origin,
            )


def _kinds(program: Program, visit: Visit, is_wide: bool) -> Iterator[str]:
    made = visit.instruction
    target = re.search(r'custom_call_target="([^"]*)"', made.attributes)
    called = target[1] if target else ""
    if made.opcode == "sort" or re.search(r"TopK|RadixSort", called):
        yield "sort"
    if made.opcode == "scatter":
        yield "scatter"
    if made.opcode == "while" and not _exchanges_what_it_multiplies(program, made):
        is_written = re.search(r"(while|scan)[^/]*$", made.origin)
        yield "loop" if is_written else "compiler loop"
    if "callback" in called or made.opcode in ("infeed", "outfeed") or made.is_host_send:
        yield "host callback"
    if is_wide:
        yield "64-bit"


def _exchanges_what_it_multiplies(program: Program, loop: Instruction) -> bool:
    """Returns whether a compiler made a loop of a product, to send its parts while it computes others."""
    (body,) = loop.called("body")
    sends = any(
        made.opcode.startswith("collective-permute")
        for made in program.computations[body].instructions.values()
    )
    return sends and re.search(r"(dot_general|conv_general_dilated)$", loop.origin) is not None
