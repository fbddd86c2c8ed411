"""The row that describes a published method and its preset."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from jaxhash.objectives._base import Objective

Kind = Literal[
    "pairwise",
    "ranking",
    "discrete",
    "centers",
    "classification",
    "hierarchy",
    "distillation",
    "unsupervised",
    "few labels",
    "interactions",
]

#: Rules for images of several labels that methods of more than one family share.
SOFT_LABELS = "y / sum(y)"
LABEL_COSINE = "cosine of labels"
NO_LABELS = "sees no labels"


class Method(NamedTuple):
    """A published method: the function that makes it, its description and its preset.

    Each family module ends with ``METHODS``, the rows of its methods. The command line, the
    presets, the README's table and the tests of every method read them.
    """

    make: Callable[..., Objective]
    """The method's function; its keyword arguments are the options of the command line."""
    reference: str
    """Authors, venue and year."""
    kind: Kind
    state: str = "-"
    """State and parameters beside the network."""
    multi_label: str = "any label shared"
    """Its treatment of an image of several labels."""
    data: Literal["cifar10", "cifar100", "corel5k", "lastfm", "reuters", "reuters-modalities"] = (
        "cifar10"
    )
    """The data that its preset trains on: features of images (CIFAR-100 has a hierarchy of classes,
    Corel5k several labels), interactions of users and items, words of documents, or their titles
    and bodies."""
    learning_rate: float = 1e-3
    """Learning rate of its preset, the best of four by `experiments/learning_rates.py`."""
    all_items: bool = False
    """Whether a step compares the batch with all training items, whatever the options."""
    settings: Mapping[str, Any] = MappingProxyType({})
    """Other fields of `jaxhash.runs.config.Config` that its preset sets."""

    @property
    def name(self) -> str:
        """The name on the command line."""
        return command_line_name(self.make)

    @property
    def uses_unlabeled(self) -> bool:
        """Whether images without a label take part in the loss.

        Others see them as padding where few labels are known, by `labeled_rows_only`.
        """
        return self.kind in ("unsupervised", "few labels")

    @property
    def published_penalty(self) -> float | None:
        """Weight of the quantization penalty that it was published with; None without one."""
        penalty = inspect.signature(self.make).parameters.get("penalty")
        return None if penalty is None else penalty.default


def command_line_name(make: Callable[..., Objective]) -> str:
    """Returns the name of a method or a quantizer on the command line."""
    return make.__name__.replace("_", "-")
