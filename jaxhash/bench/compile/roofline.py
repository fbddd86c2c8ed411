"""Bounds the time of a compiled program from below, by what its device computes, reads and sends.

`count_work` counts it, from the text of the program; `roofline` divides it by what the chip can do. No
program is run, and none is as fast as its bound: what the bound leaves out stands in its assumptions.
"""

import dataclasses
import math
from typing import Literal

from jaxhash.bench.compile.collectives import collectives_of
from jaxhash.bench.compile.execution import trip_count, walk
from jaxhash.bench.compile.hlo import parse
from jaxhash.bench.compile.operation_counts import count_operations
from jaxhash.bench.compile.program import CompiledProgram

#: Rounds that a loop counts for if they depend on data: the most that HSWD's search took on random codes.
ROUNDS = 11


@dataclasses.dataclass(frozen=True)
class Work:
    """What one device does in a run of a program.

    Attributes:
        flops: operations of matrix products and convolutions.
        float32_flops: part of these that multiply float32.
        bytes: bytes from and to main memory.
        sent_bytes: bytes sent to other devices, by the ring algorithm.
        exchanges: collectives, those in loops once a round, arrays that are sent together once.
        loops: origins of the loops whose rounds depend on data.
        rounds: rounds that each of these counts for.
        loop_bytes: part of `bytes` in these loops.
        kernels: calls of compiled kernels, whose operations are not counted, by what they call.
    """

    flops: int
    float32_flops: int
    bytes: int
    sent_bytes: float
    exchanges: int
    loops: tuple[str, ...]
    rounds: int
    loop_bytes: int
    kernels: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Bounds of the time of a run of a program, if nothing but one limit held it up.

    Attributes:
        compute_seconds: time to compute at the chip's peak.
        memory_seconds: time to read and write at the memory's bandwidth.
        link_seconds: time to send over all links of the chip.
        bottleneck: which of them is the longest.
        assumptions: what the bounds leave out or assume, a sentence each.
    """

    compute_seconds: float
    memory_seconds: float
    link_seconds: float
    bottleneck: Literal["compute", "memory", "links"]
    assumptions: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """The longest of the three: no run is shorter."""
        return max(self.compute_seconds, self.memory_seconds, self.link_seconds)


def count_work(program: CompiledProgram, *, rounds: int = ROUNDS) -> Work:
    """Counts what a device does in a run of a program, for TPU and GPU alike.

    Args:
        program: the program.
        rounds: rounds that a loop counts for if they depend on data. Where a loop has a known number
            of rounds, that counts.
    """
    parsed = parse(program.text)
    counts = count_operations(parsed, rounds)
    found = list(collectives_of(parsed, program.target.devices, rounds))
    launches = {one.name: one.times for one in found}
    loops = [
        visit.instruction.origin or visit.instruction.name
        for visit in walk(parsed)
        if visit.instruction.opcode == "while"
        and trip_count(parsed, visit.computation, visit.instruction) is None
    ]
    return Work(
        flops=sum(counts.flops.values()),
        float32_flops=counts.flops.get("f32", 0),
        bytes=counts.bytes,
        sent_bytes=math.fsum(one.sent_bytes * one.times for one in found),
        exchanges=sum(launches.values()),
        loops=tuple(loops),
        rounds=rounds,
        loop_bytes=counts.loop_bytes,
        kernels=counts.kernels,
    )


def roofline(program: CompiledProgram, work: Work | None = None) -> Roofline:
    """Bounds the time of a run of a program on the chip that it was compiled for.

    Args:
        program: the program.
        work: what `count_work` counted, if it was called before.
    """
    chip = program.target.chip
    work = work or count_work(program)
    seconds = {
        "compute": work.flops / chip.peak_flops,
        "memory": work.bytes / chip.bandwidth,
        "links": work.sent_bytes / chip.link_bandwidth,
    }
    return Roofline(
        compute_seconds=seconds["compute"],
        memory_seconds=seconds["memory"],
        link_seconds=seconds["links"],
        bottleneck=max(seconds, key=seconds.__getitem__),
        assumptions=tuple(_assumptions(work)),
    )


def _assumptions(work: Work) -> list[str]:
    """Returns what a bound leaves out or assumes, a sentence each."""
    said = [
        "Compute counts matrix products and convolutions only, at the peak for bfloat16.",
        "Memory counts what an operation reads and writes, once; what stays on the chip is free.",
    ]
    if work.float32_flops:
        share = work.float32_flops / work.flops
        said.append(
            f"{share:.0%} of the products multiply float32, which counts like bfloat16 although a "
            "GPU multiplies it at half that rate or less, and a TPU too at a higher precision."
        )
    if work.loops:
        share = work.loop_bytes / max(work.bytes, 1)
        said.append(
            f"The rounds of {len(work.loops)} loops depend on data; each counts {work.rounds} rounds, or "
            f"one in a branch that may not be taken ({share:.1%} of the bytes)."
        )
    if work.kernels:
        names = ", ".join(f"{count} x {name}" for name, count in work.kernels.items())
        said.append(f"Operations inside of kernels are not counted: {names}.")
    if work.exchanges:
        said.append(
            "Links count the bytes that a ring sends, over all links of a chip at once; nothing is "
            f"known of latency: a microsecond for each of {work.exchanges} exchanges, were they "
            f"one after the other, would be {work.exchanges / 1000:.2g} ms."
        )
    return said
