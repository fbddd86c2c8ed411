"""Draws the tables of `few_labels.py` and `iterative_affinity.py`, for `tables.py`."""

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
        ends = [[run[0] for run in found if run], [run[-1] for run in found if run]]
        right = dict.fromkeys(_median(end, "accuracy") for end in ends)
        mined, start = _median(ends[1], "mined_accuracy"), _median(ends[0], "map")
        end = _median([run[-1] for run in runs], "map")
        lines.append(f"| {labeled} | {variant} | {', '.join(right)} | {mined} | {start} | {end} |")
    seeds, items = {row["seed"] for row in content["rows"]}, content["rows"][-1]["items"]
    lines += [
        "",
        f"Medians of {len(seeds)} seeds, each with a split of its own, of {items['train']:,} training items; "
        f"{items['query']:,} queries, {items['database']:,} items in the database, {content['bits']} bits, "
        f"{content['epochs']} epochs, no quantizer unless named. {_made(content)}",
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
            values = (_median([run[number] for run in runs], key) for number in range(count))
            lines.append(f"| {title}, {what} | {' | '.join(values)} |")
    for variant, title in titles.items():
        published = (f"{each / 100:.3f}" for each in content["published"][variant])
        lines.append(f"| published, VOC12, {title} | - | {' | '.join(published)} |")
    seeds = {row["seed"] for row in content["rows"]}
    number = "One seed" if len(seeds) == 1 else f"Medians of {len(seeds)} seeds"
    lines += ["", f"{number}, {content['images']} images. {_made(content)}"]
    return "\n".join(lines)


def _median(rows: list[dict[str, Any]], key: str) -> str:
    """Returns the median of a figure of some rows, or a dash where they do not have it."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return f"{median(values):.3f}" if values else "-"


def _made(content: dict[str, Any]) -> str:
    hardware = content["hardware"]
    return (
        f"On {hardware['devices']} x {hardware['kind']}, jax {content['versions']['jax']}, by "
        f"`{content['command']}`."
    )
