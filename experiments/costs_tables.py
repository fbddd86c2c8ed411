"""Makes the tables of docs/results/costs.md from the programs that `costs.py` compiled."""

from collections.abc import Callable
from typing import Any

from jaxhash.bench.compile.targets import parse_target
from jaxhash.bench.report import format_seconds

Row = dict[str, Any]
Table = dict[str, list]

#: Images a second that a vCPU decodes and crops, and vCPUs of a host of each chip.
DECODE_RATE = 400
VCPUS = {"v5e": 112, "h200": 208}


def make_tables(content: dict[str, Any]) -> dict[str, Table]:
    """Returns the tables, as `tables.py` draws them: names of columns, and rows of cells."""
    programs = content["programs"]
    trainings = [row for row in programs if row["kind"] == "training"]
    images = [row for row in trainings if row["settings"]["model"] != "linear"]
    banks = [row for row in trainings if row["settings"]["model"] == "linear"]
    losses = [row for row in programs if row["kind"] == "loss"]
    tables = {
        "targets": _table(_targets, sorted({row["target"] for row in programs})),
        "steps": _table(_steps, images),
        "bounds": _table(_bounds, [row for row in images if row["fits"]]),
        "exchanges": _table(_exchanges, [row for row in images if row["fits"]]),
        "input": _table(_input, [row for row in images if row["fits"]]),
        "losses": _table(_losses, losses),
        "banks": _table(_banks, banks),
        "rounds": _table(_rounds, content["searches"]),
    }
    missing = {"columns": ["training", "target"], "rows": [["not compiled yet", "-"]]}
    return {name: table if table["rows"] else missing for name, table in tables.items()}


def _table(make: Callable[..., dict[str, str]], rows: list) -> Table:
    """Returns a table of what a function makes of each row: cells by the names of their columns."""
    made = [make(row) for row in rows]
    return {"columns": list(made[0]) if made else [], "rows": [list(row.values()) for row in made]}


def _targets(name: str) -> dict[str, str]:
    target = parse_target(name)
    chip = target.chip
    return {
        "target": name,
        "chips": f"{target.devices}",
        "hosts": f"{target.hosts}",
        "bf16 Tflop/s": f"{chip.peak_flops / 1e12:,.0f}",
        "memory": _size(chip.memory_bytes),
        "memory GB/s": f"{chip.bandwidth / 1e9:,.0f}",
        "links GB/s, one way": f"{chip.link_bandwidth / 1e9:,.0f}",
    }


def _training(row: Row) -> dict[str, str]:
    settings = row["settings"]
    remat = ", remat" if settings.get("remat") else ""
    name = f"{settings['data']}, {settings['model']}, batch {settings['batch_size']:,}{remat}"
    return {"training": name, "target": row["target"]}


def _steps(row: Row) -> dict[str, str]:
    work = row.get("work")
    needed = _size(row["needed"])
    return {
        **_training(row),
        "Tflop": f"{work['flops'] / 1e12:.3g}" if work else "-",
        "memory traffic": _size(work["bytes"]) if work else "-",
        "sent": _size(work["sent_bytes"]) if work else "-",
        "memory": f"{needed if row['fits'] else f'**{needed}**'} of {_size(row['available'])}",
    }


def _bounds(row: Row) -> dict[str, str]:
    bounds = row["roofline"]
    hours = row["steps"] * bounds["seconds"] / 3600
    return {
        **_training(row),
        "compute": format_seconds(bounds["compute_seconds"]),
        "memory": format_seconds(bounds["memory_seconds"]),
        "links": format_seconds(bounds["link_seconds"]),
        "bottleneck": bounds["bottleneck"],
        "images/s, at most": f"{row['items'] / bounds['seconds']:,.0f}",
        "steps": f"{row['steps']:,}",
        "hours, at least": f"{hours:.2f}",
        "chip-hours, at least": f"{hours * row['devices']:.1f}",
    }


def _exchanges(row: Row) -> dict[str, str]:
    def kind(name: str) -> str:
        found = row["collectives"].get(name)
        return f"{found['count']}, {_size(found['sent_bytes'])}" if found else "-"

    return {
        **_training(row),
        **{name: kind(name) for name in ("all-reduce", "all-gather", "reduce-scatter")},
        "exchanges": f"{row['work']['exchanges']:,}",
        "slow operations": ", ".join(row["slow_operations"]) or "none",
    }


def _input(row: Row) -> dict[str, str]:
    rate = row["items"] / row["roofline"]["seconds"]
    host = rate / row["hosts"]
    return {
        **_training(row),
        "images/s, at most": f"{rate:,.0f}",
        "a host": f"{host:,.0f}",
        "vCPUs to decode": f"{host / DECODE_RATE:,.0f}",
        "of": f"{VCPUS[row['chip']]}",
    }


def _losses(row: Row) -> dict[str, str]:
    work, settings = row["work"], row["settings"]
    return {
        "batch": f"{settings['batch_size']:,}",
        "method": settings["method"],
        "target": row["target"],
        "memory traffic": _size(work["bytes"]),
        "temporaries": _size(row["memory"]["temporaries"]),
        "sent": _size(work["sent_bytes"]),
        "exchanges": f"{work['exchanges']}",
        "slow operations": ", ".join(row["slow_operations"]) or "none",
    }


def _banks(row: Row) -> dict[str, str]:
    settings = row["settings"]
    needed = _size(row["needed"])
    return {
        "data": f"{settings['data']}, batch {settings['batch_size']:,}",
        "bank": "whole" if settings["spread_banks"] == "never" else "spread",
        "target": row["target"],
        "memory": f"{needed if row['fits'] else f'**{needed}**'} of {_size(row['available'])}",
        "fits": "yes" if row["fits"] else "no",
        "memory traffic": _size(row["work"]["bytes"]) if "work" in row else "-",
        "a step, at least": format_seconds(row["roofline"]["seconds"]) if "work" in row else "-",
    }


def _rounds(row: Row) -> dict[str, str]:
    sizes = {name: f"{row[name]:,}" for name in ("batch", "bits", "devices")}
    return sizes | {name: f"{most}" for name, most in row["most"].items()}


def _size(size: float) -> str:
    for unit, word in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {word}"
    return f"{size:.0f} B"
