"""Draws the table of `cross_modal.py`."""

from jaxhash.metrics import mean_over_seeds

#: Titles of the metrics.
_METRICS = {"map": "mAP", "ndcg_at_100": "nDCG@100"}

#: Words for the quantizers.
_VARIANTS = {"none": "none", "own": "its own", "l2": "L2", "hswd": "HSWD", "empirical-kl": "KL"}


def draw(content: dict) -> str:
    """Draws mAP and nDCG@100 of each way: mean and standard deviation over the seeds."""
    cells = content["cells"]
    ways = list(cells[0]["scores"])
    titles = [f"{way}, {title}" for way in ways for title in _METRICS.values()]
    lines = [f"| method | quantizer | {' | '.join(titles)} |"]
    lines += ["|---|---|" + "---:|" * len(titles)]
    for cell in cells:
        words = (_words(cell["scores"][way][metric]) for way in ways for metric in _METRICS)
        variant = _VARIANTS[cell["quantizer"]]
        lines.append(f"| `{cell['method']}` | {variant} | {' | '.join(words)} |")
    first = cells[0]
    seeds = len(first["scores"][ways[0]]["map"])
    made = (
        f"{first['bits']} bits, {seeds} seeds, {first['epochs']} epochs, inputs of {first['inputs']}; "
        f"{first['items']['query']:,} queries, {first['items']['database']:,} items in the database, "
        f"split `{first['split']}` ({first['split_sha256'][:12]}). jax {first['versions']['jax']}, by "
        f"`{content['command']}`."
    )
    return "\n".join([*lines, "", made])


def _words(scores: list[float]) -> str:
    mean, deviation, _ = mean_over_seeds(scores)
    return f"{mean:.4f} ± {deviation or 0:.4f}"
