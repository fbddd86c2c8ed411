"""Draws the tables of `few_labels.py` and `iterative_affinity.py`, for `tables.py`."""

from collections.abc import Iterable
from statistics import median
from typing import Any


def draw(content: dict[str, Any]) -> str:
    """Draws pseudo-labels and mAP of few labels by variant, medians over seeds."""
    lines = [
        "| known labels | variant | pseudo-labels right, first and last | of the confident ones, last | "
        "mAP after the first propagation | mAP at the end |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    groups: dict[tuple[int, str], list[list[dict[str, Any]]]] = {}
    for row in content["rows"]:
        groups.setdefault((row["labeled"], row["variant"]), []).append(row["epochs"])
    for (labeled, variant), runs in sorted(groups.items(), key=lambda item: item[0][0]):
        found = [[epoch for epoch in run if "accuracy" in epoch] for run in runs]
        known = all(found)
        first, last = (
            _median(run[end]["accuracy"] for run in found) if known else "" for end in (0, -1)
        )
        mined = _median(run[-1]["mined_accuracy"] for run in found) if known else "-"
        start = _median(run[0]["map"] for run in found) if known else "-"
        end = _median(run[-1]["map"] for run in runs)
        right = f"{first}, {last}" if known else "-"
        lines.append(f"| {labeled} | {variant} | {right} | {mined} | {start} | {end} |")
    seeds, items = {row["seed"] for row in content["rows"]}, content["rows"][-1]["items"]
    lines += [
        "",
        f"Medians of {len(seeds)} seeds, each with a split of its own, of {items['train']:,} training items; "
        f"{items['query']:,} queries, {items['database']:,} items in the database, {content['bits']} bits, "
        f"{content['epochs']} epochs, no quantizer. {_made(content)}",
    ]
    return "\n".join(lines)


def draw_pixels(content: dict[str, Any]) -> str:
    """Draws the mean IoU of each iteration with and without mined regions, beside the published ones."""
    count = len(content["rows"][0]["iterations"])
    lines = [
        "| iteration | " + " | ".join(str(number) for number in range(count)) + " |",
        "|---|" + "---:|" * count,
    ]
    titles = {"mined": "mined regions", "all": "all pixels"}
    for variant, title in titles.items():
        runs = [row["iterations"] for row in content["rows"] if row["variant"] == variant]
        for key, what in (("miou", "mIoU"), ("taught_accuracy", "right among what teaches G")):
            values = (_median(run[number][key] for run in runs) for number in range(count))
            lines.append(f"| {title}, {what} | {' | '.join(values)} |")
    for variant, title in titles.items():
        published = (f"{each / 100:.3f}" for each in content["published"][variant])
        lines.append(f"| published, VOC12, {title} | - | {' | '.join(published)} |")
    seeds = {row["seed"] for row in content["rows"]}
    number = "One seed" if len(seeds) == 1 else f"Medians of {len(seeds)} seeds"
    lines += ["", f"{number}, {content['images']} images. {_made(content)}"]
    return "\n".join(lines)


def _median(values: Iterable[float]) -> str:
    return f"{median(values):.3f}"


def _made(content: dict[str, Any]) -> str:
    hardware = content["hardware"]
    return (
        f"On {hardware['devices']} x {hardware['kind']}, jax {content['versions']['jax']}, by "
        f"`{content['command']}`."
    )
