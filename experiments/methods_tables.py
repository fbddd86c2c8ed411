"""Draws the tables of `methods.py`, `hashnet_hswd.py` and `learning_rates.py`, and of the methods themselves."""

import itertools
import statistics

from jaxhash.metrics import mean_over_seeds
from jaxhash.report import METHOD_COLUMNS, method_rows

#: Columns of a comparison.
COLUMNS = {
    "map": "mAP",
    "precision_at_radius_2": "P@H≤2",
    "bit_balance": "bit balance",
    "quantization_error": "quantization error",
}


#: Columns of a table of cells of `methods.py`.
CELL_COLUMNS = {
    "map": "mAP",
    "precision_at_radius_2": "P@H≤2",
    "distinct_codes": "distinct codes",
    "bit_correlation": "bit correlation",
    "quantization_error": "quantization error",
}


def comparison_table(content: dict) -> str:
    """Draws the results of one comparison: mean and standard deviation over seeds."""
    runs = content["runs"]
    rows = {}
    for run in runs:
        name = f"{run['objective']}, rate {run['learning_rate']:.0e}"
        rows.setdefault(name, []).append(run)
    first, *_ = runs
    run_per_seed = list({run["seed"]: run for run in runs}.values())  # baselines have no objective
    for name in first["baselines"]:
        rows[name] = [run["baselines"][name] for run in run_per_seed]
    rows["input features, cosine"] = [first["float_rankings"]["input features"]]
    lines = [
        f"| {first['dataset']}, {first['bits']} bits | " + " | ".join(COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, scores in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(scores, key) for key in COLUMNS) + " |")
    seeds = len({run["seed"] for run in runs})
    items, hardware, versions = first["items"], first["hardware"], first["versions"]
    lines += [
        "",
        f"{seeds} seeds, mean ± standard deviation; {items['query']:,} queries, "
        f"{items['database']:,} items in the database, split `{first['split']}` "
        f"({first['split_sha256'][:12]}). On {hardware['devices']} x {hardware['kind']}, "
        f"jax {versions['jax']}, by `{content['command']}`.",
    ]
    return "\n".join(lines)


def draw(content: dict, name: str | None) -> str:
    """Draws a table of `methods.py` by its name; all cells without one."""
    if name is None:
        return cells_table(content)
    if name == "made":
        return made_line(content)
    if name == "quantizers":
        return quantizers_table(content)
    if name == "best":
        return best_table(content)
    return methods_table(content, int(name.removeprefix("bits")))


def cells_table(content: dict) -> str:
    """Draws cells of `methods.py`, one a row: mean and standard deviation over the seeds."""
    lines = [f"| bits | {' | '.join(['objective', *CELL_COLUMNS.values()])} |"]
    lines += ["|---:|---|" + "---:|" * len(CELL_COLUMNS)]
    for row in content["rows"]:
        members = [member["scores"] for member in row.get("members", [])]
        cells = (_cell(members, key) if members and all(members) else "-" for key in CELL_COLUMNS)
        lines.append(f"| {row['bits']} | {row['objective']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", made_line(content)])


#: Titles of the quantizers of `methods.py`.
VARIANTS = {"none": "no quantizer", "own": "its own", "l2": "L2", "hswd": "HSWD"}


def methods_table(content: dict, bits: int) -> str:
    """Draws mAP of every method with every quantizer at one length: mean and standard deviation."""
    lines = [
        f"| {bits} bits | {' | '.join(VARIANTS.values())} |",
        "|---|" + "---:|" * len(VARIANTS),
    ]
    for method, words in maps_at(content, bits).items():
        lines.append(f"| `{method}` | {' | '.join(words.get(each, '-') for each in VARIANTS)} |")
    return "\n".join(lines)


def maps_at(content: dict, bits: int) -> dict[str, dict[str, str]]:
    """Returns mAP at one length by method and quantizer, as mean and standard deviation."""
    found = {row["method"]: {} for row in content["rows"]}
    for (method, quantizer, length), members in _scores_of_cells(content).items():
        if length == bits:
            found[method][quantizer] = _cell(members, "map")
    return found


def best_table(content: dict, count: int = 5) -> str:
    """Draws the combinations of method and quantizer with the highest mAP at each length."""
    lines = ["| bits | method | quantizer | mAP | P@H≤2 |", "|---:|---|---|---:|---:|"]
    cells = _scores_of_cells(content)
    for bits in dict.fromkeys(row["bits"] for row in content["rows"]):
        of_bits = [(cell, members) for cell, members in cells.items() if cell[2] == bits]
        of_bits.sort(key=lambda pair: -_mean(pair[1], "map"))
        for (method, quantizer, _), members in of_bits[:count]:
            words = (_cell(members, key) for key in ("map", "precision_at_radius_2"))
            lines.append(f"| {bits} | `{method}` | {VARIANTS[quantizer]} | {' | '.join(words)} |")
    return "\n".join(lines)


def quantizers_table(content: dict) -> str:
    """Draws what each quantizer changes, averaged over methods, against the methods without one.

    The quantization error is left out: a few methods whose codes grow without bound would dominate
    its mean.
    """
    cells = _scores_of_cells(content)
    columns = {key: title for key, title in CELL_COLUMNS.items() if key != "quantization_error"}
    lines = [
        f"| bits | quantizer | methods | {' | '.join(columns.values())} | mAP higher | lower |",
        "|---:|---|" + "---:|" * (len(columns) + 3),
    ]
    lengths = dict.fromkeys(row["bits"] for row in content["rows"])
    for bits, (variant, words) in itertools.product(lengths, VARIANTS.items()):
        pairs = [
            (of_seeds, cells[method, "none", bits])
            for (method, name, length), of_seeds in cells.items()
            if (name, length) == (variant, bits) and (method, "none", bits) in cells
        ]
        if variant == "none" or not pairs:
            continue
        moved = (
            _signed(statistics.fmean(_mean(a, key) - _mean(b, key) for a, b in pairs), key)
            for key in columns
        )
        apart = [_clear_difference(*pair) for pair in pairs]
        counts = f"{apart.count(1)} | {apart.count(-1)}"
        lines.append(f"| {bits} | {words} | {len(pairs)} | {' | '.join(moved)} | {counts} |")
    return "\n".join(lines)


def rates_table(content: dict) -> str:
    """Draws validation mAP of each method at each rate, the chosen one in bold."""
    rates = list(next(iter(content["methods"].values()))["validation_map"])
    lines = [f"| method | {' | '.join(rates)} |", "|---|" + "---:|" * len(rates)]
    for method, found in content["methods"].items():
        words = []
        for rate in rates:
            mean = found["validation_map"].get(rate)
            cell = "diverged" if mean is None else f"{mean['mean']:.4f}"
            words.append(f"**{cell}**" if float(rate) == found["best"] else cell)
        lines.append(f"| `{method}` | {' | '.join(words)} |")
    return "\n".join(lines)


def made_line(content: dict) -> str:
    """Returns a sentence with seeds, data, split and command of the cells."""
    seeds, epochs = len(content["rows"][0]["members"]), content["rows"][0]["epochs"]
    return (
        f"{content['dataset']}, {seeds} seeds, {epochs} epochs; "
        f"{content['items']['query']:,} queries, {content['items']['database']:,} items in the "
        f"database, split `{content['split']}` ({content['split_sha256'][:12]}). jax "
        f"{content['versions']['jax']}, by `{content['command']}`."
    )


def objectives_table() -> str:
    """Draws the methods of the library, as `jaxhash train --objective help` prints them."""
    lines = [f"| {' | '.join(METHOD_COLUMNS)} |", "|---" * len(METHOD_COLUMNS) + "|"]
    lines += [f"| `{name}` | {' | '.join(rest)} |" for name, *rest in method_rows()]
    return "\n".join(lines)


def _cell(scores: list[dict], key: str) -> str:
    if key not in scores[0]:
        return "-"
    mean, deviation, _ = mean_over_seeds([float(score[key]) for score in scores])
    if key == "distinct_codes":
        return f"{mean:,.0f} ± {deviation or 0:,.0f}"
    return f"{mean:.4f}" + (f" ± {deviation:.4f}" if (deviation or 0) > 5e-5 else "")


def _scores_of_cells(content: dict) -> dict[tuple[str, str, int], list[dict]]:
    """Returns the scores of the members of each trained cell, by method, quantizer and bits."""
    scores = {
        (row["method"], row["quantizer"], row["bits"]): [
            member["scores"] for member in row.get("members", [])
        ]
        for row in content["rows"]
    }
    return {cell: members for cell, members in scores.items() if members and all(members)}


def _mean(members: list[dict], key: str) -> float:
    return statistics.fmean(member[key] for member in members)


def _signed(value: float, key: str) -> str:
    return f"{value:+,.0f}" if key == "distinct_codes" else f"{value:+.4f}"


def _clear_difference(members: list[dict], others: list[dict]) -> int:
    """Returns 1 or -1 if mAP is higher or lower by more than the sum of both deviations, else 0."""
    first, second = (
        mean_over_seeds([member["map"] for member in each]) for each in (members, others)
    )
    difference = first.mean - second.mean
    if abs(difference) <= first.deviation + second.deviation:
        return 0
    return 1 if difference > 0 else -1
