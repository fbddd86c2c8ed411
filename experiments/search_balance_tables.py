"""Draws the tables of `search_balance.py`, for `tables.py`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

Row = dict[str, Any]

QUANTIZERS = {"none": "none", "l2": "L2", "hswd": "HSWD", "-": "-"}

#: Recalls at which visits are compared.
LEVELS = (0.5, 0.8)


def draw(content: dict[str, Any], name: str | None) -> str:
    """Draws one of the tables by its name; what made them without one."""
    if name is None:
        return made_line(content)
    return TABLES[name](content["rows"])


def entries_at(row: Row, level: float, truth: str | None = None) -> float:
    """Returns the entries visited at a recall, between two radii in proportion to their logarithm.

    NaN if no searched radius reaches the recall; at radius 0 the entries there if it does already.
    """
    shares = row["recall"][truth or row["truth"]]
    reached = next((radius for radius, share in enumerate(shares) if share >= level), None)
    if reached is None:
        return math.nan
    if reached == 0:
        return row["entries"][0]
    low, high = shares[reached - 1], shares[reached]
    logs = np.log(np.maximum(row["entries"][reached - 1 : reached + 1], 1e-3))
    return float(np.exp(np.interp(level, [low, high], logs)))


def buckets_of(row: Row) -> float:
    """Returns the number of equally full buckets of a substring that would cost as much."""
    return float(stats.hmean(row["effective_buckets"]))


def codes_table(rows: Sequence[Row]) -> str:
    """Draws what codes are like and find: mean and deviation over seeds."""
    columns: dict[str, Callable[[Row], str | float]] = {
        "mAP by labels": lambda row: row["map"],
        "bit imbalance": lambda row: row["imbalance"],
        "bit correlation": lambda row: row["correlation"],
        "recall@10, exact scan": lambda row: row["scan"][row["truth"]],
    }
    lines = _head(["bits", "codes", "quantizer", *columns, "of the features", "dead bits"])
    for key, group in _cells(rows):
        found = [
            _spread([column(row) for row in group]) if "map" in group[0] else "-"
            for column in columns.values()
        ]
        found[-1] = _spread([row["scan"][row["truth"]] for row in group])
        others = [
            _spread([row["scan"]["features"] for row in group]),
            f"{np.mean([row['dead_bits'] for row in group]):.1f}" if "map" in group[0] else "-",
        ]
        lines.append(_line([*key, *found, *others]))
    return "\n".join(lines)


def visits_table(rows: Sequence[Row]) -> str:
    """Draws buckets and visits, geometric means over seeds."""
    lines = _head(
        [
            *("bits", "codes", "quantizer", "effective buckets of 65,536", "entries, own buckets"),
            *(f"entries at recall {level}" for level in LEVELS),
            *("entries, 10 nearest codes", "no code within radius 2"),
        ]
    )
    for key, group in _cells(rows):
        if "map" not in group[0]:
            continue
        substrings = len(group[0]["effective_buckets"])
        costs = [
            [buckets_of(row) for row in group],
            [row["entries"][substrings - 1] for row in group],
            *([entries_at(row, level) for row in group] for level in LEVELS),
            [row["nearest_codes"]["entries"] for row in group],
        ]
        empty = np.mean([row["empty"][2] for row in group])
        lines.append(_line([*key, *map(_geometric, costs), f"{empty:.3f}"]))
    return "\n".join(lines)


def pairs_table(rows: Sequence[Row]) -> str:
    """Draws ratios of HSWD to the others of the same seed, with 95 % intervals of Student's t."""
    measures: dict[str, Callable[[Row], float]] = {
        "effective buckets": buckets_of,
        **{
            f"entries at recall {level}": lambda row, level=level: entries_at(row, level)
            for level in LEVELS
        },
        "entries, 10 nearest codes": lambda row: row["nearest_codes"]["entries"],
    }
    lines = _head(["bits", "codes", "HSWD to", *measures, "recall@10, exact scan"])
    cells = {key: {row["seed"]: row for row in group} for key, group in _cells(rows)}
    for (length, method, quantizer), group in cells.items():
        if quantizer != "HSWD":
            continue
        for other in ("none", "L2"):
            others = cells[length, method, other]
            pairs = [(group[seed], others[seed]) for seed in sorted(group.keys() & others.keys())]
            ratios = [
                _interval(
                    [math.log(measure(ours) / measure(its)) for ours, its in pairs], is_log=True
                )
                for measure in measures.values()
            ]
            scans = [ours["scan"][ours["truth"]] - its["scan"][its["truth"]] for ours, its in pairs]
            lines.append(_line([length, method, other, *ratios, _interval(scans)]))
    return "\n".join(lines)


def mechanism_table(rows: Sequence[Row]) -> str:
    """Draws rank correlations over all codes of what is visited with what the bits are like."""
    factors: dict[str, Callable[[Row], float]] = {
        "bit imbalance": lambda row: row["imbalance"],
        "bit correlation": lambda row: row["correlation"],
        "effective buckets": buckets_of,
    }
    lines = _head(["bits", "codes", "visits", *factors, "number of codes"])
    lengths = sorted({row["bits"] for row in rows})
    for length in lengths:
        of_length = [row for row in rows if row["bits"] == length and "map" in row]
        groups = {
            "all": of_length,
            "supervised": [row for row in of_length if row["truth"] == "outputs"],
            "unsupervised": [row for row in of_length if row["truth"] == "features"],
        }
        for name, group in groups.items():
            substrings = length // 16
            visits = {
                "own buckets": [row["entries"][substrings - 1] for row in group],
                **{
                    f"at recall {level}": [entries_at(row, level) for row in group]
                    for level in LEVELS
                },
            }
            for what, values in visits.items():
                found = [
                    stats.spearmanr(values, [factor(row) for row in group], nan_policy="omit")[0]
                    for factor in factors.values()
                ]
                number = int(np.isfinite(values).sum())
                lines.append(
                    _line(
                        [str(length), name, what, *(f"{each:+.2f}" for each in found), str(number)]
                    )
                )
    return "\n".join(lines)


def seconds_table(rows: Sequence[Row]) -> str:
    """Draws microseconds a query and recall of faiss, of the first seed."""
    flips = [each["flips"] for each in next(row["faiss"] for row in rows if row.get("faiss"))]
    names = ["exact scan", *(f"tables, {each} bits flipped" for each in flips[1:])]
    lines = _head(["bits", "codes", "quantizer", *names])
    for key, group in _cells(rows):
        for row in group:
            if row.get("faiss"):
                found = [f"{1e6 * e['seconds']:,.0f} µs, {e['recall']:.3f}" for e in row["faiss"]]
                lines.append(_line([*key, *found]))
    return "\n".join(lines)


def made_line(content: dict[str, Any]) -> str:
    """Returns a sentence with what made the tables."""
    seeds = {row["seed"] for row in content["rows"]}
    items, hardware = content["items"], content["hardware"]
    return (
        f"{len(seeds)} seeds; {items['query']:,} queries, {items['database']:,} items in the database. On "
        f"{hardware['cpu_cores_used']} cores of {hardware['cpu']}, shared with other work, jax "
        f"{content['versions']['jax']}, faiss {content['versions']['faiss-cpu']}, by `{content['command']}`."
    )


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "codes": codes_table,
    "visits": visits_table,
    "pairs": pairs_table,
    "mechanism": mechanism_table,
    "seconds": seconds_table,
}


def _cells(rows: Sequence[Row]) -> list[tuple[tuple[str, str, str], list[Row]]]:
    """Returns the rows of each set of codes, over its seeds, by bits, name and quantizer."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["bits"]):
        key = str(row["bits"]), f"`{row['method']}`", QUANTIZERS[row["quantizer"]]
        groups.setdefault(key, []).append(row)
    return list(groups.items())


def _head(columns: Sequence[str]) -> list[str]:
    return [_line(columns), "|---:|---|---|" + "---:|" * (len(columns) - 3)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def _geometric(values: Sequence[float]) -> str:
    """Returns the geometric mean, or a dash if one of the values is not there."""
    mean = float(np.exp(np.mean(np.log(values))))
    return "-" if math.isnan(mean) else f"{mean:,.0f}" if mean >= 10 else f"{mean:.1f}"


def _interval(values: Sequence[float], *, is_log: bool = False) -> str:
    """Returns mean and 95 % interval of differences over seeds; of logarithms, as ratios."""
    if any(map(math.isnan, values)):
        return "-"
    mean, half = np.mean(values), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    ends = mean, mean - half, mean + half
    if is_log:
        return "{:.2f} ({:.2f} to {:.2f})".format(*np.exp(ends))
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(*ends)
