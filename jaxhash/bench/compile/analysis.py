"""What a compiled program tells of itself, as the JSON of ``jaxhash compile`` holds it."""

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any

from jaxhash.bench.compile.collectives import Collective, find_collectives
from jaxhash.bench.compile.program import CompiledProgram
from jaxhash.bench.compile.roofline import count_work, roofline
from jaxhash.bench.compile.slow_operations import find_slow_operations


def analyze(program: CompiledProgram, items: int) -> dict[str, Any]:
    """Returns the costs of a program, its memory, collectives, slow operations and roofline.

    Args:
        program: the program.
        items: number of images that all of its devices take together in a run.

    Returns:
        Numbers, strings, lists and dicts. Costs are those of one device and one run; seconds of
        compilation are of this machine, and the `flops` and `bytes` of XLA's own count.
    """
    work = count_work(program)
    bounds = roofline(program, work)
    return {
        "name": program.name,
        "fits": program.memory.total <= program.target.chip.memory_bytes,
        "items": items,
        "lower_seconds": program.lower_seconds,
        "compile_seconds": program.compile_seconds,
        "flops": program.flops,
        "bytes": program.bytes,
        "memory": dataclasses.asdict(program.memory),
        "work": dataclasses.asdict(work),
        "roofline": {**dataclasses.asdict(bounds), "seconds": bounds.seconds},
        "collectives": group_collectives(find_collectives(program.text, program.target.devices)),
        "slow_operations": [one._asdict() for one in find_slow_operations(program.text)],
    }


def group_collectives(found: Iterable[Collective]) -> list[dict[str, Any]]:
    """Returns the collectives as dicts, equal ones once with their `count`, the most bytes first."""
    counts = collections.Counter(one._replace(name="") for one in found)
    rows = [{**one._asdict(), "count": count} for one, count in counts.items()]
    for row in rows:
        del row["name"]
    return sorted(rows, key=lambda row: -row["sent_bytes"] * row["times"] * row["count"])
