"""Draws what `jaxhash bench --for` found of accelerators that are not here."""

from collections.abc import Iterable


def draw(content: dict) -> str:
    """Returns a sentence on the bytes of value and gradient over the least, by loss and batch size."""
    points = [point for point in content["points"] if point["which"] == "forward+backward"]
    batches, bits = sorted({point["batch"] for point in points}), points[0]["bits"]
    losses = dict.fromkeys(point["loss"] for point in points)
    found = {
        loss: [_over_least(point) for point in points if point["loss"] == loss] for loss in losses
    }
    ratios = "; ".join(
        f"`{loss}` {_list(f'{ratio:.1f}' for ratio in found[loss])}" for loss in found
    )
    return (
        f"Compiled for {content['target']['name']}, value and gradient of "
        f"{_list(f'{batch:,}' for batch in batches)} codes of {bits} bits read and write these "
        f"multiples of the codes and their gradient: {ratios} (a loop counts "
        f"{content['loop_rounds']} rounds; jax {content['versions']['jax']}, by "
        f"`{content['command']}`)."
    )


def _list(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _over_least(point: dict) -> float:
    return point["accessed_bytes"] * point["devices"] / point["moved_bytes"]
