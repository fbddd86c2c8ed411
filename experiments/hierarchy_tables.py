"""Draws the tables of `hierarchy.py`, for `tables.py`."""

from typing import Any

from jaxhash.metrics import mean_over_seeds

#: Columns of a table: protocol, key of the scores, and title.
COLUMNS = (
    ("cifar100", "map", "mAP"),
    ("cifar100", "mahp_at_250_among_queries", "mAHP@250"),
    ("cifar100", "mahp_at_2500", "mAHP@2500"),
    ("cifar100", "distinct_codes", "distinct codes"),
    ("zero-shot", "mahp_at_250", "zero-shot mAHP@250"),
    ("zero-shot", "map", "zero-shot mAP"),
)

#: Titles of the quantizers.
VARIANTS = {"none": "no quantizer", "empirical-kl": "KL", "hswd": "HSWD"}

Members = list[dict[str, Any]]


def draw(content: dict[str, Any], name: str) -> str:
    """Draws a table: ``made``, ``terms``, or ``bits`` and a length."""
    if name == "made":
        return _made(content)
    return _terms(content) if name == "terms" else _scores(content, int(name.removeprefix("bits")))


def draw_search(content: dict[str, Any]) -> str:
    """Draws validation mAHP@250 of each value that was tried, the chosen one in bold."""
    lines = ["| method | quantizer | tried | mAHP@250 of validation items |", "|---|---|---|---|"]
    for method, found in content["methods"].items():
        for variant, of in found.items():
            what = "learning rate" if variant == "none" else "weight"
            cells = [
                f"{'**' * (float(value) == of['best'])}{value}: {score:.4f}"
                f"{'**' * (float(value) == of['best'])}"
                for value, score in of["validation_mahp_at_250"].items()
            ]
            lines.append(f"| `{method}` | {VARIANTS[variant]} | {what} | {', '.join(cells)} |")
    return "\n".join(lines)


def mahp_at(content: dict[str, Any], bits: int) -> dict[str, dict[str, str]]:
    """Returns mAHP@250 among the queries at one length, by method and quantizer."""
    found: dict[str, dict[str, str]] = {}
    for row in content["rows"]:
        if (row["bits"], row["protocol"]) == (bits, "cifar100"):
            words = _cell(row["members"], "mahp_at_250_among_queries")
            found.setdefault(row["method"], {})[row["quantizer"]] = words
    return found


def _scores(content: dict[str, Any], bits: int) -> str:
    """Draws every row at one length, the best method of each column in bold, and the baselines."""
    rows = {}
    for row in content["rows"]:
        if row["bits"] == bits:
            name = f"`{row['method']}`, {VARIANTS[row['quantizer']]}"
            rows.setdefault(name, {})[row["protocol"]] = row["members"]
    baselines = {}
    for row in content["baselines"]:
        if row["bits"] in (bits, None):
            baselines.setdefault(row["name"], {})[row["protocol"]] = row["members"]
    best = {
        (protocol, key): max(rows, key=lambda name: _mean(rows[name][protocol], key))  # noqa: B023
        for protocol, key, _ in COLUMNS
    }
    lines = [
        f"| {bits} bits | " + " | ".join(title for *_, title in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, of in (rows | baselines).items():
        cells = []
        for protocol, key, _ in COLUMNS:
            words = _cell(of[protocol], key)
            cells.append(f"**{words}**" if best[protocol, key] == name else words)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _terms(content: dict[str, Any]) -> str:
    """Draws what KL and HSWD add to each method, in the mean over the lengths."""
    cells = {
        (row["method"], row["quantizer"], row["bits"], row["protocol"]): row["members"]
        for row in content["rows"]
    }
    lengths = sorted({bits for _, _, bits, _ in cells})
    lines = [
        "| | " + " | ".join(title for *_, title in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for method in dict.fromkeys(row["method"] for row in content["rows"]):
        for variant, words in list(VARIANTS.items())[1:]:
            moved = []
            for protocol, key, _ in COLUMNS:
                by = [
                    _mean(cells[method, variant, bits, protocol], key)
                    - _mean(cells[method, "none", bits, protocol], key)
                    for bits in lengths
                ]
                value = sum(by) / len(by)
                moved.append(f"{value:+,.0f}" if key == "distinct_codes" else f"{value:+.4f}")
            lines.append(f"| {words} on `{method}` | {' | '.join(moved)} |")
    return "\n".join(lines)


def _made(content: dict[str, Any]) -> str:
    """Returns a sentence with data, splits and command."""
    seen, unseen = (content["protocols"][name] for name in ("cifar100", "zero-shot"))
    seeds, hardware = len(content["rows"][0]["members"]), content["hardware"]

    def sides(of):
        items = of["items"]
        return f"{items['query']:,} queries, {items['database']:,} items (`{of['split']}`)"

    return (
        f"{seen['dataset']}, {seeds} seeds, {seen['epochs']} epochs; all classes: {sides(seen)}, "
        f"mAHP@250 among the queries; zero-shot: {sides(unseen)}. On {hardware['cpu']}, jax "
        f"{content['versions']['jax']}, by `{content['command']}`."
    )


def _mean(members: Members, key: str) -> float:
    return mean_over_seeds([float(member["scores"][key]) for member in members]).mean


def _cell(members: Members, key: str) -> str:
    if key not in members[0]["scores"]:
        return "-"
    mean, deviation, _ = mean_over_seeds([float(member["scores"][key]) for member in members])
    if key == "distinct_codes":
        return f"{mean:,.0f}"
    return f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
