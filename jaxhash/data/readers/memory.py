"""Makes a source of arrays that are in memory."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxhash.data.readers.features import check_finite, read_class_names
from jaxhash.data.readers.labels import check_class_ids, read_labels
from jaxhash.data.sources import SOURCE_PARTS, Source
from jaxhash.utils.errors import UserError


def from_arrays(
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
) -> Source:
    """Makes a source of a user's own arrays.

    Args:
        inputs: uint8 images [items, height, width, channels], or vectors [items, dimensions] of
            numbers, which become float32.
        labels: class ids [items] (-1: no label), or 0/1 rows [items, classes].
        name: name of the source in messages and results.
        class_names: one name per class; the numbers of the classes if not given.
        parts: per item, the part that it comes in, one of `jaxhash.data.sources.SOURCE_PARTS`; the
            source has no parts if not given.

    Raises:
        UserError: if an array has another form, or does not fit the others.

    Example:
        >>> source = from_arrays(np.eye(4), np.array([0, 0, 1, 1]), class_names=["cat", "dog"])
        >>> source.inputs.dtype, source.labels, source.class_names
        (dtype('float32'), array([0, 0, 1, 1], dtype=int32), ('cat', 'dog'))
    """
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    is_images = inputs.ndim == 4 and inputs.dtype == np.uint8
    if not (is_images or (inputs.ndim == 2 and inputs.dtype.kind in "iuf")) or not inputs.size:
        raise UserError(
            "`inputs` must be uint8 images [items, height, width, channels] or vectors [items, "
            f"dimensions] of numbers, got shape {inputs.shape} of {inputs.dtype}"
        )
    read = read_labels(labels, "`labels`")
    if len(read) != len(inputs):
        raise UserError(f"`labels` has {len(read):,} rows, and `inputs` has {len(inputs):,}")
    check_class_ids(read, len(read), "`labels`")
    names = None if class_names is None else np.asarray(class_names)
    names = read_class_names(names, read, "`labels`" if names is None else "`class_names`")
    source = Source(name, inputs if is_images else inputs.astype(np.float32), read, names)
    if not is_images:
        check_finite(source, "`inputs`")
    return source if parts is None else _with_parts(source, parts)


def _with_parts(source: Source, names: Sequence[str]) -> Source:
    """Returns the source with the part of each item."""
    names = np.asarray(names)
    if names.shape != (len(source.labels),) or not np.isin(names, SOURCE_PARTS).all():
        raise UserError(
            f"`parts` must be one of {', '.join(SOURCE_PARTS)} for each of the "
            f"{len(source.labels):,} items"
        )
    parts, part_ids = np.unique(names, return_inverse=True)
    return Source(
        source.name,
        source.inputs,
        source.labels,
        source.class_names,
        part_ids.astype(np.int8),
        parts=tuple(map(str, parts)),
    )
