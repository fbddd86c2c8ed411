"""Draws the tables of `where_hswd_pays.py`."""

from typing import Any

from protocol_tables import mean_of, number
from where_hswd_pays_plot import AGAINST, TITLES

#: Titles of the quantizers.
VARIANTS = {"none": "none", "l2": "L2", "hswd": "HSWD", "l2 + balance": "L2 and balance"}

#: What a quantizer is for, and the balance that is HSWD's own claim.
MEASURES = {"quantization_loss": "floats - codes", "bit_balance": "bit balance"}

Content = dict[str, Any]


def draw(content: Content, name: str | None) -> str:
    """Draws the table of that name: ``made``, or the map or the measures of a method."""
    if name is None or name == "made":
        return _made(content)
    method, _, table = name.partition("_")
    return {"map": _map, "why": _why}[table](content, method)


def _map(content: Content, method: str) -> str:
    variants = _variants(content, method)
    against = [name for name in AGAINST if name in variants]
    titles = [f"HSWD - {AGAINST[name][0]}" for name in against]
    lines = [
        f"| | {' | '.join([VARIANTS[name] for name in variants] + titles)} |",
        "|---|" + "---:|" * (len(variants) + len(titles)),
    ]
    for place in _places(content, method):
        cells = [
            number(_find(content, "cells", place, quantizer=v), "map", ".4f") for v in variants
        ]
        differences = [
            _difference(_find(content, "comparisons", place, against=v)) for v in against
        ]
        lines.append(f"| {TITLES[place[1]]}: {place[2]:,} | {' | '.join(cells + differences)} |")
    return "\n".join(lines)


def _why(content: Content, method: str) -> str:
    variants = _variants(content, method)
    titles = [f"{title}, {VARIANTS[name]}" for title in MEASURES.values() for name in variants]
    lines = [f"| | {' | '.join(titles)} |", "|---|" + "---:|" * len(titles)]
    for place in _places(content, method):
        cells = [
            mean_of(_find(content, "cells", place, quantizer=v), measure, ".3f")
            for measure in MEASURES
            for v in variants
        ]
        lines.append(f"| {TITLES[place[1]]}: {place[2]:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _made(content: Content) -> str:
    hours = sum(cell["cpu_seconds"] for cell in content["cells"]) / 3600
    return (
        f"{content['seeds']} seeds; {hours:.1f} CPU hours on {content['hardware']['cpu']}, jax "
        f"{content['versions']['jax']}, by `{content['command']}`."
    )


def _variants(content: Content, method: str) -> list[str]:
    trained = {cell["quantizer"] for cell in content["cells"] if cell["method"] == method}
    return [name for name in VARIANTS if name in trained]


def _places(content: Content, method: str) -> list[tuple[str, str, int]]:
    """Returns the conditions of a method: its name, what changes, and to what."""
    found = {(c["method"], c["axis"], c["value"]) for c in content["cells"]}
    axes = list(TITLES)
    return sorted((p for p in found if p[0] == method), key=lambda p: (axes.index(p[1]), p[2]))


def _find(content: Content, name: str, place: tuple[str, str, int], **key: str) -> Content | None:
    wanted = dict(zip(("method", "axis", "value"), place, strict=True)) | key
    entries = (e for e in content[name] if all(e[k] == value for k, value in wanted.items()))
    return next(entries, None)


def _difference(comparison: Content | None) -> str:
    """Returns a difference with its interval, in bold if its adjusted p-value is below 0.05."""
    if comparison is None:
        return "-"
    value, (low, high) = (
        comparison["difference"],
        (comparison["interval"][end] for end in ("low", "high")),
    )
    words = f"{value:+.3f}"
    words = f"**{words}**" if comparison["p_adjusted"] < 0.05 else words
    return f"{words} ({low:+.3f} to {high:+.3f})"
