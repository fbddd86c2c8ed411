"""What a hash function is fitted to: vectors, and labels for the methods that take them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Shaped

from jaxhash.data.inputs import Inputs
from jaxhash.ops.arguments import as_labels
from jaxhash.retrieval.baselines.labeled_hashes import LABELED_METHODS
from jaxhash.utils.errors import UserError


class Sample(NamedTuple):
    """What a hash function is fitted to.

    Attributes:
        vectors: vectors that are all finite.
        labels: class ids or rows of 0 and 1, for a method that takes them.
    """

    vectors: Float32[np.ndarray, "n dimensions"]
    labels: Shaped[np.ndarray, " n *classes"] | None

    @classmethod
    def of(
        cls,
        parts: Sequence[tuple[Float32[np.ndarray, "_ dimensions"], list[list[str]]]],
        method: str,
        name: str,
    ) -> "Sample":
        """Joins parts of vectors and labels; classes are numbered in the order of their names.

        Args:
            parts: vectors, and the labels of each if the method takes them.
            method: name of the method.
            name: name of what was read, for messages.

        Raises:
            UserError: if the method takes labels, and there are none.
        """
        vectors = np.concatenate([vectors for vectors, _ in parts])
        if method not in LABELED_METHODS:
            return cls(vectors, None)
        labels = [each for _, part in parts for each in part]
        names = {name: number for number, name in enumerate(sorted(set().union(*labels)))}
        if not names:
            raise UserError(
                f"{method} takes labels, and {name} has none: folders of classes, the array 'labels' of a .npz "
                "file and a column 'label' of texts or integers of a Parquet file hold some"
            )
        if len(names) < 2:
            raise UserError(
                f"{method} needs two classes at least, and the {len(vectors):,} items of {name} that are fitted "
                f"to have one, {next(iter(names))!r}"
            )
        if max(map(len, labels)) == 1:
            ids = [names[each[0]] if each else -1 for each in labels]
            return cls(vectors, np.array(ids, np.int32))
        hot = np.zeros((len(labels), len(names)), bool)
        for row, each in zip(hot, labels, strict=True):
            row[[names[name] for name in each]] = True
        return cls(vectors, hot)


def check_labels(
    labels: Shaped[np.ndarray, " n *classes"] | None, items: int, method: str
) -> Shaped[np.ndarray, " n *classes"] | None:
    """Returns the labels of a method that takes them, None of another; raises a `UserError` otherwise."""
    if method not in LABELED_METHODS:
        if labels is not None:
            raise UserError(
                f"`labels` are not taken by {method}; {' and '.join(LABELED_METHODS)} do"
            )
        return None
    if labels is None:
        raise UserError(f"{method} takes `labels`: class ids, or rows of 0 and 1")
    try:
        labels = as_labels("`labels`", np.asarray(labels))
    except (TypeError, ValueError) as error:
        raise UserError(str(error)) from error
    if len(labels) != items:
        raise UserError(f"`labels` must be those of the {items:,} vectors, got {len(labels):,}")
    return labels


def labels_of(inputs: Inputs, rows: slice, chosen: Int[np.ndarray, " n"]) -> list[list[str]]:
    """Returns the labels of some rows of a range."""
    labels = inputs.labels(rows)
    return [labels[row - rows.start] for row in chosen.tolist()]
