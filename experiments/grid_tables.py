"""Draws the tables of `quantizer_grid.py`, for `tables.py`."""

from typing import Any

from jaxhash.metrics import mean_over_seeds

#: Titles of the quantizers.
VARIANTS = {"own": "as published", "l2": "L2", "hswd": "HSWD", "empirical-kl": "KL"}

#: mAP of CIMON by bits after 150 epochs, from the log that its authors released (`luoxiao12/CIMON`,
#: ``cifar_std``): CIFAR-10, all of VGG16 trained, one seed.
CIMON_LOG = {16: 0.4506, 32: 0.4723, 64: 0.4944, 128: 0.4981}

Cell = dict[str, Any]


def draw(content: dict[str, Any], name: str | None) -> str:
    """Draws the grid, or with the name ``cimon`` CIMON beside its authors' log."""
    cells = {(c["method"], c["bits"], c["quantizer"]): c for c in content["cells"]}
    return _cimon(cells) if name == "cimon" else _grid(cells, content["command"])


def _grid(cells: dict[tuple[str, int, str], Cell], command: str) -> str:
    lines = [
        f"| method | data | bits | metric | {' | '.join(VARIANTS.values())} |",
        "|---|---|---:|---|" + "---:|" * len(VARIANTS),
    ]
    for method, bits in dict.fromkeys((method, bits) for method, bits, _ in cells):
        row = [cells.get((method, bits, variant)) for variant in VARIANTS]
        some = next(cell for cell in row if cell)
        numbers = " | ".join("-" if cell is None else _number(cell) for cell in row)
        lines.append(
            f"| `{method}` | {some.get('dataset', '-')} | {bits} | {some['metric']} | {numbers} |"
        )
    versions = sorted({cell["versions"]["jax"] for cell in cells.values() if "versions" in cell})
    made = f"Mean ± standard deviation over the seeds. jax {', '.join(versions)}, by `{command}`."
    return "\n".join([*lines, "", made])


def _cimon(cells: dict[tuple[str, int, str], Cell]) -> str:
    lines = ["| bits | features, an MLP | VGG16, authors' log |", "|---:|---:|---:|"]
    for bits, published in CIMON_LOG.items():
        if cell := cells.get(("cimon", bits, "own")):
            lines.append(f"| {bits} | {_number(cell)} | {published:.4f} |")
    return "\n".join(lines)


def _number(cell: Cell) -> str:
    scores = cell.get("scores")
    if scores is None or None in scores:
        return "diverged"
    mean, deviation, _ = mean_over_seeds(scores)
    return f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
