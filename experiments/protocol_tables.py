"""Draws the tables of `protocol.py`, for one set of data."""

from typing import Any

from jaxhash.metrics import mean_over_seeds
from jaxhash.retrieval.baselines.labeled_hashes import LABELED_METHODS

#: Titles of the quantizers.
VARIANTS = {"none": "none", "own": "its own", "l2": "L2", "hswd": "HSWD"}

#: Titles and formats of what is measured beside mAP.
MEASURES = {
    "quantization_loss": ("floats - codes", ".4f"),
    "precision_at_radius_2": ("P@H<=2", ".4f"),
    "visited_at_radius_2": ("items in H<=2", ",.0f"),
    "empty_at_radius_2": ("empty lookups", ".4f"),
    "distinct_codes": ("distinct codes", ",.0f"),
    "bit_balance": ("bit balance", ".4f"),
    "bit_correlation": ("bit correlation", ".4f"),
}

Content = dict[str, Any]


def draw(content: Content, name: str | None) -> str:
    """Draws the table of that name."""
    tables = {
        "map": _map,
        "comparisons": _comparisons,
        "measures": _measures,
        "settings": _settings,
        "made": _made,
        "fitted": _fitted,
    }
    return tables[name or "map"](content)


def _map(content: Content) -> str:
    lines = [
        f"| method | bits | {' | '.join(VARIANTS.values())} |",
        "|---|---:|" + "---:|" * len(VARIANTS),
    ]
    cells = {(c["method"], c["bits"], c["quantizer"]): c for c in content["cells"]}
    for method, bits in dict.fromkeys(key[:2] for key in sorted(cells, key=_order(content))):
        words = [number(cells.get((method, bits, variant)), "map", ".4f") for variant in VARIANTS]
        lines.append(f"| `{method}` | {bits} | {' | '.join(words)} |")
    return "\n".join(lines)


def _measures(content: Content) -> str:
    titles = [title for title, _ in MEASURES.values()]
    lines = [
        f"| method | bits | quantizer | {' | '.join(titles)} |",
        "|---|---:|---|" + "---:|" * len(titles),
    ]
    cells = {(c["method"], c["bits"], c["quantizer"]): c for c in content["cells"]}
    for key in sorted(cells, key=_order(content)):
        method, bits, variant = key
        words = [mean_of(cells[key], name, form) for name, (_, form) in MEASURES.items()]
        lines.append(f"| `{method}` | {bits} | {VARIANTS[variant]} | {' | '.join(words)} |")
    return "\n".join(lines)


def _comparisons(content: Content) -> str:
    lines = [
        "| method | bits | HSWD against | difference of mAP | 95 % interval | effect | p, seeds | p, queries | p, adjusted |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    found = content["comparisons"]
    for each in sorted(
        found, key=lambda c: _order(content)((c["method"], c["bits"], c["against"]))
    ):
        low, high = each["interval"]["low"], each["interval"]["high"]
        p_values = [_p_value(each[name]) for name in ("p_seeds", "p_queries", "p_adjusted")]
        lines.append(
            f"| `{each['method']}` | {each['bits']} | {VARIANTS[each['against']]} | "
            f"{each['difference']:+.4f} | {low:+.4f} to {high:+.4f} | {each['effect']:+.1f} | "
            f"{' | '.join(p_values)} |"
        )
    return "\n".join(lines)


def _settings(content: Content) -> str:
    lines = [
        "| method | quantizer | rate | weight | mAP of the validation items |",
        "|---|---|---:|---:|---:|",
    ]
    for found in content["search"]:
        chosen = found["chosen"] or {}
        scores = [trial["validation_map"] for trial in found["trials"]]
        best = max((score for score in scores if score is not None), default=None)
        rate, weight = (chosen.get(name) for name in ("learning_rate", "quantizer_weight"))
        words = ["-" if value is None else f"{value:g}" for value in (rate, weight)]
        lines.append(
            f"| `{found['method']}` | {VARIANTS[found['quantizer']]} | {' | '.join(words)} | "
            f"{'diverged' if best is None else f'{best:.4f}'} |"
        )
    return "\n".join(lines)


def _fitted(content: Content) -> str:
    lengths = sorted({row["bits"] for row in content["fitted"]})
    lines = [
        f"| fitted, without training | by labels | {' | '.join(f'{bits} bits' for bits in lengths)} |",
        "|---|---|" + "---:|" * len(lengths),
    ]
    rows = {(row["method"], row["bits"]): row for row in content["fitted"]}
    for name in dict.fromkeys(name for name, _ in rows):
        words = [number(rows.get((name, bits)), "map", ".4f") for bits in lengths]
        by_labels = "yes" if name in LABELED_METHODS else "no"
        lines.append(f"| `{name}` | {by_labels} | {' | '.join(words)} |")
    return "\n".join(lines)


def _made(content: Content) -> str:
    entries = content["search"] + content["cells"]
    hours = sum(entry.get("cpu_seconds", 0) for entry in entries) / 3600
    items, hardware = content["items"], content["hardware"]
    return (
        f"{content['dataset']}, {content['seeds']} seeds; {items['query']:,} queries, {items['database']:,} "
        f"items in the database, split `{content['split']}` ({content['split_sha256'][:12]}). {hours:.1f} CPU hours on "
        f"{hardware['cpu']}, jax {content['versions']['jax']}, by `{content['command']}`."
    )


def _order(content: Content) -> Any:
    """Returns the key that sorts (method, bits, quantizer): methods as trained, then lengths."""
    methods = list(dict.fromkeys(found["method"] for found in content["search"]))
    variants = list(VARIANTS)
    return lambda key: (methods.index(key[0]), key[1], variants.index(key[2]))


def number(cell: Content | None, name: str, form: str) -> str:
    """Returns mean and deviation of a measure over the seeds of a cell."""
    if cell is None:
        return "-"
    if len(scores := [member[name] for member in cell["members"]]) < 2:
        return "diverged"
    mean, deviation, _ = mean_over_seeds(scores)
    return f"{mean:{form}} ± {deviation:{form}}"


def mean_of(cell: Content | None, name: str, form: str) -> str:
    """Returns the mean of a measure over the seeds of a cell."""
    if cell is None:
        return "-"
    scores = [member[name] for member in cell["members"]]
    return f"{mean_over_seeds(scores).mean:{form}}" if scores else "diverged"


def _p_value(value: float) -> str:
    return f"{value:.1g}" if value < 0.01 else f"{value:.2f}"
