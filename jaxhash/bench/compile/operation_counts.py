"""Counts what a compiled program computes and reads, from its text.

XLA's own count has the body of a loop once, whatever its rounds, counts what stays in the on-chip memory
of a TPU, and is empty for GPUs. Here a product of matrices and a convolution count two operations for
each multiplication, and nothing else counts: what a chip is rated for is products. An instruction reads
its operands from main memory and writes its results there once, unless they lie on the chip; a fusion
counts as one instruction, and slices and updates in place count for what they touch.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator

import numpy as np

from jaxhash.bench.compile.execution import Visit, walk
from jaxhash.bench.compile.hlo import Array, Computation, Instruction, Program

#: Instructions that neither read nor write: they name what is there, or run what is counted itself.
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"),
    *("while", "conditional", "call", "partition-id", "replica-id", "domain"),
    *("async-start", "async-update", "async-done"),
)

#: Calls of XLA:TPU that only name memory.
_FREE_CALLS = re.compile(r'custom_call_target="(ConcatBitcast|AllocateBuffer|Assume\w+|Sharding)"')

_SLICES = ("slice", "dynamic-slice", "gather")


@dataclasses.dataclass(frozen=True)
class Counts:
    """What one device does in a run of a program.

    Attributes:
        flops: operations of matrix products and convolutions, by the element type that is multiplied.
        bytes: bytes from and to main memory.
        loop_bytes: part of these in loops whose rounds depend on data.
        kernels: calls of compiled kernels, whose operations are not counted, by what they call.
    """

    flops: dict[str, int]
    bytes: int
    loop_bytes: int
    kernels: dict[str, int]


def count_operations(program: Program, rounds: int = 1) -> Counts:
    """Counts the operations and bytes of a program.

    Args:
        program: the program, from `parse`.
        rounds: rounds that a loop counts for if its rounds depend on data.
    """
    flops, kernels = collections.Counter(), collections.Counter()
    total = in_loops = 0
    for visit in walk(program, rounds):
        made = visit.instruction
        if products := instruction_flops(visit.computation, made):
            flops[_operand(visit.computation, made, 0).dtype] += visit.times * products
        elif kernel := re.search(
            r'custom_call_target="(tpu_custom_call|\S*triton\S*)"', made.attributes
        ):
            kernels[kernel[1]] += visit.times
        if not visit.is_fused:
            size = visit.times * instruction_bytes(program, visit)
            total += size
            in_loops += size if visit.loop else 0
    return Counts(dict(flops), total, in_loops, dict(kernels))


# Operations


def instruction_flops(computation: Computation, made: Instruction) -> int:
    """Returns the operations of a product of matrices or of a convolution; 0 for all others."""
    if made.opcode == "dot":
        return _dot_flops(computation, made, r"lhs_contracting_dims=\{([\d,]*)\}")
    if made.opcode == "convolution":
        arrays = _operand(computation, made, 0), _operand(computation, made, 1), made.arrays[0]
        return _convolution_flops(made, *arrays)
    if made.opcode != "custom-call":
        return 0
    if '"__cublas$' in made.attributes:
        return _dot_flops(computation, made, r'"lhs_contracting_dimensions":\[([\d,"]*)\]')
    if called := re.search(r'"__cudnn\$conv(\w+)"', made.attributes):
        first, second = (_operand(computation, made, place) for place in (0, 1))
        out = made.arrays[0]
        roles = {
            "BackwardInput": (out, second, first),
            "BackwardFilter": (first, out, second),
        }.get(called[1], (first, second, out))
        return _convolution_flops(made, *roles)
    return 0


def _dot_flops(computation: Computation, made: Instruction, contracted: str) -> int:
    left = _operand(computation, made, 0)
    axes = re.findall(r"\d+", re.search(contracted, made.attributes)[1])
    return 2 * math.prod(made.arrays[0].shape) * math.prod(left.shape[int(axis)] for axis in axes)


def _convolution_flops(made: Instruction, image: Array, kernel: Array, out: Array) -> int:
    """Counts the multiplications of a convolution with elements that exist: no padding, no holes."""
    labels = re.search(r"dim_labels=(\w+?)_(\w+?)->(\w+)", made.attributes)
    if labels is None:
        return 0
    sides = [
        dict(zip(names, array.shape, strict=True))
        for names, array in zip(labels.groups(), (image, kernel, out), strict=True)
    ]
    spatial = sorted(set(labels[1]) - {"b", "f"}, key=int)
    window = re.search(r"window=\{([^}]*)\}", made.attributes)
    fields = dict(field.split("=") for field in window[1].split()) if window else {}

    def field(name: str, place: int, default: str) -> list[int]:
        text = fields[name].split("x")[place] if name in fields else default
        return [int(number) for number in text.split("_")]

    positions = 1
    for place, axis in enumerate(spatial):
        (stride,), (below, _) = field("stride", place, "1"), field("pad", place, "0_0")
        (holes,), (steps,) = field("lhs_dilate", place, "1"), field("rhs_dilate", place, "1")
        starts = stride * np.arange(sides[2][axis])[:, None] - below
        at = starts + steps * np.arange(sides[1][axis])
        positions *= int(((at >= 0) & (at % holes == 0) & (at // holes < sides[0][axis])).sum())
    return 2 * positions * sides[1]["i"] * sides[2]["f"] * sides[2]["b"]


# Bytes


def instruction_bytes(program: Program, visit: Visit) -> int:
    """Returns the bytes that an instruction reads from main memory and writes to it."""
    made, computation = visit.instruction, visit.computation
    if made.opcode in _FREE or made.opcode == "custom-call" and _FREE_CALLS.search(made.attributes):
        return 0
    if made.opcode in ("copy-start", "slice-start"):
        copied = made.arrays[0 if made.opcode == "copy-start" else 1]
        return _stored([_operand(computation, made, 0)], at_most=copied.stored_bytes)
    if made.opcode.endswith("-done"):
        return _stored(made.arrays)
    if made.opcode == "fusion":
        inner = program.computations[made.called("calls")[0]]
        reads, writes = _fusion_reads(inner, len(made.operands)), _fusion_writes(inner)
    else:
        reads = [_read(computation, made, place) for place in range(len(made.operands))]
        writes = [_written(computation, made)]
    total = 0
    for operand, most in zip(made.operands, reads, strict=True):
        total += _stored(computation.instructions[operand].arrays, at_most=most)
    if made.opcode.endswith("-start"):
        return total
    if len(writes) != len(made.arrays):
        return total + _stored(made.arrays)
    for array, most in zip(made.arrays, writes, strict=True):
        total += _stored([array], at_most=most)
    return total


def _fusion_reads(inner: Computation, operands: int) -> list[int | None]:
    """Returns for each operand of a fusion how many bytes are read, or None if all are."""
    users = collections.defaultdict(list)
    parameters = {}
    for made in inner.instructions.values():
        for place, name in enumerate(made.operands):
            users[name].append((made, place))
        if made.opcode == "parameter":
            parameters[int(made.literal)] = made.name

    def reads(name: str) -> Iterator[int | None]:
        if name == inner.root:
            yield None
        for made, place in users[name]:
            if made.opcode == "bitcast":
                yield from reads(made.name)
            else:
                yield _read(inner, made, place)

    found = [list(reads(parameters[place])) for place in range(operands)]
    return [None if None in read else sum(read) for read in found]


def _fusion_writes(inner: Computation) -> list[int | None]:
    """Returns for each result of a fusion how many bytes are written, or None if all are."""
    root = inner.instructions[inner.root]
    results = root.operands if root.opcode == "tuple" else [root.name]
    writes = []
    for name in results:
        made = inner.instructions[name]
        while made.opcode == "bitcast":
            made = inner.instructions[made.operands[0]]
        writes.append(_written(inner, made))
    return writes


def _read(computation: Computation, made: Instruction, place: int) -> int | None:
    """Returns the bytes that are read of an operand, or None if all are."""
    if place == 0 and made.opcode in _SLICES:
        return made.arrays[0].stored_bytes
    if place == 0 and made.opcode == "dynamic-update-slice":
        return 0
    if place == 0 and made.opcode == "scatter":
        return _written(computation, made)
    return None


def _written(computation: Computation, made: Instruction) -> int | None:
    """Returns the bytes that are written of a result in place, or None if all are."""
    updates = {"dynamic-update-slice": 1, "scatter": 2}.get(made.opcode)
    return None if updates is None else _operand(computation, made, updates).stored_bytes


def _operand(computation: Computation, made: Instruction, place: int) -> Array:
    return computation.instructions[made.operands[place]].arrays[0]


def _stored(arrays: Iterable[Array], at_most: int | None = None) -> int:
    size = sum(array.stored_bytes for array in arrays if array.memory == 0)
    return size if at_most is None else min(size, at_most)
