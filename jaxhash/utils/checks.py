"""Checks of arguments that every configuration shares."""

from collections.abc import Mapping
from typing import Any

from jaxhash.utils.errors import UserError


def check_numbers(options: Any, allowed: Mapping[str, tuple[int | float, int | float]]) -> None:
    """Raises a `UserError` that names the first argument that is not between least and most.

    Args:
        options: an object with an attribute for each argument; None is allowed for each.
        allowed: least and greatest value, by name.

    Example:
        >>> from types import SimpleNamespace
        >>> check_numbers(SimpleNamespace(bits=0), {"bits": (1, 64)})
        Traceback (most recent call last):
        jaxhash.utils.errors.UserError: `bits` must be at least 1, got 0
    """
    for name, (least, most) in allowed.items():
        value = getattr(options, name)
        if value is None:
            continue
        if not least <= value:
            raise UserError(f"`{name}` must be at least {least}, got {value}")
        if not value <= most:
            raise UserError(f"`{name}` must be at most {most}, got {value}")


def check_image_size(size: int | None) -> None:
    """Raises a `UserError` if images cannot be resized to this height and width."""
    if size is not None and not 1 <= size <= 4096:
        raise UserError(f"`image_size` must be at least 1 and at most 4096, got {size}")


def check_share(name: str, value: float) -> None:
    """Raises a `UserError` unless an argument is a share in [0, 1)."""
    if not 0 <= value < 1:
        raise UserError(f"`{name}` must be at least 0 and below 1, got {value}")
