"""Draws a benchmark of losses beside their forms in PyTorch, for `tables.py`."""

from typing import Any

#: What the name of a form in PyTorch begins with.
PREFIX = "torch:"


def draw(content: dict[str, Any]) -> str:
    """Draws the time of each loss at each batch size, and how many times as long PyTorch takes."""
    points = content["points"]
    median = {(point["loss"], point["batch"]): point["median_seconds"] for point in points}
    batches = sorted({point["batch"] for point in points})
    titles = (f"batch {batch:,} | torch / jaxhash" for batch in batches)
    lines = [f"| loss | {' | '.join(titles)} |", "|---|" + "---:|" * (2 * len(batches))]
    for loss in dict.fromkeys(loss for loss, _ in median if not loss.startswith(PREFIX)):
        cells = []
        for batch in batches:
            ours, theirs = (median.get((name, batch)) for name in (loss, PREFIX + loss))
            cells.append("-" if ours is None else f"{1e6 * ours:,.0f} µs")
            cells.append("-" if ours is None or theirs is None else f"{theirs / ours:.2g} x")
        lines.append(f"| `{loss}` | {' | '.join(cells)} |")
    hardware, versions = content["hardware"], content["versions"]
    return "\n".join(
        [
            *lines,
            "",
            f"Medians, {points[0]['bits']} bits, {points[0]['dtype']}, forward + backward, on "
            f"{hardware['cpu_cores_used']} cores of {hardware['cpu']}, jax {versions['jax']}, "
            f"torch {versions['torch']}, by `{content['command'].split(' --output')[0]}`.",
        ]
    )
