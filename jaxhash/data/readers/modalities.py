"""Reads items of several modalities: one source for each, item by item."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Int

from jaxhash.data.readers.counts import EMPTY_NOTE, CountRows
from jaxhash.data.rows import Index, Rows, TreeRows, row_blocks
from jaxhash.data.sources import Source
from jaxhash.utils.errors import UserError

#: What is expected after ``modalities:``.
EXPECTED = "'modalities:NAME=DATASET,NAME=DATASET'"


def read_modalities(name: str, rest: str, open_source: Callable[[str], Source]) -> Source:
    """Opens the source of each modality, and returns the items that all of them have.

    The sources hold the same items in the same order, with the same labels and parts: a file of counts
    of each field of documents, or features of images beside features of their captions. An item whose
    vector is 0 everywhere in one modality lacks it, such as a document without a title, and is left out.

    Args:
        name: name of the data set.
        rest: names and data sets of the modalities, ``NAME=DATASET`` with commas between them.
        open_source: opens a data set by its name.

    Raises:
        UserError: if there are fewer than two modalities, a name is no identifier or is there twice, the
            sources do not hold the same items, or no item has all modalities.
    """
    sources = {key: open_source(dataset) for key, dataset in _parse(name, rest).items()}
    (first, source), *others = sources.items()
    for key, other in others:
        _check_same(name, {first: source, key: other})
    has_all = np.ones(len(source.labels), bool)
    notes = [
        f"{key}: {note}"
        for key, each in sources.items()
        for note in each.notes
        if not note.startswith(EMPTY_NOTE)  # they are left out below
    ]
    for key, each in sources.items():
        present = _is_present(each.inputs)
        if not present.all():
            notes.append(f"{(~present).sum():,} items have no {key} and are left out")
        has_all &= present
    items = np.flatnonzero(has_all)
    if not len(items):
        raise UserError(f"`dataset={name}`: no item has all of {', '.join(sources)}")
    named = next((each for each in sources.values() if each.item_names is not None), source)
    return dataclasses.replace(
        source,
        name=name,
        inputs=TreeRows({key: _take(each.inputs, items) for key, each in sources.items()}),
        labels=source.labels[items],
        part_ids=None if source.part_ids is None else source.part_ids[items],
        coarse_labels=None if source.coarse_labels is None else source.coarse_labels[items],
        item_names=named.names_of(items),
        notes=tuple(dict.fromkeys(notes)),
    )


def _parse(name: str, rest: str) -> dict[str, str]:
    """Returns the data set of each modality."""
    found: dict[str, str] = {}
    for text in rest.split(","):
        key, _, dataset = text.partition("=")
        if not key.isidentifier() or not dataset:
            raise UserError(f"`dataset={name}`: expected {EXPECTED}, got {text!r}")
        if key in found:
            raise UserError(f"`dataset={name}`: {key} is there twice")
        found[key] = dataset
    if len(found) < 2:
        raise UserError(f"`dataset={name}`: expected {EXPECTED} of at least two modalities")
    return found


def _check_same(name: str, pair: Mapping[str, Source]) -> None:
    """Raises a `UserError` unless two sources have the same items."""
    (first, one), (second, other) = pair.items()
    sizes = [len(one.labels), len(other.labels)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"`dataset={name}`: {first} has {sizes[0]:,} items and {second} {sizes[1]:,}; the "
            "modalities are of the same items, in the same order"
        )
    for what, of_one, of_other in (
        ("labels", one.labels, other.labels),
        ("parts", one.part_ids, other.part_ids),
        ("class names", one.class_names, other.class_names),
    ):
        if (of_one is None) != (of_other is None) or not np.array_equal(of_one, of_other):
            raise UserError(f"`dataset={name}`: {first} and {second} have different {what}")


def _is_present(inputs: Rows) -> Bool[np.ndarray, " items"]:
    """Returns which items have the modality: all images, and all vectors that are not 0 everywhere."""
    present = np.ones(len(inputs), bool)
    if isinstance(inputs, CountRows):
        present[inputs.empty] = False
        return present
    example = inputs[:1]
    if example.ndim == 2:
        for rows in row_blocks(len(inputs), example.nbytes):
            present[rows] = (inputs[rows] != 0).any(axis=1)
    return present


def _take(inputs: Rows, items: Int[np.ndarray, " items"]) -> Rows:
    """Returns some of the rows; what is not in memory is still read on access."""
    if len(items) == len(inputs):
        return inputs
    return inputs.take(items) if isinstance(inputs, CountRows) else _SomeRows(inputs, items)


class _SomeRows:
    """Some items of other rows."""

    def __init__(self, inputs: Rows, items: Int[np.ndarray, " items"]):
        self._inputs, self._items = inputs, items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, rows: Index) -> np.ndarray:
        return self._inputs[self._items[rows]]
