"""Finds the collectives of a compiled program in its HLO text: kind, bytes, and how often they run.

Bytes are those of the whole array: what all devices hold after an all-reduce or an all-gather, and what
each holds before a reduce-scatter. `sent_bytes` computes what a device sends by the ring algorithm,
whichever algorithm a machine uses.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

#: Bytes that a device sends for each byte of the array, by the ring algorithm over n devices.
RING_FACTORS = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
}

#: Other instructions that move bytes between devices; a program that holds one is refused.
UNCOUNTED = (
    "collective-permute",
    "collective-broadcast",
    "all-to-all",
    "ragged-all-to-all",
    "send",
)

#: Scopes: a loop with an unknown number of rounds, and a branch that may not be taken.
ROUND, BRANCH = "round", "branch"

_ITEM = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
_ITEM |= {"s64": 8, "u64": 8, "f64": 8}

Scope = tuple[str, ...]


class Collective(NamedTuple):
    """A collective of a program.

    Attributes:
        kind: ``"all-reduce"``, ``"all-gather"`` or ``"reduce-scatter"``.
        bytes: size of the whole array in bytes.
        scope: the unknown loops and the branches around it, the outermost first.
        times: number of runs in one pass through the scope.
    """

    kind: str
    bytes: int
    scope: Scope
    times: int


def sent_bytes(kind: str, size: float, devices: int) -> float:
    """Returns the bytes that each device sends for an array of that size, by the ring algorithm."""
    return RING_FACTORS[kind](devices) * size


def find_collectives(text: str) -> list[Collective]:
    """Returns all collectives that a program may run.

    Args:
        text: HLO text of a compiled program, as ``compiled.as_text()`` returns it.

    Raises:
        ValueError: if the program holds a collective of another kind, or an asynchronous one, whose
            shapes are written otherwise.
    """
    parts, entry = _computations(text)
    return list(_walk(parts, entry, (), 1))


def total_bytes(found: list[Collective], kind: str, scope: Scope = ()) -> int:
    """Sums the bytes of arrays (not of what is sent) of one kind in one scope."""
    return sum(
        each.bytes * each.times for each in found if (each.kind, each.scope) == (kind, scope)
    )


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Returns the instructions of each computation, and the name of the entry computation."""
    parts: dict[str, list[str]] = {}
    entry, name = "", ""
    for line in text.splitlines():
        opening = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if opening:
            name = opening[2]
            parts[name] = []
            entry = name if opening[1] else entry
        elif name:
            parts[name].append(line.strip())
    return parts, entry


def _walk(parts: dict[str, list[str]], name: str, scope: Scope, times: int) -> Iterator[Collective]:
    for line in parts[name]:
        made = re.match(r"(?:ROOT )?%?[\w.\-]+ = (\(.*?\)|\S+) ([\w\-]+)\(", line)
        if made is None:
            continue
        shape, kind = made[1], made[2]
        if kind in RING_FACTORS:
            size = _bytes(shape) * (_group(line) if kind == "reduce-scatter" else 1)
            yield Collective(kind, size, scope, times)
        elif kind.removesuffix("-start") in (*UNCOUNTED, *RING_FACTORS):
            raise ValueError(f"the program holds a {kind}, which is not counted")
        elif kind == "while":
            known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            inside = scope if known else (*scope, ROUND)
            for part in re.findall(r"(?:condition|body)=%?([\w.\-]+)", line):
                yield from _walk(parts, part, inside, times * int(known[1] if known else 1))
        elif kind == "conditional":
            for part in _branches(line):
                yield from _walk(parts, part, (*scope, BRANCH), times)
        elif kind in ("call", "fusion"):
            for part in re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", line):
                yield from _walk(parts, part, scope, times)


def _branches(line: str) -> list[str]:
    several = re.search(r"branch_computations=\{(.*?)\}", line)
    if several:
        return re.findall(r"%?([\w.\-]+)", several[1])
    return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line)


def _group(line: str) -> int:
    """Returns the number of devices that take part in a collective."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(counted[1])
    if named := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", line):  # from JAX 0.12 on
        sizes = dict(re.findall(r"'([^']*)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']*)'", named[2]))
    raise ValueError(f"the devices of a collective are written in an unknown way: {line}")


def _bytes(shape: str) -> int:
    """Returns the bytes of an array, or of all arrays of a tuple."""
    arrays = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shape)
    return sum(
        _ITEM[dtype] * math.prod(int(side) for side in sides.split(",") if side)
        for dtype, sides in arrays
    )
