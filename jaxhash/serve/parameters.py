"""Reads the parameters of a request's query, each with its range."""

from starlette.requests import Request

from jaxhash.serve.errors import RequestError

#: Largest number of an id or an offset; ids are int64.
MAX_NUMBER = 2**63 - 1


class Parameters:
    """The parameters of a request's query.

    Args:
        request: the request.
        *allowed: names of the parameters that it may have.

    Raises:
        RequestError: if it has another one, or one twice.
    """

    def __init__(self, request: Request, *allowed: str):
        self._values: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in allowed:
                there = ", ".join(allowed) or "none"
                raise RequestError(400, f"unknown parameter {name!r}; allowed: {there}")
            if name in self._values:
                raise RequestError(400, f"{name} is given twice")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """Returns the value of a parameter; None if it is not given."""
        return self._values.get(name)

    def number(self, name: str, default: int, least: int, most: int = MAX_NUMBER) -> int:
        """Returns a whole number.

        Raises:
            RequestError: if it is none, or out of range.
        """
        text = self.text(name)
        if text is None:
            return default
        number = parse_number(text.removeprefix("-"))
        if number is None or text.startswith("-") or not least <= number <= most:
            allowed = f"from {least:,} to {most:,}" if most < MAX_NUMBER else f"at least {least:,}"
            raise RequestError(400, f"{name} must be a whole number {allowed}, got {text[:30]!r}")
        return number


def parse_number(text: str) -> int | None:
    """Returns a whole number of ASCII digits up to `MAX_NUMBER`; None if the text is none.

    Example:
        >>> parse_number("017"), parse_number("1_000"), parse_number("9" * 5000)
        (17, None, None)
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        return None
    number = int(text)
    return number if number <= MAX_NUMBER else None
