"""Draws the few training items whose labels the training sees."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxhash.data.protocols.by_name import SplitOptions
from jaxhash.data.protocols.sampling import Labels, sample_per_class
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split, TooFewItemsError


def with_labeled(
    split: Split,
    labels: Labels,
    per_class: int,
    *,
    seed: int,
    class_names: Sequence[str] = (),
) -> Split:
    """Draws the training items whose labels are known, a number of each class.

    The draw depends on the seed, the training items and their labels alone. Items of several classes
    are drawn class by class, each once, and all of their labels are known.

    Args:
        split: a split of which all labels are known.
        labels: class ids, or multi-hot rows, of all items.
        per_class: number of labeled items of each class.
        seed: seed of the draw.
        class_names: names of the classes, for messages.

    Raises:
        UserError: if a class has fewer training items.

    Example:
        >>> split = Split("small", np.arange(8), np.array([8]), np.array([9]))
        >>> few = with_labeled(split, np.arange(10) % 2, 1, seed=0)
        >>> len(few.labeled), few.name
        (2, 'small-labeled1-seed0')
    """
    train = np.sort(split.train)
    rng = np.random.default_rng([seed, 2])  # [seed] drew the split, and [seed, 1] the validation
    advice = f"; `labeled_per_class={per_class}` takes too many"
    try:
        chosen = sample_per_class(labels, train, per_class, rng, "training items", advice)
    except TooFewItemsError as error:
        raise error.with_class_name(class_names) from None
    return dataclasses.replace(
        split, name=f"{split.name}-labeled{per_class}-seed{seed}", labeled=chosen
    )


def draw_labeled(options: SplitOptions, split: Split, source: Source) -> Split:
    """Returns the split with the labeled items that the options ask for, by `with_labeled`."""
    if options.labeled_per_class is None:
        return split
    return with_labeled(
        split,
        source.labels,
        options.labeled_per_class,
        seed=options.split_seed,
        class_names=source.class_names,
    )
