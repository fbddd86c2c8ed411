"""The health of the codes of both sides of a search, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

#: Where results have the health of the queries' codes, and of the database's.
_SIDES = {"query": "query_health", "database": "health"}

#: Codes from which on it is said that they have collapsed; of fewer, bits are constant by chance.
_ENOUGH = 8


def health_lines(results: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """A line for each side, then what is wrong, each line of it a warning.

    Args:
        results: with ``health`` of the database, as `jaxhash.metrics.CodeHealth.to_json` has it; maybe
            ``query_health``, and ``warnings`` of `jaxhash.metrics.code_warnings`, which results of
            older versions lack.
        of: what comes before each of them, to tell whose codes they are.

    Example:
        >>> health = {"bit_balance": 0.5, "dead_bits": [1], "duplicate_bits": [], "collapse": None}
        >>> health |= {"items": 4, "buckets": {"distinct": 2, "largest": 3}}
        >>> [line] = health_lines({"health": health})
        >>> line[:53]
        'database codes: bit balance 0.5000, 1 dead bits, 0 pa'
    """
    found = {side: results[key] for side, key in _SIDES.items() if key in results}
    for side, health in found.items():
        buckets = health["buckets"]
        yield (
            f"{of}{side} codes: bit balance {health['bit_balance']:.4f}, {len(health['dead_bits'])} dead "
            f"bits, {len(health['duplicate_bits'])} pairs of duplicate bits, {buckets['distinct']:,} "
            f"distinct codes, {buckets['largest']:,} items in the fullest bucket"
        )
    for words in results.get("warnings", ()):
        yield f"warning: {of}{words}"
    for side, health in found.items():
        if health["collapse"] and health["items"] >= _ENOUGH:
            yield f"warning: {of}{health['collapse']} ({side})"
