"""Draws the tables of `costs.py`, for `tables.py`."""

from typing import Any

Content = dict[str, Any]


def draw(content: Content, name: str) -> str:
    """Draws a table by its name."""
    return TABLES[name](content)


def _machines(content: Content) -> str:
    lines = _head(
        "machine",
        "chips",
        "hosts",
        "bf16 TFLOP/s",
        "memory",
        "memory GB/s",
        "link GB/s, one way",
        "reached",
        "latency",
        "vCPUs of a host",
    )
    for of in content["machines"]:
        lines.append(
            f"| {of['name']} | {of['chips']} | {of['hosts']} | {of['flops'] / 1e12:.0f} | "
            f"{_size(of['memory'])} | {of['memory_rate'] / 1e9:,.0f} | {of['link_rate'] / 1e9:.0f} | "
            f"{of['achieved']:.0%} | {_time(of['latency'])} | {of['vcpus']} |"
        )
    return "\n".join(lines)


def _models(content: Content) -> str:
    lines = _head(
        "backbone, 64 bits",
        "parameters",
        "multiply-adds",
        "of training",
        "with `--remat`",
        "batch norms",
        "their channels",
    )
    for name, of in content["models"].items():
        macs = (of["macs"], of["training_macs"]["plain"], of["training_macs"]["remat"])
        cells = [f"{of['parameters']:,}", *(f"{count / 1e9:.2f} G" for count in macs)]
        lines.append(f"| {name} | {' | '.join(cells)} | {of['layers']} | {of['channels']:,} |")
    return "\n".join(lines)


def _counts(content: Content) -> str:
    lines = _head(
        "what",
        "batch",
        "bits",
        *(f"{kind}: formula" for kind in ("all-reduce", "all-gather", "reduce-scatter")),
        "counted",
        "a device sends",
        "rounds",
        "collectives counted",
    )
    for row in content["counts"]:
        cells = [f"{row['batch']:,}", str(row["bits"])]
        cells += [f"{size:,}" for size in row["formula"].values()]
        cells += ["the same" if row["counted"] == row["formula"] else f"{row['counted']}"]
        cells += [f"{row['sent']:,.0f}", str(row["rounds"]), str(row["collectives"])]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    hardware, versions = content["hardware"], content["versions"]
    return "\n".join(
        [
            *lines,
            "",
            f"Bytes, of programs for {content['counts'][0]['devices']} devices; jax "
            f"{versions['jax']} on {hardware['cpu_cores_used']} cores of {hardware['cpu']}, by "
            f"`{content['command']}`.",
        ]
    )


def _rounds(content: Content) -> str:
    kinds = list(content["searches"][0]["most"])
    lines = _head("batch", "bits", "devices", *kinds)
    for row in content["searches"]:
        cells = [f"{row['batch']:,}", row["bits"], row["devices"], *row["most"].values()]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    seeds = content["searches"][0]["seeds"]
    return "\n".join([*lines, "", f"The most of {seeds} seeds, search among equals included."])


def _crossings(content: Content) -> str:
    lines = _head("machine", "bits", "by bytes", "by communication", "by communication and sort")
    for row in content["crossings"]:
        cells = [f"{row[key]:,}" for key in ("bytes", "communication", "time")]
        lines.append(f"| {row['machine']} | {row['bits']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _sent(content: Content) -> str:
    kinds = list(content["trainings"][0]["sent_bytes"])
    lines = _head("training", "machine", *kinds)
    for row in content["trainings"]:
        cells = (_size(row["sent_bytes"][kind]) for kind in kinds)
        lines.append(f"| {_name(row)} | {row['machine']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _seconds(content: Content) -> str:
    kinds = list(content["trainings"][0]["seconds"])
    lines = _head("training", "machine", *kinds, "longest")
    for row in content["trainings"]:
        cells = [_time(row["seconds"][kind]) for kind in kinds]
        lines.append(
            f"| {_name(row)} | {row['machine']} | {' | '.join(cells)} | {row['bottleneck']} |"
        )
    return "\n".join(lines)


def _totals(content: Content) -> str:
    lines = _head(
        "training",
        "machine",
        "images, epochs",
        "share of peak",
        "steps",
        "a step",
        "hours",
        "chip-hours",
    )
    for row in content["trainings"]:
        step = max(row["device_seconds"], row["input_seconds"])
        lines.append(
            f"| {_name(row)} | {row['machine']} | {row['images']:,} x {row['epochs']} | "
            f"{row['share']:.0%}{', remat' if row['remat'] else ''} | {row['steps']:,} | "
            f"{_time(step)} | {row['hours']:.2f} | {row['chip_hours']:,.1f} |"
        )
    return "\n".join(lines)


def _input(content: Content) -> str:
    lines = _head(
        "training",
        "machine",
        "images/s",
        "a host",
        "vCPUs to decode",
        "of",
        "read a host",
        "copied a host",
        "hours of input today",
    )
    for row in content["trainings"]:
        lines.append(
            f"| {_name(row)} | {row['machine']} | {row['images_per_second']:,.0f} | "
            f"{row['images_per_second_per_host']:,.0f} | {row['vcpus_needed_per_host']:.0f} | "
            f"{row['vcpus_per_host']} | {_size(row['read_bytes_per_second_per_host'])}/s | "
            f"{_size(row['copied_bytes_per_second_per_host'])}/s | "
            f"{row['hours_of_todays_input']:.1f} |"
        )
    of = content["input"]
    return "\n".join(
        [
            *lines,
            "",
            f"{of['decode_rate']:.0f} images/s a vCPU, JPEG files of {_size(of['jpeg_bytes'])}, crops "
            f"of {_size(of['image_bytes'])}; today {of['threads']} threads a process.",
        ]
    )


def _banks(content: Content) -> str:
    lines = _head(
        "items, bits, batch",
        "machine",
        "bank, whole",
        "bank, spread",
        "matrix of pairs",
        "memory",
        "seconds of pairs",
        "communication, whole",
        "communication, spread",
    )
    for row in content["banks"]:
        sizes = (row[key] for key in ("replicated_bytes", "spread_bytes", "pair_bytes"))
        cells = [
            f"**{_size(size)}**" if size > row["memory_bytes"] else _size(size) for size in sizes
        ]
        cells += [_size(row["memory_bytes"]), _time(row["pair_seconds"])]
        cells += [_time(row["communication_seconds"][kind]) for kind in ("replicated", "spread")]
        lines.append(
            f"| {row['items']:,}, {row['bits']}, {row['batch']:,} | {row['machine']} | "
            f"{' | '.join(cells)} |"
        )
    return "\n".join(lines)


TABLES = {
    "machines": _machines,
    "models": _models,
    "counts": _counts,
    "rounds": _rounds,
    "crossings": _crossings,
    "sent": _sent,
    "seconds": _seconds,
    "totals": _totals,
    "input": _input,
    "banks": _banks,
}


def _head(first: str, *others: str) -> list[str]:
    return [f"| {' | '.join((first, *others))} |", "|---|" + "---:|" * len(others)]


def _name(row: dict[str, Any]) -> str:
    return f"{row['training']}, {row['backbone']}, batch {row['batch']:,}, {row['bits']} bits"


def _size(size: float) -> str:
    for unit, word in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return (
                f"{size / unit:.3g} {word}" if size < 1e3 * unit else f"{size / unit:,.0f} {word}"
            )
    return f"{size:.0f} B"


def _time(seconds: float) -> str:
    if seconds == 0:
        return "-"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} µs"
