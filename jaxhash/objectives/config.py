"""The configuration of the objective: a method, its own penalty, and a quantizer."""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from jaxtyping import ArrayLike, Float

from jaxhash.objectives import (
    METHODS,
    QUANTIZERS,
    MethodName,
    Objective,
    combine,
    cross_modal,
    labeled_rows_only,
    weighted,
)
from jaxhash.utils.checks import check_numbers
from jaxhash.utils.errors import UserError

if TYPE_CHECKING:  # type checkers do not know what a table holds
    QuantizerName = str
else:
    #: Names of quantizers; ``"own"`` is the penalty that the method was published with.
    QuantizerName = Literal[("none", "own", *QUANTIZERS)]

#: Weight of a quantizer if none is given; the HSWD paper's.
DEFAULT_WEIGHT = 0.1

#: Largest absolute value of a number among the options, by its type: what JAX can hold.
_LARGEST = {int: 2**31 - 1, float: 3e38}

Options = dict[str, int | float | str | bool | Float[ArrayLike, ""]]


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The objective; every field is a flag of its name."""

    objective: MethodName = "hashnet"
    """Method; "--objective help" prints a table of them."""
    objective_options: tuple[str, ...] = ()
    """Arguments of the method as NAME=VALUE, such as pairs=batch."""
    quantizer: QuantizerName = "hswd"
    """Penalty that makes codes binary: instead of the method's own, that one (own), or none."""
    quantizer_options: tuple[str, ...] = ()
    """Arguments of the quantizer as NAME=VALUE, such as target=balanced."""
    quantizer_weight: float | None = None
    """Weight of the quantizer; 0.1 if not given, and the published one of a method's own."""
    keep_own: bool = False
    """Keep the method's own penalty beside the quantizer, at its published weight."""

    @property
    def weight(self) -> float | None:
        """Weight of the quantizer: the configured or the published one; None without a quantizer.

        Raises:
            UserError: if there is a weight and no quantizer.
        """
        if self.quantizer == "none":
            if self.quantizer_weight is not None:
                raise UserError("`quantizer_weight` needs a quantizer, and `quantizer` is none")
            return None
        if self.quantizer_weight is not None:
            return self.quantizer_weight
        return self._published_penalty if self.quantizer == "own" else DEFAULT_WEIGHT

    def check(self) -> None:
        """Raises a `UserError` if a value is not allowed, or values do not go together."""
        check_numbers(self, {"quantizer_weight": (0, sys.float_info.max)})
        self.make()

    def make(
        self,
        weight: Float[ArrayLike, ""] | None = None,
        *,
        few_labels: bool = False,
        modalities: int = 0,
    ) -> Objective:
        """Returns the objective.

        Args:
            weight: weight of the quantizer; the configured one if not given. It may be traced.
            few_labels: whether labels of training items are unknown: then rows without one are
                padding for a method that has no use for them, its own penalty included. The
                quantizer takes all rows.
            modalities: number of modalities of an item, 0 where it has one array; else the method is
                `cross_modal`, and the quantizer is of the codes of each.

        Raises:
            UserError: if method, quantizer and options do not go together.
        """
        weight = self.weight if weight is None else weight
        make = METHODS[self.objective].make
        method = _make("objective_options", make, self._method_options(weight))
        if few_labels and not METHODS[self.objective].uses_unlabeled:
            method = labeled_rows_only(method)
        if modalities:
            try:
                method = cross_modal(method, modalities=modalities)
            except ValueError as error:
                raise UserError(f"`objective={self.objective}`: {error}") from error
        if self.quantizer in ("none", "own"):
            if self.quantizer_options:
                raise UserError(
                    f"`quantizer_options` needs a quantizer, and `quantizer` is {self.quantizer}"
                )
            return method
        make = QUANTIZERS[self.quantizer]
        quantizer = _make("quantizer_options", make, self._read_quantizer_options())
        return combine(method, weighted(weight, quantizer))

    def describe(self, *, with_weight: bool = True) -> str:
        """Returns the objective as one would write it down.

        Args:
            with_weight: whether the weight of the quantizer is part of it; not if a sweep varies it.

        Example:
            >>> ObjectiveConfig(objective="dpsh").describe()
            'dpsh(penalty=0) + 0.1 hswd'
        """
        options = self._method_options(self.weight)
        if self.quantizer == "own" and (not with_weight or self.quantizer_weight is None):
            del options["penalty"]
        words = self.objective + _in_brackets(options)
        if self.quantizer in ("none", "own"):
            return words
        factor = f"{self.weight:g} " if with_weight else ""
        quantizer_options = self._read_quantizer_options()
        return f"{words} + {factor}{self.quantizer}{_in_brackets(quantizer_options)}"

    def bank_rows(self, items: int) -> int:
        """Returns with how many rows of a memory bank a step compares each row of the batch.

        Args:
            items: number of training items.

        Example:
            >>> recent = ObjectiveConfig(objective_options=("bank_size=4096",))
            >>> ObjectiveConfig().bank_rows(10**6), recent.bank_rows(10**6)
            (1000000, 4096)
        """
        method = METHODS[self.objective]
        options = {
            name: parameter.default
            for name, parameter in inspect.signature(method.make).parameters.items()
        } | read_options("objective_options", method.make, self.objective_options)
        if method.all_items:
            return items
        return (options["bank_size"] or items) if options.get("pairs") == "bank" else 0

    @property
    def _published_penalty(self) -> float | None:
        return METHODS[self.objective].published_penalty

    def _method_options(self, weight: Float[ArrayLike, ""] | None) -> Options:
        """Returns the arguments of the method, with its own penalty if that is left out or weighted."""
        make = METHODS[self.objective].make
        options = read_options("objective_options", make, self.objective_options)
        if self.keep_own and self.quantizer in ("none", "own"):
            raise UserError(
                f"`keep_own` is beside a quantizer, and `quantizer` is {self.quantizer}"
            )
        if self._published_penalty is None:
            if self.keep_own or self.quantizer == "own":
                wanted = "`keep_own`" if self.keep_own else "`quantizer=own`"
                raise UserError(
                    f"{wanted}: {self.objective} has no quantization penalty of its own"
                )
            return options
        if self.keep_own:
            return options
        return options | {"penalty": weight if self.quantizer == "own" else 0.0}

    def _read_quantizer_options(self) -> Options:
        make = QUANTIZERS[self.quantizer]
        return read_options("quantizer_options", make, self.quantizer_options)


def read_options(argument: str, make: Callable[..., Objective], texts: Sequence[str]) -> Options:
    """Reads ``NAME=VALUE`` texts as arguments of a method or a quantizer.

    Args:
        argument: the argument that holds the texts, for messages.
        make: the method or the quantizer.
        texts: the options.

    Raises:
        UserError: if an option is unknown, given twice, or of the wrong kind.

    Example:
        >>> from jaxhash.objectives import hashnet
        >>> read_options("objective_options", hashnet, ["pairs=batch", "stages=5"])
        {'pairs': 'batch', 'stages': 5}
    """
    parameters = dict(inspect.signature(make).parameters)
    parameters.pop("penalty", None)  # the quantizer and its weight decide on it
    options: Options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.replace("-", "_")
        where = f"`{argument}={text}`"
        if not equals:
            raise UserError(f"{where}: expected NAME=VALUE")
        if name not in parameters:
            allowed = f"the options are {', '.join(parameters)}" if parameters else "it has none"
            raise UserError(f"{where}: {make.__name__} has no option {name}; {allowed}")
        if name in options:
            raise UserError(f"`{argument}` has {name} twice")
        options[name] = _read_value(where, parameters[name].annotation, value)
    return options


def _read_value(where: str, annotation: object, text: str) -> int | float | str | bool:
    """Reads the text as a word of a Literal, as true or false, or as a number."""
    kinds = [annotation, *get_args(annotation)]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    words += [True, False] if bool in kinds else []
    spelled = {str(word).lower(): word for word in words}
    if words:
        if text.lower() not in spelled:
            raise UserError(f"{where}: expected {' or '.join(spelled)}")
        return spelled[text.lower()]
    kind, expected = (int, "a whole number") if int in kinds else (float, "a number")
    try:
        value = kind(text)
    except ValueError:
        raise UserError(f"{where}: expected {expected}") from None
    if not -_LARGEST[kind] <= value <= _LARGEST[kind]:
        raise UserError(f"{where}: expected {expected} of at most {_LARGEST[kind]:g}")
    return value


def _make(argument: str, make: Callable[..., Objective], options: Options) -> Objective:
    try:
        return make(**options)
    except ValueError as error:
        raise UserError(f"`{argument}`: {error}") from error


def _in_brackets(options: Options) -> str:
    inside = ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in options.items()
    )
    return f"({inside})" if inside else ""
