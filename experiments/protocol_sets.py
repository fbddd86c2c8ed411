"""The sets of data of `protocol.py`: what is trained on each, and with which methods."""

from collections.abc import Callable
from typing import NamedTuple

from jaxhash.runs import presets
from jaxhash.runs.config import Config

#: A method of each kind: a likelihood of pairs, centers, a classifier, distances of pairs, and the two
#: of the HSWD paper that have released code or the oldest penalty.
METHODS = ("dpsh", "csq", "cross-entropy", "dch", "greedyhash", "hashnet")


class Set(NamedTuple):
    """A set of data, as a configuration without method and quantizer."""

    base: Callable[[], Config]
    methods: tuple[str, ...] = METHODS


def cifar100_features() -> Config:
    """Features of CIFAR-100 with its 100 classes alone: the training part is the database."""
    return presets.cifar100_features().replace(similarity="classes", batch_size=128, epochs=10)


#: Every set, the cheapest first.
SETS = {
    "cifar10-features": Set(presets.cifar10_features_hashnet_hswd),
    "corel5k": Set(presets.corel5k, ("dpsh", "csq", "hashnet")),
    "cifar100-features": Set(cifar100_features, ("dpsh", "csq", "cross-entropy")),
    "fashion-mnist": Set(presets.fashion_mnist_hashnet_hswd, ("dpsh", "csq")),
}
