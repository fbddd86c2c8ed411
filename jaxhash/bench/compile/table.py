"""Prints what ``jaxhash compile`` found, from the JSON that it writes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from jaxhash.bench.report import format_bytes, format_seconds
from jaxhash.utils.console import print_line, print_table

#: Collectives that are printed, the most bytes first; the JSON has all.
MOST_COLLECTIVES = 12


def print_report(content: Mapping[str, Any], console: Console) -> None:
    """Prints the programs of a target, and what makes them fit if they do not.

    Args:
        content: content of a file that ``jaxhash compile --output`` wrote.
        console: where to print.
    """
    target = content["target"]
    for program in content["programs"]:
        _print_program(program, target, console)
    for remedy in content.get("remedies", ()):
        print_line(console, describe_remedy(remedy))


def describe_remedy(remedy: Mapping[str, Any]) -> str:
    """Returns a line about options that were tried: what they need, or why they do not apply.

    Example:
        >>> tried = {"options": {"remat": True}, "needed": 2**33, "available": 2**34, "reason": ""}
        >>> describe_remedy(tried)
        '`remat`: fits, needs 8 GiB of 16 GiB'
    """
    options = " ".join(
        f"`{name}`" if value is True else f"`{name}={value}`"
        for name, value in remedy["options"].items()
    )
    if remedy["needed"] is None:
        return f"{options}: does not apply: {remedy['reason']}"
    fits = "fits" if remedy["needed"] <= remedy["available"] else "does not fit"
    needed, available = format_bytes(remedy["needed"]), format_bytes(remedy["available"])
    return f"{options}: {fits}, needs {needed} of {available}"


def _print_program(program: Mapping[str, Any], target: Mapping[str, Any], console: Console) -> None:
    available = format_bytes(target["chip"]["memory_bytes"])
    devices = f"{target['devices']} x {target['chip']['name']}"
    if "memory" not in program:
        needed = format_bytes(program["needed_bytes"])
        print_line(console, f"{program['name']} on {target['name']}: does not fit a chip")
        print_line(console, f"the compiler asks for {needed} of {available}: {program['message']}")
        return
    seconds = format_seconds(program["compile_seconds"])
    print_line(console, f"{program['name']} on {target['name']} ({devices}), compiled in {seconds}")
    print_table(console, _costs(program, target))
    print_table(console, _memory(program["memory"]))
    verdict = "fits" if program["fits"] else "does not fit"
    needed = format_bytes(program["memory"]["total"])
    print_line(console, f"memory: {verdict}, {needed} of {available} a chip")
    _print_bound(program, console)
    if program["collectives"]:
        collectives = _merge_layers(program["collectives"], "sent_bytes")
        print_table(console, _collectives(collectives[:MOST_COLLECTIVES]))
        left = len(collectives) - MOST_COLLECTIVES
        if left > 0:
            print_line(console, f"and {left} smaller ones")
    if program["slow_operations"]:
        print_table(console, _slow_operations(_merge_layers(program["slow_operations"])))
    for sentence in program["roofline"]["assumptions"]:
        print_line(console, f"- {sentence}")


def _costs(program: Mapping[str, Any], target: Mapping[str, Any]) -> Table:
    chip, work, bounds = target["chip"], program["work"], program["roofline"]
    table = _table("of a chip", "this program", "at its best", "so at least")
    sides = (
        ("compute", _flops(float(work["flops"])), f"{_flops(chip['peak_flops'])}/s"),
        ("memory", format_bytes(work["bytes"]), f"{_size(chip['bandwidth'])}/s"),
        ("link", _size(work["sent_bytes"]), f"{_size(chip['link_bandwidth'])}/s"),
    )
    for name, amount, rate in sides:
        table.add_row(name, amount, rate, format_seconds(bounds[f"{name}_seconds"]))
    return table


def _flops(count: float) -> str:
    """Formats operations in a fitting unit, with three digits.

    Example:
        >>> _flops(2.82e6), _flops(1.97e14)
        ('2.82 Mflop', '197 Tflop')
    """
    for factor, unit in ((1e12, "Tflop"), (1e9, "Gflop"), (1e6, "Mflop")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1e3:.3g} kflop"


def _size(count: float) -> str:
    """Formats bytes, whole or not, as `format_bytes` does."""
    return format_bytes(round(count))


def _print_bound(program: Mapping[str, Any], console: Console) -> None:
    bounds = program["roofline"]
    line = f"bottleneck: {bounds['bottleneck']}, at least {format_seconds(bounds['seconds'])} a run"
    if bounds["seconds"]:
        line += f": at most {program['items'] / bounds['seconds']:,.0f} examples/s"
    print_line(console, line)


def _memory(memory: Mapping[str, int]) -> Table:
    names = ("arguments", "outputs", "temporaries", "code", "aliased", "total")
    table = _table("memory of a chip", *names[1:])
    table.columns[0].header = names[0]
    table.add_row(*(format_bytes(memory[name]) for name in names))
    return table


def _collectives(collectives: Iterable[Mapping[str, Any]]) -> Table:
    table = _table(
        "collective", "array", "bytes", "devices", "sent", "runs", "from", left=("from",)
    )
    for row in collectives:
        shape = ",".join(map(str, row["shape"]))
        table.add_row(
            row["kind"],
            f"{row['dtype']}[{shape}]",
            format_bytes(row["bytes"]),
            str(row["group_size"]),
            _size(row["sent_bytes"]),
            _runs(row),
            row["origin"],
        )
    return table


def _slow_operations(operations: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("slow operation", "array", "runs", "from", left=("from",))
    for row in operations:
        shape = ",".join(map(str, row["shape"]))
        rounds = "" if row["rounds"] == 1 else f" of {row['rounds'] or 'unknown'} rounds"
        table.add_row(
            row["kind"] + rounds,
            f"{row['dtype']}[{shape}]",
            _runs(row),
            row["origin"],
        )
    return table


def _merge_layers(rows: Iterable[Mapping[str, Any]], largest: str = "") -> list[dict[str, Any]]:
    """Makes one row of those that differ only in the number of a layer, which becomes a star.

    Args:
        rows: collectives or slow operations.
        largest: field whose product with the runs sorts the rows; if empty they keep their order.

    Returns:
        Rows whose `times` are added up, with the short form of their `origin`.
    """
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        row = {
            **row,
            "name": "",
            "origin": shorten_origin(row["origin"]),
            "loop": bool(row["loop"]),
        }
        row["times"] *= row.pop("count", 1)
        starred = re.sub(r"stage\d+_\d+", "stage*", row["origin"])
        key = tuple(f"{row[name]}" for name in row if name not in ("origin", "times")) + (starred,)
        if key not in merged:
            merged[key] = row
            continue
        merged[key]["times"] += row["times"]
        if merged[key]["origin"] != row["origin"]:
            merged[key]["origin"] = starred
    found = list(merged.values())
    return sorted(found, key=lambda row: -row[largest] * row["times"]) if largest else found


def shorten_origin(origin: str) -> str:
    """Returns the last parts of the name of a JAX operation, without those of its transformations.

    Example:
        >>> shorten_origin("jit(_fun)/shard_map/transpose(jvp(Encoder))/backbone/stage0_0/norm/psum")
        'stage0_0/norm/psum'
        >>> shorten_origin("jit(_fun)/shard_map/jvp()/while/body/psum")
        'while/body/psum'
    """
    first = origin.replace("/(", "/").split(":")[0]  # of several that the compiler made one
    parts = [part for part in first.split("/") if "(" not in part and "._" not in part]
    return "/".join(part for part in parts[-3:] if part != "shard_map")


def _runs(row: Mapping[str, Any]) -> str:
    """Returns how often something runs."""
    times = row["times"]
    if row["loop"]:
        return f"{times} a round"
    return f"{times}, if at all" if row["is_branch"] else f"{times}"


def _table(first: str, *names: str, left: tuple[str, ...] = ()) -> Table:
    table = Table(box=None)
    table.add_column(first)
    for name in names:
        table.add_column(name, justify="left" if name in left else "right")
    return table
