"""The health of the codes of both sides of a search, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

#: Where results have the health of the queries' codes, and of the database's.
_SIDES = {"query": "query_health", "database": "health"}


def health_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """A line for each side, then what is wrong, each line of it a warning.

    Args:
        results: with ``health`` of the database, as `jaxhash.metrics.CodeHealth.to_json` has it; maybe
            ``query_health``, and ``warnings`` of `jaxhash.metrics.code_warnings`, which results of
            older versions lack.

    Example:
        >>> health = {"bit_balance": 0.5, "dead_bits": [1], "duplicate_bits": [], "collapse": None}
        >>> health["buckets"] = {"distinct": 2, "largest": 3}
        >>> [line] = health_lines({"health": health})
        >>> line[:53]
        'database codes: bit balance 0.5000, 1 dead bits, 0 pa'
    """
    found = {side: results[key] for side, key in _SIDES.items() if key in results}
    for side, health in found.items():
        buckets = health["buckets"]
        yield (
            f"{side} codes: bit balance {health['bit_balance']:.4f}, {len(health['dead_bits'])} dead "
            f"bits, {len(health['duplicate_bits'])} pairs of duplicate bits, {buckets['distinct']:,} "
            f"distinct codes, {buckets['largest']:,} items in the fullest bucket"
        )
    for words in results.get("warnings", ()):
        yield f"warning: {words}"
    for side, health in found.items():
        if health["collapse"]:
            yield f"warning: {health['collapse']} ({side})"
