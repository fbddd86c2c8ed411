"""Draws the tables of `scale.py` and `soak.py`, for `tables.py`."""

from typing import Any


def draw_scale(content: dict[str, Any]) -> str:
    """Draws CPU seconds and the peak of memory of each command at each number of items."""
    points = content["points"]
    sizes = sorted(map(int, points))
    titles = (f"{size:,} items" for size in sizes)
    lines = [
        f"| command | {' | '.join(titles)} | exponent | 100,000,000 items, extrapolated |",
        "|---|" + "---:|" * (len(sizes) + 2),
    ]
    for name, found in content["summary"].items():
        cells = [_cost(points[str(size)].get(name)) for size in sizes]
        (seconds,) = (value for key, value in found.items() if key.startswith("extrapolated"))
        lines.append(
            f"| {name} | {' | '.join(cells)} | {'-' if found['exponent'] is None else format(found['exponent'], '.2f')} | {seconds:,} s |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"CPU seconds, and the peak of resident memory, of one command each: {content['dimensions']} "
            f"features, {content['bits']} bits, {content['queries']:,} queries. {_made_by(content)}",
        ]
    )


def draw_soak(content: dict[str, Any]) -> str:
    """Returns sentences on memory, folder, restarts and checkpoints of a long training."""
    memory, starts = content["memory_bytes"], content["seconds from start to the first new record"]
    share, growth = content["checkpoints"], content["memory growth, bytes a million steps"]
    return (
        f"{content['steps']:,} steps, stopped by SIGTERM and started again {len(starts) - 1} times: resident memory "
        f"between {memory['least'] / 2**20:,.0f} and {memory['most'] / 2**20:,.0f} MiB, in the last process "
        f"{growth / 2**20:+,.1f} MiB a million steps; {content['records']:,} records of metrics.jsonl, and "
        f"{content['folder_bytes'] / 2**20:,.1f} MiB in the folder of the run. A start takes {max(starts):.1f} s at "
        f"most until a new step is recorded. A checkpoint every 200 steps of "
        f"{1e3 * share['without checkpoints']:.2f} ms takes {share['share']:.0%} of the time. {_made_by(content)}"
    )


def _cost(point: dict[str, Any] | None) -> str:
    if point is None:
        return "-"
    return f"{point['cpu_seconds']:,.1f} s, {point['peak_bytes'] / 2**30:.1f} GiB"


def _made_by(content: dict[str, Any]) -> str:
    hardware, versions = content["hardware"], content["versions"]
    return (
        f"On {hardware['cpu_cores_used']} cores of {hardware['cpu']}, jax {versions['jax']}, by "
        f"`{content['command']}`."
    )
