"""The conditions of `where_hswd_pays.py`, and their data: subsets of features of CIFAR-10 and CIFAR-100."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

#: Training items of all classes together, where classes are equal, and queries.
TRAIN, QUERIES = 2500, 1000

PARTS = ("train", "query", "database")


class Condition(NamedTuple):
    """What changes, and all that a training depends on.

    Attributes:
        axis: what changes.
        value: to what.
        data: name of the data: CIFAR-10, or CIFAR-100 where the number of classes changes.
        classes: number of classes.
        imbalance: training items of the largest class by those of the smallest.
        bits: length of the codes.
        batch: items of a step.
        epochs: passes over the training items.
    """

    axis: str
    value: int
    data: str = "cifar10"
    classes: int = 10
    imbalance: int = 1
    bits: int = 32
    batch: int = 128
    epochs: int = 30

    @property
    def key(self) -> str:
        """Name of its folder, the same for the value that several axes share."""
        return f"{self.data}-{self.bits}bits-batch{self.batch}-epochs{self.epochs}"


CONDITIONS = (
    *(Condition("bits", bits, bits=bits) for bits in (8, 16, 32, 64, 128)),
    *(
        Condition(
            "imbalance",
            ratio,
            f"cifar10-imbalance{ratio}" if ratio > 1 else "cifar10",
            imbalance=ratio,
        )
        for ratio in (1, 10, 100)
    ),
    *(
        Condition("classes", classes, f"cifar100-classes{classes}", classes)
        for classes in (10, 25, 50, 100)
    ),
    *(Condition("batch", batch, batch=batch) for batch in (8, 32, 128, 512, 2048)),
    *(Condition("epochs", epochs, epochs=epochs) for epochs in (5, 30, 120)),
)


def write_data(condition: Condition, data_dir: Path, folder: Path) -> None:
    """Writes the feature file of a condition, unless it is there.

    Of each class some items are queries, some train, and the others are the database; which ones is drawn
    with seed 0, and so are the classes. With an imbalance of r, class c of C trains with 2 TRAIN / C items by
    :math:`r^{-c / (C - 1)}`.
    """
    path = folder / f"{condition.data}.npz"
    if path.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng, name = np.random.default_rng(0), condition.data.partition("-")[0]
    with np.load(data_dir / f"{name}_mobilenetv2.npz") as arrays:
        features, scale, labels = (arrays[key] for key in ("features", "scale", "labels"))
    chosen = rng.permutation(labels.max() + 1)[: condition.classes]
    items, parts, ids = [], [], []
    for number, label in enumerate(chosen):
        members = rng.permutation(np.flatnonzero(labels == label))
        sizes = [_trained(condition, number), QUERIES // condition.classes]
        sizes.append(len(members) - sum(sizes))
        items.append(members)
        parts.append(np.repeat([0, 1, 2], sizes))
        ids.append(np.full(len(members), number))
    order = np.concatenate(items)
    arrays = {"features": features[order], "scale": scale, "labels": np.concatenate(ids)}
    with path.with_suffix(".part").open("wb") as file:
        np.savez(file, **arrays, split=np.concatenate(parts), split_names=np.array(PARTS))
    path.with_suffix(".part").rename(path)


def _trained(condition: Condition, number: int) -> int:
    """Returns how many items of a class train."""
    equal = TRAIN // condition.classes
    if condition.imbalance == 1:
        return equal
    return round(2 * equal * condition.imbalance ** (-number / (condition.classes - 1)))
