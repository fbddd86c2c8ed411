"""The methods and the quantizers by the names of the command line."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from jaxhash.objectives import (
    _anchors,
    _asymmetric,
    _autoencoder,
    _centers,
    _classification,
    _consistency,
    _discrete,
    _distance,
    _distillation,
    _documents,
    _dsah,
    _few_labels,
    _hashnet,
    _hierarchical,
    _interactions,
    _likelihood,
    _multilevel,
    _quantizers,
    _ranking,
    _semantic,
    _unsupervised,
)
from jaxhash.objectives._base import Objective
from jaxhash.objectives._method import Method, command_line_name

#: The modules that have rows of methods, in the order of the tables and presets.
FAMILIES = (
    _hashnet,
    _likelihood,
    _distance,
    _ranking,
    _multilevel,
    _discrete,
    _asymmetric,
    _dsah,
    _centers,
    _anchors,
    _classification,
    _hierarchical,
    _semantic,
    _distillation,
    _few_labels,
    _unsupervised,
    _consistency,
    _autoencoder,
    _interactions,
    _documents,
)

#: Every method by its name.
METHODS: dict[str, Method] = {
    method.name: method for family in FAMILIES for method in family.METHODS
}

#: Every quantizer by its name.
QUANTIZERS: dict[str, Callable[..., Objective]] = {
    command_line_name(make): make for make in _quantizers.QUANTIZERS
}

if TYPE_CHECKING:  # type checkers do not know what a table holds
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]
