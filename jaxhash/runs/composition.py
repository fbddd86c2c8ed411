"""Which objective a configuration names: a method, its own penalty, and a quantizer."""

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from jaxtyping import ArrayLike, Float

from jaxhash.objectives import METHODS, QUANTIZERS, Objective, combine, weighted
from jaxhash.utils.errors import UserError

if TYPE_CHECKING:  # a configuration asks here whether it makes sense
    from jaxhash.runs.config import Config

#: ``"own"`` is the penalty that the method was published with.
QuantizerName = Literal[("none", "own", *QUANTIZERS)]

#: Weight of a quantizer, if none is given; the HSWD paper's.
WEIGHT = 0.1

#: The largest number of a kind that an option may be: what JAX can hold.
_MOST = {int: 2**31 - 1, float: 3e38}

Options = dict[str, int | float | str | bool | Float[ArrayLike, ""]]


def objective_of(config: "Config", weight: Float[ArrayLike, ""] | None = None) -> Objective:
    """The objective that a configuration names.

    Args:
        config: the configuration.
        weight: of its quantizer instead of the configured one; it may be traced.

    Raises:
        UserError: if method, quantizer and options do not go together.
    """
    weight = quantizer_weight(config) if weight is None else weight
    make = METHODS[config.objective].make
    method = _make("--objective-options", make, _method_options(config, weight))
    if config.quantizer in ("none", "own"):
        if config.quantizer_options:
            raise UserError(
                f"--quantizer-options needs a quantizer, and --quantizer is {config.quantizer}"
            )
        return method
    make = QUANTIZERS[config.quantizer]
    quantizer = _make("--quantizer-options", make, _quantizer_options(config))
    return combine(method, weighted(weight, quantizer))


def quantizer_weight(config: "Config") -> float | None:
    """Weight of the quantizer: the configured or the published one; None if there is no quantizer.

    Raises:
        UserError: if there is a weight and nothing that it would be of.
    """
    if config.quantizer == "none":
        if config.quantizer_weight is not None:
            raise UserError("--quantizer-weight needs a quantizer, and --quantizer is none")
        return None
    if config.quantizer_weight is not None:
        return config.quantizer_weight
    if config.quantizer == "own":
        return published_weight(config.objective)
    return WEIGHT


def objective_words(config: "Config", *, without_weight: bool = False) -> str:
    """The objective as one would write it down; a sweep that varies the weight leaves it out."""
    weight = quantizer_weight(config)
    options = _method_options(config, weight)
    if config.quantizer == "own" and (without_weight or config.quantizer_weight is None):
        del options["penalty"]
    words = config.objective + _in_brackets(options)
    if config.quantizer in ("none", "own"):
        return words
    factor = "" if without_weight else f"{weight:g} "
    return f"{words} + {factor}{config.quantizer}{_in_brackets(_quantizer_options(config))}"


def published_weight(method: str) -> float | None:
    """Weight of the quantization penalty that a method was published with; None without one."""
    return METHODS[method].published_penalty


def read_options(flag: str, make: Callable[..., Objective], texts: Sequence[str]) -> Options:
    """``NAME=VALUE`` texts as arguments of a method or a quantizer.

    Args:
        flag: that they come from, for what is said of a mistake.
        make: what takes them.
        texts: the options.

    Raises:
        UserError: if an option is unknown, given twice, or of the wrong kind.

    Example:
        >>> from jaxhash.objectives import hashnet
        >>> read_options("--objective-options", hashnet, ["pairs=batch", "stages=5"])
        {'pairs': 'batch', 'stages': 5}
    """
    parameters = dict(inspect.signature(make).parameters)
    parameters.pop("penalty", None)  # --quantizer and its weight say what becomes of it
    options: Options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise UserError(f"{flag} {text}: expected NAME=VALUE")
        if name not in parameters:
            allowed = f"the options are {', '.join(parameters)}" if parameters else "it has none"
            raise UserError(f"{flag} {text}: {make.__name__} has no option {name}; {allowed}")
        if name in options:
            raise UserError(f"{flag} has {name} twice")
        options[name] = _value(f"{flag} {text}", parameters[name].annotation, value)
    return options


def _method_options(config: "Config", weight: Float[ArrayLike, ""] | None) -> Options:
    """Arguments of the method, its own penalty among them if it is left out or weighted."""
    make = METHODS[config.objective].make
    options = read_options("--objective-options", make, config.objective_options)
    wanted = "--keep-own" if config.keep_own else f"--quantizer {config.quantizer}"
    if config.keep_own and config.quantizer in ("none", "own"):
        raise UserError(f"--keep-own is beside a quantizer, and --quantizer is {config.quantizer}")
    if published_weight(config.objective) is None:
        if config.keep_own or config.quantizer == "own":
            raise UserError(f"{wanted}: {config.objective} has no quantization penalty of its own")
        return options
    if config.keep_own:
        return options
    return options | {"penalty": weight if config.quantizer == "own" else 0.0}


def _quantizer_options(config: "Config") -> Options:
    return read_options(
        "--quantizer-options", QUANTIZERS[config.quantizer], config.quantizer_options
    )


def _value(where: str, annotation: object, text: str) -> int | float | str | bool:
    """The text as a word of a Literal, as true or false, or as a number."""
    kinds = [annotation, *get_args(annotation)]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    words += [True, False] if bool in kinds else []
    spelled = {str(word).lower(): word for word in words}
    if words:
        if text.lower() not in spelled:
            raise UserError(f"{where}: expected {' or '.join(spelled)}")
        return spelled[text.lower()]
    kind, words = (int, "a whole number") if int in kinds else (float, "a number")
    try:
        value = kind(text)
    except ValueError:
        raise UserError(f"{where}: expected {words}") from None
    most = _MOST[kind]
    if not -most <= value <= most:
        raise UserError(f"{where}: expected {words} of at most {most:g}")
    return value


def _make(flag: str, make: Callable[..., Objective], options: Options) -> Objective:
    try:
        return make(**options)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from error


def _in_brackets(options: Options) -> str:
    inside = ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in options.items()
    )
    return f"({inside})" if inside else ""
