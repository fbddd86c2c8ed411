"""Finds what a compiled program sends between devices: each collective, its bytes, and how often it runs.

A compiler writes one collective in many ways: at once, as a start and a done, or, on TPU, as a chain of
fusions that send parts of it beside other work. Each is found once. `sent_bytes` are those of the ring
algorithm, whichever a machine uses; no other sends less in all.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxhash.bench.compile.execution import Visit, walk
from jaxhash.bench.compile.hlo import Array, Instruction, Program, parse

#: Bytes that a device sends for each byte of the array, with n devices in a group.
_SENT: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
    "collective-broadcast": lambda n: 1.0,
    "send": lambda n: 1.0,
}


class Collective(NamedTuple):
    """An array that devices exchange. Those that are sent together have one `name`.

    Attributes:
        name: name of the instruction.
        kind: ``"all-reduce"``, ``"all-gather"``, ``"reduce-scatter"`` and so on.
        dtype: element type, as XLA writes it.
        shape: shape of the whole array: what all devices hold after an all-reduce or an all-gather,
            what each holds before a reduce-scatter or an all-to-all.
        bytes: bytes of that array.
        group_size: number of devices that exchange it.
        sent_bytes: bytes that each device sends in one run.
        times: runs in a run of the program, with a single round of a loop of unknown rounds.
        loop: origin of the loop of unknown rounds that it is in, or "".
        is_branch: whether it is in a branch that may not be taken.
        origin: the JAX operation that it came from. Where the compiler made it, that of its operand,
            or ``"all_gather, sent as an all-reduce"``.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    group_size: int
    sent_bytes: float
    times: int
    loop: str
    is_branch: bool
    origin: str


def find_collectives(hlo_text: str, devices: int) -> list[Collective]:
    """Returns the arrays that devices exchange in a compiled program, in the order of the text.

    Args:
        hlo_text: text of the program, as ``compiled.as_text()`` returns it.
        devices: number of devices that run it.

    Raises:
        ValueError: if the devices of a collective are written in an unknown way.
    """
    return list(collectives_of(parse(hlo_text), devices))


def collectives_of(program: Program, devices: int, rounds: int = 1) -> Iterator[Collective]:
    """Yields the arrays that devices exchange in a program that `parse` read; see `walk`."""
    chains = set()
    for visit in walk(program, rounds):
        made = visit.instruction
        kind = made.opcode.removesuffix("-done")
        if kind not in _SENT or made.is_host_send or made.opcode == "send-done":
            continue
        if visit.is_fused and not _is_first_part(visit, chains):
            continue
        started = made
        if made.opcode.endswith("-done"):  # its result is that of a synchronous one
            started = visit.computation.instructions[made.operands[0]]
        group = _group_size(started, devices)
        arrays = made.arrays[:1] if kind == "send" else made.arrays
        for array in arrays:
            whole = _whole(array, started, group) if kind == "reduce-scatter" else array
            yield Collective(
                name=started.name,
                kind=kind,
                dtype=whole.dtype,
                shape=whole.shape,
                bytes=whole.bytes,
                group_size=group,
                sent_bytes=_SENT[kind](group) * whole.bytes,
                times=visit.times,
                loop=visit.loop,
                is_branch=visit.is_branch,
                origin=started.origin or _made_origin(program, visit, started),
            )


def _is_first_part(visit: Visit, chains: set[str]) -> bool:
    """Returns whether a collective inside a fusion starts a chain of such, or is in none."""
    chain = re.search(r'chain_id="(\d+)"', visit.instruction.attributes)
    if chain is None:
        return True
    instructions = visit.computation.instructions.values()
    starts = any('"AsyncCollectiveStart"' in other.attributes for other in instructions)
    is_first = starts or chain[1] not in chains
    chains.add(chain[1])
    return is_first


def _made_origin(program: Program, visit: Visit, made: Instruction) -> str:
    """Returns the origin of a collective that the compiler made: that of what it sends.

    XLA:TPU sends small gathers, and on many chips larger ones, as an all-reduce: each device writes its
    part into an array of zeros.
    """
    instructions = visit.computation.instructions
    for name in (name for name in made.operands if name in instructions):
        operand = _behind_copies(instructions, name)
        if operand.origin:
            return operand.origin
        for called in operand.called("calls"):
            inner = program.computations[called]
            operand = _behind_copies(inner.instructions, inner.root)
        if operand.opcode == "dynamic-update-slice":
            return "all_gather, sent as an all-reduce"
    return ""


def _behind_copies(instructions: dict[str, Instruction], name: str) -> Instruction:
    """Returns the instruction that made a value, behind copies of it in other forms."""
    made = instructions[name]
    while made.opcode in ("bitcast", "copy") or '"ZeroCrop"' in made.attributes:
        made = instructions[made.operands[0]]
    return made


def _whole(part: Array, made: Instruction, group: int) -> Array:
    """Returns the array that a reduce-scatter sums, of which each device keeps a part."""
    axis = int(re.search(r"dimensions=\{(\d+)\}", made.attributes)[1])
    shape = (*part.shape[:axis], part.shape[axis] * group, *part.shape[axis + 1 :])
    return part._replace(shape=shape)


def _group_size(made: Instruction, devices: int) -> int:
    """Returns the number of devices that exchange an array."""
    text = made.attributes
    if "source_target_pairs=" in text or made.opcode in ("send", "send-start"):
        return devices
    if listed := re.search(r"replica_groups=\{(\{[\d,]*\})?", text):
        return listed[1].count(",") + 1 if listed[1] else devices
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", text):
        return int(counted[1])
    if named := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", text):  # from JAX 0.12 on
        sizes = dict(re.findall(r"'([^']*)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']*)'", named[2]))
    raise ValueError(f"the devices of a collective are written in an unknown way: {text}")
