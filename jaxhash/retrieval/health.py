"""Describes the health of the codes of both sides of a search in words."""

from collections.abc import Iterator, Mapping
from typing import Any

#: Each side, and the key of its health in the results.
_HEALTH_KEYS = {"query": "query_health", "database": "health"}

#: Number of codes from which a collapse is reported; in fewer codes bits are constant by chance.
_MIN_ITEMS_FOR_COLLAPSE = 8


def describe_health(results: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields a line for each side, then one line for each warning.

    Args:
        results: a mapping with ``health`` of the database, as `jaxhash.metrics.CodeHealth.to_json`
            returns it. It may also hold ``query_health``, and ``warnings`` from
            `jaxhash.metrics.code_warnings`; results of older versions lack both.
        prefix: text before each description, for results that hold several sets of codes.

    Example:
        >>> health = {"bit_balance": 0.5, "dead_bits": [1], "duplicate_bits": [], "collapse": None}
        >>> health |= {"items": 4, "buckets": {"distinct": 2, "largest": 3}}
        >>> [line] = describe_health({"health": health})
        >>> line[:53]
        'database codes: bit balance 0.5000, 1 dead bits, 0 pa'
    """
    sides = {side: results[key] for side, key in _HEALTH_KEYS.items() if key in results}
    for side, health in sides.items():
        buckets = health["buckets"]
        yield (
            f"{prefix}{side} codes: bit balance {health['bit_balance']:.4f}, "
            f"{len(health['dead_bits'])} dead bits, {len(health['duplicate_bits'])} pairs of "
            f"duplicate bits, {buckets['distinct']:,} distinct codes, {buckets['largest']:,} items "
            "in the fullest bucket"
        )
    for warning in results.get("warnings", ()):
        yield f"warning: {prefix}{warning}"
    for side, health in sides.items():
        if health["collapse"] and health["items"] >= _MIN_ITEMS_FOR_COLLAPSE:
            yield f"warning: {prefix}{health['collapse']} ({side})"
